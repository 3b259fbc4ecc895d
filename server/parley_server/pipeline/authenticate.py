"""Let in who has a key, before anything is spent on the call.

Inside the trace and the deadline, so that refusals are recorded like any answer; outside everything that knows callers.
Calls that pass no layers (lists of models, recordings) are identified at the edge by the same `Callers`.
"""

from __future__ import annotations

from typing import Any

from parley_server.core.callers import Callers
from parley_server.core.context import Context
from parley_server.core.reply import Reply
from parley_server.core.service import Service


class Authenticate:
    """Sets `ctx.caller` and `ctx.tenant`. Raises CredentialsMissing, Unauthenticated."""

    def __init__(self, callers: Callers) -> None:
        self._callers = callers

    def __call__(self, inner: Service) -> Service:
        async def authenticated(request: Any, ctx: Context) -> Reply[Any]:
            self._callers.identify(ctx)
            return await inner(request, ctx)

        return authenticated
