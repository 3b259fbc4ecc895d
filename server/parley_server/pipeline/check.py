"""Refuse a request that breaks the contract before anything is spent on it.

The last layer before the router: a refusal is traced like any answer, and nothing further in sees a malformed request.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from parley_server.core.context import Context
from parley_server.core.errors import InvalidRequest, Violation
from parley_server.core.reply import Reply
from parley_server.core.service import Service

_MOST = 20  # violations told at once, so that the status stays small


class Check:
    """Raises InvalidRequest with what `violations` finds in the request, at most 20 of them.

    `unless`: whether it is one that has been checked before, which is cheaper to tell for some.
    """

    def __init__(
        self,
        violations: Callable[[Any], list[Violation]],
        unless: Callable[[Any, Context], bool] = lambda request, ctx: False,
    ) -> None:
        self._violations = violations
        self._unless = unless

    def __call__(self, inner: Service) -> Service:
        async def checked(request: Any, ctx: Context) -> Reply[Any]:
            if not self._unless(request, ctx) and (found := self._violations(request)):
                raise InvalidRequest(_summary(found), violations=found[:_MOST], facts={"field": found[0].field})
            return await inner(request, ctx)

        return checked


def _summary(found: list[Violation]) -> str:
    first = f"{found[0].field}: {found[0].description}"
    match len(found) - 1:
        case 0:
            return first
        case 1:
            return f"{first}; and one more violation"
        case more:
            return f"{first}; and {more} more violations"
