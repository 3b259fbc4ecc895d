"""Routes: several targets under one name, and how the targets of a request are found, sifted and put in order.

Pure: what comes of it is a list of steps, which `pipeline/router.py` asks one after the other.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import orjson

from parley import v1
from parley_server.core.capabilities import Lack, Missing, Needs, expected_cost, missing, needs_of, window
from parley_server.core.context import Context
from parley_server.core.errors import (
    ContextLengthExceeded,
    CostLimitExceeded,
    DeadlineExceeded,
    GatewayError,
    InvalidRequest,
    OperationUnsupported,
    PromptBlocked,
    UnsupportedParameter,
    Violation,
)
from parley_server.core.reply import Reply
from parley_server.core.service import AnyRequest, Service
from parley_server.core.standing import Standing
from parley_server.core.strategies import Call, Strategy, order, prefix_of
from parley_server.core.target import Target

_ORDERED = v1.RoutingOptions.STRATEGY_ORDERED
_MOST_NAMED = 20  # targets that an error names
CONTENT_BLOCKED, INVALID_REQUEST = "content_blocked", "invalid_request"
"""Failures after which the next target is asked only where a route says so."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A target, the stack that asks it, and its live state."""

    target: Target
    service: Service
    standing: Standing = field(default_factory=lambda: Standing(float))  # of which nothing is known: its clock stands


@dataclass(frozen=True, slots=True)
class Overrides:
    """What is different about a request where a target is asked.

    Options that are set here take the place of the caller's, one by one, or all at once if it `replaces`.
    `provider_options`: put over the caller's for the provider that is asked.
    """

    sampling: v1.SamplingOptions | None = None
    reasoning: v1.ReasoningOptions | None = None
    provider_options: Mapping[str, object] = field(default_factory=dict)
    replaces: bool = False

    @classmethod
    def of(cls, fallback: v1.FallbackTarget) -> Overrides | None:
        """Those of a fallback in a request."""
        sampling = fallback.sampling if fallback.HasField("sampling") else None
        reasoning = fallback.reasoning if fallback.HasField("reasoning") else None
        return None if sampling is None and reasoning is None else cls(sampling, reasoning, replaces=True)

    def apply(self, request: AnyRequest, provider: str) -> None:
        """Change `request` accordingly."""
        if isinstance(request, v1.ChatRequest):
            for name, options in (("sampling", self.sampling), ("reasoning", self.reasoning)):
                if options is None:
                    continue
                mine = getattr(request, name)
                for changed, _ in () if self.replaces else options.ListFields():
                    mine.ClearField(changed.name)
                if self.replaces:
                    mine.CopyFrom(options)
                else:
                    mine.MergeFrom(options)
        if self.provider_options:
            given = orjson.loads(request.provider_options_json.get(provider) or "{}")
            request.provider_options_json[provider] = orjson.dumps({**given, **self.provider_options}).decode()


@dataclass(frozen=True, slots=True)
class Entry:
    """A target as a route or a request names it. What cannot be asked at all is the error that says why.

    `field`: where in the request, for those that are named there.
    """

    option: Candidate | Route | GatewayError
    field: str = ""
    weight: int = 1
    overrides: Overrides | None = None


Leg = Callable[[Context], Awaitable[Reply[Any]]]
"""A target of a call, asked in the context that is given."""


class Race(Protocol):
    """How a target that is slow to begin is raced by the next one."""

    @property
    def enabled(self) -> bool:
        """Whether it is at all."""

    async def __call__(
        self, legs: Sequence[Leg], ctx: Context, first: Standing
    ) -> tuple[Reply[Any] | None, list[GatewayError]]:
        """Ask the first leg, and the second as well if it sees fit; `first`: what is known of the target of the first.

        An answer or None, and the failures of those who were asked, in the order in which they failed.
        """


@dataclass(frozen=True, slots=True)
class Route:
    """Targets under one name. `draw`: where the next weighted choice falls, uniform in [0, 1).

    `race`: how its targets are raced, if that is different from elsewhere.
    """

    name: str
    entries: tuple[Entry, ...]
    strategy: Strategy = v1.RoutingOptions.STRATEGY_ORDERED
    fallback_on: frozenset[str] = frozenset()
    draw: Callable[[], float] = random.random
    race: Race | None = None


def _unpriced(_step: Step) -> int | None:
    """Nobody has asked for a price."""
    return None


@dataclass(slots=True, eq=False)
class Step:
    """A target to ask: with what changes to the request, and when the next one may be asked after it, or as well."""

    candidate: Candidate
    field: str = "model"
    weight: int = 1
    overrides: tuple[Overrides, ...] = ()
    fallback_on: frozenset[str] = frozenset()
    price: Callable[[Step], int | None] = _unpriced
    race: Race | None = None

    @property
    def key(self) -> str:
        """Its target: provider/model."""
        return str(self.candidate.target)

    @property
    def standing(self) -> Standing:
        """The live state of its target."""
        return self.candidate.standing

    @property
    def cost(self) -> int | None:
        """What the call should cost there, in billionths of a US dollar; None if that is not known."""
        return self.price(self)

    def adapted(self, request: AnyRequest) -> AnyRequest:
        """The request as this target gets it."""
        if not self.overrides:
            return request
        changed = type(request)()
        changed.CopyFrom(request)  # type: ignore[arg-type]  # they are of one class
        for overrides in self.overrides:
            overrides.apply(changed, self.candidate.target.provider)
        return changed


def plan(entries: Sequence[Entry], request: AnyRequest, ctx: Context) -> list[Step]:
    """The targets that may be asked, in the order in which they are.

    Those left out are noted in `ctx.warnings`. Raises InvalidRequest, ModelNotFound and their like if none is left.
    """
    first, wished = entries[0].option, request.routing.strategy
    if isinstance(first, Route):
        ctx.route = first.name
    strategy = wished or (first.strategy if isinstance(first, Route) and len(entries) == 1 else _ORDERED)
    ctx.strategy = v1.RoutingOptions.Strategy.Name(strategy).removeprefix("STRATEGY_").lower()
    sieve = _Sieve(request, ctx)
    tree = sieve.sorted_out(Route("", tuple(entries)))
    kept = sieve.fit(list(tree.leaves()))
    if len(kept) > 1:
        call = Call(streaming=ctx.streaming, prefix=lambda: prefix_of(request))
        asked = first if isinstance(first, Route) else None
        if not wished:
            kept = tree.in_order(frozenset(kept), asked, call)
        else:
            kept = order(kept, wished, call if asked is None else replace(call, draw=asked.draw))
        if ctx.broken:
            kept.sort(key=lambda step: step.key in ctx.broken)
    return kept


@dataclass(slots=True, eq=False)
class _Group:
    """The targets of one route within a plan."""

    route: Route
    weight: int
    members: list[Step | _Group]

    def leaves(self) -> Iterator[Step]:
        """All targets, as listed."""
        for member in self.members:
            if isinstance(member, Step):
                yield member
            else:
                yield from member.leaves()

    def in_order(self, kept: frozenset[Step], asked: Route | None, call: Call) -> list[Step]:
        """Those of `kept`, each route's in its own order, and a route among them where the first of its targets comes
        to stand; those that are left alone for having failed behind all others."""
        steps = self._in_order(kept, asked, call)
        return sorted(steps, key=lambda step: step.standing.wait() > 0.0)

    def _in_order(self, kept: frozenset[Step], asked: Route | None, call: Call) -> list[Step]:
        # Routes within the one that is asked draw by plain chance: two even sequences in step would not be even.
        own = replace(call, draw=self.route.draw) if self.route is asked else call
        plain = [member for member in self.members if isinstance(member, Step)]
        if len(plain) == len(self.members):
            return order([step for step in plain if step in kept], self.route.strategy, own)
        heads: list[_Head] = []
        for member in self.members:
            steps = member._in_order(kept, asked, call) if isinstance(member, _Group) else [member]
            if any(step in kept for step in steps):
                heads.append(_Head([step for step in steps if step in kept], member.weight))
        return [step for head in order(heads, self.route.strategy, own) for step in head.steps]


@dataclass(slots=True, eq=False)
class _Head:
    """A group as its first step stands for it, with the weight of the group."""

    steps: list[Step]
    weight: int

    @property
    def key(self) -> str:
        return self.steps[0].key

    @property
    def standing(self) -> Standing:
        return self.steps[0].standing

    @property
    def cost(self) -> int | None:
        return self.steps[0].cost


@dataclass(frozen=True, slots=True)
class _Inherited:
    """What the target of a route has from where the route is named."""

    field: str = ""
    overrides: tuple[Overrides, ...] = ()
    fallback_on: frozenset[str] = frozenset()
    race: Race | None = None


_NOTHING = _Inherited()


class _Sieve:
    """Takes out the targets that may not or cannot answer a request, and says why."""

    def __init__(self, request: AnyRequest, ctx: Context) -> None:
        self._request = request
        self._ctx = ctx
        self._needs: Needs | None = None
        self._unknown: GatewayError | None = None
        self._barred: list[Target] = []

    def sorted_out(self, route: Route, above: Entry | None = None, inherited: _Inherited = _NOTHING) -> _Group:
        """The targets of `route` that there are and that the request allows."""
        group = _Group(route, above.weight if above is not None else 1, [])
        on = inherited.fallback_on | route.fallback_on
        race = route.race if route.race is not None else inherited.race
        for entry in route.entries:
            place = inherited.field or entry.field
            own = () if entry.overrides is None else (entry.overrides,)
            overrides = own + inherited.overrides
            match entry.option:
                case Candidate() as candidate if _is_barred(candidate.target, self._request.routing):
                    self._barred.append(candidate.target)
                case Candidate() as candidate:
                    group.members.append(Step(candidate, place, entry.weight, overrides, on, self._cost, race))
                case Route() as inner:
                    group.members.append(self.sorted_out(inner, entry, _Inherited(place, overrides, on, race)))
                case error:
                    self._unknown = self._unknown or error
                    self._note(place, error.message)
        return group

    def fit(self, found: list[Step]) -> list[Step]:
        """Those of `found` that can answer, as far as is known. Raises what is wrong if there are none."""
        if not found:
            if self._barred:
                raise _nobody_allowed(self._request.routing, self._barred)
            assert self._unknown is not None  # noqa: S101  # a target is barred, unknown or found
            raise copy.copy(self._unknown)  # a route keeps it for the next call
        limit = self._request.routing.max_cost_nano_usd if self._request.routing.HasField("max_cost_nano_usd") else None
        if len(found) == 1 and limit is None:
            return found
        kept: list[Step] = []
        unfit: list[tuple[Step, list[Missing]]] = []
        for step in found:
            card = step.candidate.target.card
            lacks = missing(self._needs_of(step), card) if card is not None and len(found) > 1 else []
            if limit is not None and not lacks:
                lacks = self._beyond(step, limit)
            if lacks:
                unfit.append((step, lacks))
            else:
                kept.append(step)
        if not kept:
            raise _nobody_able(unfit)
        for step, lacks in unfit:
            self._note(step.field, f"{step.key} {' and '.join(lack.what for lack in lacks)}")
        return kept

    def _cost(self, step: Step) -> int | None:
        return expected_cost(self._needs_of(step), self._request, step.candidate.target.card)

    def _beyond(self, step: Step, limit: int) -> list[Missing]:
        cost = step.cost
        if cost is None:
            what = f"the price of {step.key} is not known, so that the limit does not hold there"
            self._note("routing.max_cost_nano_usd", what, "COST_UNKNOWN")
            return []
        if cost <= limit:
            return []
        return [Missing(Lack.COST, f"should cost {cost} nano-USD, at most {limit} are allowed")]

    def _needs_of(self, step: Step) -> Needs:
        if self._needs is None:
            self._needs = needs_of(self._request)
        needs = self._needs
        for overrides in step.overrides:
            needs = needs.with_options(overrides.sampling, overrides.reasoning, replaces=overrides.replaces)
        return needs

    def _note(self, place: str, message: str, code: str = "TARGET_SKIPPED") -> None:
        note = v1.Warning(code=code, message=message, field=place)
        if note not in self._ctx.warnings:  # a call whose answer broke off is planned once more
            self._ctx.warnings.append(note)


def _is_barred(target: Target, routing: v1.RoutingOptions) -> bool:
    return _is_excluded(target.provider, routing) or not _is_in(routing.regions, target)


def _is_excluded(provider: str, routing: v1.RoutingOptions) -> bool:
    if routing.allowed_providers and provider not in routing.allowed_providers:
        return True
    return provider in routing.denied_providers


def _is_in(regions: Sequence[str], target: Target) -> bool:
    """Whether `target` is in one of `regions`, if there are any."""
    return not regions or bool(target.region and target.region in regions)


def _nobody_allowed(routing: v1.RoutingOptions, barred: list[Target]) -> InvalidRequest:
    """Targets that only their regions bar are told of: they are the nearest to being allowed."""
    elsewhere = [target for target in barred if not _is_excluded(target.provider, routing)]
    if elsewhere:
        place, asked = "routing.regions", ", ".join(routing.regions)
        told = [f"{target} is in {target.region or 'no region that is known'}" for target in elsewhere[:_MOST_NAMED]]
        description = f"no target is left: the request asks for {asked}, and {', '.join(dict.fromkeys(told))}"
    else:
        place = "routing.denied_providers"
        if any(target.provider not in routing.allowed_providers for target in barred) and routing.allowed_providers:
            place = "routing.allowed_providers"
        named = ", ".join(dict.fromkeys(target.provider for target in barred))
        description = (
            f"no target is left: the request names models of {named} and excludes every one of these providers"
        )
    return InvalidRequest(description, violations=[Violation(place, description)], facts={"field": place})


def _nobody_able(unfit: list[tuple[Step, list[Missing]]]) -> GatewayError:
    """Of the reasons the one that takes least to be mended decides: money, then length, then what is asked for."""
    told = [(step, " and ".join(lack.what for lack in lacks)) for step, lacks in unfit]
    message = "no target can take this request: " + "; ".join(f"{step.key} {what}" for step, what in told)
    violations = [Violation(step.field, f"{step.key} {what}", "TARGET_UNFIT") for step, what in told[:_MOST_NAMED]]
    kinds = [{lack.lack for lack in lacks} for _, lacks in unfit]
    if {Lack.COST} in kinds:
        cheapest = min(cost for step, _ in unfit if (cost := step.cost) is not None)
        return CostLimitExceeded(message, facts={"estimateNanoUsd": str(cheapest)})
    if {Lack.WINDOW} in kinds:
        return ContextLengthExceeded(message, violations=violations)
    return UnsupportedParameter(message, violations=violations)


def may_follow(error: GatewayError, failed: Sequence[Step], later: Step) -> bool:
    """Whether `later` may do better where `failed` did not."""
    on = failed[-1].fallback_on
    match error:
        case ContextLengthExceeded():
            return _is_wider(failed, later)
        case PromptBlocked():
            here = {step.candidate.target.provider for step in failed}
            return CONTENT_BLOCKED in on and later.candidate.target.provider not in here
        case OperationUnsupported() | DeadlineExceeded():  # the latter: a queue too long for the time that is left
            return True
        case InvalidRequest() if not error.falls_back:
            return INVALID_REQUEST in on
        case _:
            return error.falls_back


def _is_wider(failed: Sequence[Step], later: Step) -> bool:
    """Whether the window of `later` is known to be larger; where nothing is known of any, it may be."""
    known = [size for step in failed if (size := window(step.candidate.target.card)) is not None]
    mine = window(later.candidate.target.card)
    if mine is None or not known:
        return mine is not None or not known
    return mine > max(known)
