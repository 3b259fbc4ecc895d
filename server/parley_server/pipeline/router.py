"""Ask the requested model, then its fallbacks in order, until one begins to answer.

The service at the bottom of the per-call stack. A candidate's own layers have done what they could when its error gets
here, so all that is decided is whether somebody else may do better.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

from parley import v1
from parley_server.core.context import Context, Operation
from parley_server.core.errors import CircuitOpen, GatewayError, InvalidRequest, ModelNotFound, Violation
from parley_server.core.reply import Reply
from parley_server.core.service import AnyRequest, Service
from parley_server.core.target import Target

_SHORTEST_WAIT = 0.1


@dataclass(frozen=True, slots=True)
class Candidate:
    """A target and the stack that asks it."""

    target: Target
    service: Service


class Router:
    """A service that hands the request to the first candidate that answers.

    `resolve`: the candidate behind a model name. Raises ModelNotFound, OperationUnsupported, or InvalidRequest.

    One budget serves the whole call: `routing.max_attempts`, or else `max_attempts`, or as many as there are targets if
    the caller names more. Every upstream attempt draws on it, retries included; one attempt is kept for each fallback
    still to come. When nobody answers, the error is that of the last target that was asked. A fallback that does not
    exist is passed over, with a warning.

    Where no target could even be asked, because each is left alone for having failed too often, the call waits for the
    first of them if its deadline and `max_wait` (seconds) allow for that.
    """

    def __init__(
        self,
        resolve: Callable[[str, Operation], Candidate],
        max_attempts: int,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        max_wait: float = 30.0,
    ) -> None:
        self._resolve = resolve
        self._max_attempts = max_attempts
        self._sleep = sleep
        self._max_wait = max_wait

    async def __call__(self, request: Any, ctx: Context, /) -> Reply[Any]:
        candidates = self._candidates(request, ctx)
        ctx.budget.left = max(self._max_attempts, len(candidates))
        if request.routing.HasField("max_attempts"):
            ctx.budget.left = request.routing.max_attempts
        waited = 0.0
        while True:
            try:
                return await self._ask(candidates, request, ctx)
            except CircuitOpen as error:
                wait = error.retry_after or _SHORTEST_WAIT
                remaining = ctx.remaining()
                if waited + wait > self._max_wait or (remaining is not None and wait >= remaining):
                    raise
                waited += wait
            await self._sleep(wait)

    async def _ask(
        self, candidates: list[tuple[Candidate, v1.FallbackTarget | None]], request: AnyRequest, ctx: Context
    ) -> Reply[Any]:
        notes = len(ctx.warnings)
        failure: GatewayError | None = None
        for index, (candidate, fallback) in enumerate(candidates):
            ctx.budget.reserved = len(candidates) - index - 1
            try:
                return await candidate.service(_adapted(request, fallback), ctx)
            except GatewayError as error:
                failure = _telling(failure, error)
                if not error.falls_back or ctx.budget.left == 0:
                    break
            del ctx.warnings[notes:]  # those of the candidate that failed
        assert failure is not None  # noqa: S101  # there is at least one candidate, and it did not return
        raise failure

    def _candidates(self, request: AnyRequest, ctx: Context) -> list[tuple[Candidate, v1.FallbackTarget | None]]:
        """Those that exist and are allowed, each with the fallback entry that named it."""
        candidates: list[tuple[Candidate, v1.FallbackTarget | None]] = []
        unknown: GatewayError | None = None
        barred: list[str] = []
        for field, model, fallback in _wanted(request):
            try:
                candidate = self._resolve(model, ctx.operation)
            except GatewayError as error:
                if fallback is None and not error.falls_back:
                    raise
                unknown = unknown or error
                ctx.warnings.append(v1.Warning(code="TARGET_SKIPPED", message=error.message, field=field))
                continue
            if _is_barred(candidate.target.provider, request.routing):
                barred.append(candidate.target.provider)
            else:
                candidates.append((candidate, fallback))
        if candidates:
            return candidates
        if barred:
            raise _nobody_allowed(request.routing, barred)
        assert unknown is not None  # noqa: S101  # the requested model was either resolved or not
        raise unknown


def _telling(before: GatewayError | None, error: GatewayError) -> GatewayError:
    """Which of two failures tells the caller more, `error` being the later one.

    What a target said that was asked, rather than that another was not, or that a fallback does not exist; of targets
    that are left alone the one that can be asked first.
    """
    match before, error:
        case CircuitOpen(), CircuitOpen():
            return min(before, error, key=lambda one: one.retry_after or 0.0)
        case GatewayError(attempted=True), GatewayError(attempted=False) | ModelNotFound():
            return before
        case _:
            return error


def _wanted(request: AnyRequest) -> Iterator[tuple[str, str, v1.FallbackTarget | None]]:
    """Field path, model name and fallback entry of every target that may be asked, in order."""
    yield "model", request.model, None
    for index, fallback in enumerate(request.routing.fallbacks):
        yield f"routing.fallbacks[{index}].model", fallback.model, fallback


def _is_barred(provider: str, routing: v1.RoutingOptions) -> bool:
    if routing.allowed_providers and provider not in routing.allowed_providers:
        return True
    return provider in routing.denied_providers


def _nobody_allowed(routing: v1.RoutingOptions, barred: list[str]) -> InvalidRequest:
    named = ", ".join(dict.fromkeys(barred))
    field = "routing.denied_providers"
    if any(provider not in routing.allowed_providers for provider in barred) and routing.allowed_providers:
        field = "routing.allowed_providers"
    description = f"no target is left: the request names models of {named} and excludes every one of these providers"
    return InvalidRequest(description, violations=[Violation(field, description)], facts={"field": field})


def _adapted(request: AnyRequest, fallback: v1.FallbackTarget | None) -> AnyRequest:
    """The request as a fallback wants it: its sampling and reasoning options take the place of the caller's."""
    if fallback is None or not isinstance(request, v1.ChatRequest):
        return request
    if not fallback.HasField("sampling") and not fallback.HasField("reasoning"):
        return request
    adapted = v1.ChatRequest()
    adapted.CopyFrom(request)
    if fallback.HasField("sampling"):
        adapted.sampling.CopyFrom(fallback.sampling)
    if fallback.HasField("reasoning"):
        adapted.reasoning.CopyFrom(fallback.reasoning)
    return adapted
