"""Ask the targets of a request, one after the other, until one begins to answer.

The service at the bottom of the per-call stack. Which targets there are, and in which order they are asked, is found
out in `core/routes.py`. A target's own layers have done what they could when its error gets here, so all that is
decided is whether somebody else may do better.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from parley import v1
from parley_server.core.context import Context, Operation
from parley_server.core.errors import CircuitOpen, GatewayError, ModelNotFound
from parley_server.core.reply import Reply
from parley_server.core.routes import Candidate, Entry, Leg, Overrides, Race, Route, Step, may_follow, plan
from parley_server.core.service import AnyRequest

_SHORTEST_WAIT = 0.1


class Router:
    """A service that hands the request to the first target that answers.

    `resolve`: the target or the route behind a model name. Raises ModelNotFound, OperationUnsupported, or
    InvalidRequest.

    One budget serves the whole call: `routing.max_attempts`, or else `max_attempts`, or as many as there are targets if
    the caller names more. Every upstream attempt draws on it, retries included; one attempt is kept for each target
    still to come. When nobody answers, the error is that of the last target that was asked. A fallback that does not
    exist, or that is known not to be able to answer, is passed over, with a warning.

    Where no target could even be asked, because each is left alone for having failed too often, the call waits for the
    first of them if its deadline and `max_wait` (seconds) allow for that.

    `race`: how two targets are asked at once, if that is wanted, where no route says otherwise.
    """

    def __init__(
        self,
        resolve: Callable[[str, Operation], Candidate | Route],
        max_attempts: int,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        max_wait: float = 30.0,
        race: Race | None = None,
    ) -> None:
        self._resolve = resolve
        self._max_attempts = max_attempts
        self._sleep = sleep
        self._max_wait = max_wait
        self._race = race

    async def __call__(self, request: Any, ctx: Context, /) -> Reply[Any]:
        steps = self._steps(request, ctx)
        waited = 0.0
        while True:
            try:
                return await self._ask(steps, request, ctx)
            except CircuitOpen as error:
                wait = error.retry_after or _SHORTEST_WAIT
                remaining = ctx.remaining()
                if waited + wait > self._max_wait or (remaining is not None and wait >= remaining):
                    raise
                waited += wait
            await self._sleep(wait)

    def _steps(self, request: AnyRequest, ctx: Context) -> list[Step]:
        """The targets to ask, in order; sets the budget of the call, unless it goes on after an answer broke off."""
        if not request.HasField("routing"):
            option = self._resolve(request.model, ctx.operation)
            if not ctx.broken:
                ctx.budget.left = self._max_attempts
            return [Step(option)] if isinstance(option, Candidate) else plan([Entry(option, "model")], request, ctx)
        entries = self._entries(request, ctx)
        steps = plan(entries, request, ctx)
        if not ctx.broken:
            ctx.budget.left = max(self._max_attempts, min(len(steps), len(entries)))
            if request.routing.HasField("max_attempts"):
                ctx.budget.left = request.routing.max_attempts
        return steps

    def _entries(self, request: AnyRequest, ctx: Context) -> list[Entry]:
        """What the request names, whether it is there or not."""
        entries: list[Entry] = []
        for field, model, fallback in _wanted(request):
            option: Candidate | Route | GatewayError
            try:
                option = self._resolve(model, ctx.operation)
            except GatewayError as error:
                if fallback is None and not error.falls_back:
                    raise
                option = error
            if fallback is None:
                entries.append(Entry(option, field))
            else:
                weight = fallback.weight if fallback.HasField("weight") else 1
                entries.append(Entry(option, field, weight, Overrides.of(fallback)))
        return entries

    async def _ask(self, steps: list[Step], request: AnyRequest, ctx: Context) -> Reply[Any]:
        notes = len(ctx.warnings)
        failure: GatewayError | None = None
        while steps:
            ctx.budget.reserved = len(steps) - 1
            failures: list[GatewayError] = []
            race = self._race_of(steps)
            if race is not None:
                legs = [_leg(step, request) for step in steps[:2]]
                reply, failures = await race(legs, ctx, steps[0].standing)
                if reply is not None:
                    return reply
            else:
                try:
                    return await steps[0].candidate.service(steps[0].adapted(request), ctx)
                except GatewayError as error:
                    failures.append(error)
            failed, steps = steps[: len(failures)], steps[len(failures) :]
            for one in failures:
                failure = _telling(failure, one)
            if ctx.budget.left == 0:
                break
            steps = [step for step in steps if all(may_follow(one, failed, step) for one in failures)]
            if steps:
                del ctx.warnings[notes:]  # those of the targets that failed
        assert failure is not None  # noqa: S101  # there is at least one target, and it did not return
        raise failure

    def _race_of(self, steps: list[Step]) -> Race | None:
        """How the first two are raced, if they are."""
        if len(steps) < 2:
            return None
        race = steps[0].race or self._race
        return race if race is not None and race.enabled else None


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


def _leg(step: Step, request: AnyRequest) -> Leg:
    return lambda ctx: step.candidate.service(step.adapted(request), ctx)


def _wanted(request: AnyRequest) -> Iterator[tuple[str, str, v1.FallbackTarget | None]]:
    """Field path, model name and fallback entry of every target that may be asked, in order."""
    yield "model", request.model, None
    for index, fallback in enumerate(request.routing.fallbacks):
        yield f"routing.fallbacks[{index}].model", fallback.model, fallback
