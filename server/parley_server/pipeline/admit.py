"""Let callers ask what their limits allow, and tell the others when they may.

Behind the checks, since what is malformed uses nothing; around everything that answers, the memory of answers included:
an answer from a cache is a request like any other and uses no tokens. What a call will use is reserved in one step, of
all its limits or of none, and settled when its answer is over. Nobody waits here: who has no room is refused, and knows
for how long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from parley import v1
from parley_server.core import usage as counting
from parley_server.core.context import Context
from parley_server.core.errors import CallerRateLimited, StateUnavailable
from parley_server.core.reply import Outcome, Reply
from parley_server.core.service import Service
from parley_server.stores.counters import Counters, Decision, Level, Limit
from parley_server.stores.keyvalue import StoreUnavailable

_LATER = 1.0  # seconds until a store that is not there may be


@dataclass(frozen=True, slots=True)
class CallerLimit:
    """One limit that calls pass. `owner`: whose it is. `models`: only calls for these count; empty: all do."""

    limit: Limit
    of: Literal["requests", "tokens", "concurrency"]
    owner: str
    models: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Plan:
    """The limits of one caller, its tenant's included. `group`: what is counted in one place."""

    group: str
    limits: tuple[CallerLimit, ...]


@dataclass(frozen=True, slots=True)
class _Applied:
    """Those of a plan that are for one model."""

    group: str
    limits: tuple[CallerLimit, ...]
    counted: tuple[Limit, ...]
    counts_tokens: bool
    told: tuple[Literal["requests", "tokens"], ...]

    @classmethod
    def of(cls, plan: Plan, model: str) -> _Applied:
        limits = tuple(one for one in plan.limits if not one.models or model in one.models)
        kinds = {one.of for one in limits}
        return cls(
            plan.group,
            limits,
            tuple(one.limit for one in limits),
            "tokens" in kinds,
            tuple(kind for kind in ("requests", "tokens") if kind in kinds),
        )


class Measures(Protocol):
    """Who counts what is decided."""

    def admitted(self) -> None: ...
    def refused(self, owner: str, of: str, /) -> None: ...
    def unavailable(self) -> None: ...


class Admit:
    """Raises CallerRateLimited where a limit has no room, StateUnavailable where limits cannot be asked for and must.

    `plans`: by caller; who is not in it has no limits. `usual_output`: tokens that are reserved for the output of a
    call that does not say how many it wants.
    """

    def __init__(
        self, counters: Counters, plans: Mapping[str, Plan], usual_output: int, measures: Measures | None = None
    ) -> None:
        self._counters = counters
        self._measures = measures
        self._plans = {
            name: (plan, frozenset().union(*(one.models for one in plan.limits))) for name, plan in plans.items()
        }
        self._usual_output = usual_output
        self._applied: dict[tuple[str, str], _Applied] = {}  # by caller, and model where it makes a difference

    def __call__(self, inner: Service) -> Service:
        measures = self._measures

        async def admitted(request: Any, ctx: Context) -> Reply[Any]:
            plan = self._for(ctx.caller, request.model)
            if plan is None or not plan.limits:
                return await inner(request, ctx)
            read = counting.estimated_input(request) if plan.counts_tokens else 0
            tokens = read + counting.expected_output(request, self._usual_output) if plan.counts_tokens else 0
            costs = [tokens if one.of == "tokens" else 1 for one in plan.limits]
            try:
                decision = await self._counters.take(plan.group, plan.counted, [costs])
            except StoreUnavailable:
                if measures is not None:
                    measures.unavailable()
                raise StateUnavailable(
                    "limits are kept in a store that cannot be asked now, and no call goes on without them",
                    retry_after=_LATER,
                ) from None
            if not decision.grants:
                if measures is not None:
                    one = plan.limits[decision.refused]
                    measures.refused(one.owner.partition(":")[0], one.of)
                raise _refused(plan, decision)
            if measures is not None:
                measures.admitted()
            if plan.told:
                ctx.initial = _told(plan, decision.levels)
            [grant] = decision.grants

            def settle(asked: bool, used: int) -> None:
                spent = [(used if one.of == "tokens" else 1) if asked else 0 for one in plan.limits]
                self._counters.settle(grant, spent)

            try:
                reply = await inner(request, ctx)
            except BaseException:
                settle(bool(ctx.ledger.attempts), _billed(ctx))
                raise
            reply.on_over(lambda outcome: settle(True, max(_billed(ctx), _counted(outcome, read))))
            return reply

        return admitted

    def _for(self, caller: str, model: str) -> _Applied | None:
        found = self._plans.get(caller)
        if found is None:
            return None
        plan, models = found
        key = (caller, model if model in models else "")
        applied = self._applied.get(key)
        if applied is None:
            applied = self._applied[key] = _Applied.of(plan, key[1])
        return applied


def _billed(ctx: Context) -> int:
    """Tokens of all attempts that are over, failed ones too."""
    return sum(attempt.usage.input_tokens + attempt.usage.output_tokens for attempt in ctx.ledger.attempts)


def _counted(outcome: Outcome, read: int) -> int:
    """Tokens of the answer, as far as it came; none where it came from a cache, or from a call of somebody else."""
    usage = outcome.usage
    if usage is not None and usage.source == v1.Usage.SOURCE_CACHE:
        return 0
    if usage is None or not counting.is_counted(usage):
        return read + counting.estimated_tokens(outcome.chars)
    since = 0 if outcome.final is not None else counting.estimated_tokens(outcome.chars)
    return usage.input_tokens + usage.output_tokens + since


def _told(plan: _Applied, levels: Sequence[Level]) -> tuple[tuple[str, str], ...]:
    """What is left, of the limit of each kind that is nearest its end."""
    told: list[tuple[str, str]] = []
    for kind in plan.told:
        pairs = [
            (one.limit.rule.amount, level) for one, level in zip(plan.limits, levels, strict=True) if one.of == kind
        ]
        amount, level = min(pairs, key=lambda pair: pair[1].left / pair[0]) if len(pairs) > 1 else pairs[0]
        told += (
            (f"x-ratelimit-limit-{kind}", str(amount)),
            (f"x-ratelimit-remaining-{kind}", str(level.left)),
            (f"x-ratelimit-reset-{kind}", f"{level.reset:.3f}s"),
        )
    return tuple(told)


def _refused(plan: _Applied, decision: Decision) -> CallerRateLimited:
    one = plan.limits[decision.refused]
    rule = one.limit.rule
    whose, _, name = one.owner.partition(":")
    who = f"{whose} {name}" if name else "all callers together"
    which = f" for {', '.join(sorted(one.models))}" if one.models else ""
    facts = {"limitedBy": whose, "metric": one.of, "limit": str(rule.amount)}
    if one.of == "concurrency":
        said = f"{who} may have {rule.amount} calls{which} at a time"
    else:
        period = f"{rule.per / 1000:g}"
        facts["periodSeconds"] = period
        said = f"{who} may use {rule.amount} {one.of}{which} in {period} s; there is room in {decision.wait:.3f} s"
    if name:
        facts[whose] = name
    if one.models:
        facts["models"] = ",".join(sorted(one.models))
    return CallerRateLimited(said, retry_after=decision.wait, facts=facts)
