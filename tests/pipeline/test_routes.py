"""Routes: who may answer, in which order, and who comes next after which failure."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley import v1
from parley_server.core.context import Context, Operation
from parley_server.core.errors import (
    ContextLengthExceeded,
    CostLimitExceeded,
    CredentialsRejected,
    DeadlineExceeded,
    GatewayError,
    InvalidRequest,
    ModelNotFound,
    OperationUnsupported,
    Overloaded,
    PromptBlocked,
    QuotaExhausted,
    RateLimited,
    RequestTooLarge,
    UnsupportedParameter,
)
from parley_server.core.routes import Candidate, Entry, Leg, Overrides, Race, Route
from parley_server.core.standing import Standing
from parley_server.core.strategies import Spread, Strategy
from parley_server.core.target import Target
from parley_server.pipeline.retry import Retry, RetryBudget, RetryPolicy
from parley_server.pipeline.router import Router
from tests.fakes import Attempts, answering, chat, context, run

S = v1.RoutingOptions


def card(context_tokens: int = 0, *capabilities: str, price: int = 0) -> v1.Model:
    model = v1.Model(capabilities=capabilities)
    if context_tokens:
        model.limits.context_tokens = context_tokens
    if price:
        model.pricing.MergeFrom(v1.ModelPricing(input_nano_usd=price, output_nano_usd=price))
    return model


class World:
    """Targets `p/a`, `p/b`, … and routes over them; `asked` has who was asked, in order."""

    def __init__(self, cards: dict[str, v1.Model] | None = None, **failing: GatewayError) -> None:
        self.cards = cards or {}
        self.regions: dict[str, str] = {}
        self.failing = {name.replace("_", "/"): error for name, error in failing.items()}
        self.routes: dict[str, Route] = {}
        self.asked: list[str] = []
        self.requests: dict[str, Any] = {}
        self.standings: dict[str, Standing] = {}
        self.router = Router(self.resolve, 4)

    def resolve(self, model: str, operation: Operation) -> Candidate | Route:
        if model in self.routes:
            return self.routes[model]
        provider, slash, name = model.partition("/")
        if not slash:
            raise ModelNotFound(f"no model {model}")
        behind = Attempts(self.failing[model]) if model in self.failing else answering(model)

        async def service(request: Any, ctx: Any) -> Any:
            self.asked.append(model)
            self.requests[model] = request
            return await behind(request, ctx)

        stack = Retry(RetryPolicy(attempts=1), asyncio.sleep, lambda: 0.0)(service)
        standing = self.standings.setdefault(model, Standing(lambda: 0.0))
        target = Target(provider, name, self.cards.get(model), region=self.regions.get(provider, ""))
        return Candidate(target, stack, standing)

    def route(
        self,
        name: str,
        *targets: str | Entry,
        strategy: Strategy = S.STRATEGY_ORDERED,
        on: str = "",
        race: Race | None = None,
    ) -> None:
        entries = []
        for target in targets:
            if isinstance(target, Entry):
                entries.append(target)
                continue
            model, _, weight = target.partition("*")
            try:
                entries.append(Entry(self.resolve(model, "chat"), weight=int(weight or 1)))
            except GatewayError as error:
                entries.append(Entry(error))
        draw = Spread(lambda: 0.0)
        self.routes[name] = Route(name, tuple(entries), strategy, frozenset(on.split()), draw, race)

    async def ask(self, model: str = "smart", **fields: Any) -> tuple[str, list[v1.Warning]]:
        """Who answers, and what is warned about."""
        request = chat(model)
        request.MergeFrom(v1.ChatRequest(**fields))
        ctx = context()
        reply = await self.router(request, ctx)
        return (await reply.response()).message.parts[0].text, ctx.warnings


async def test_the_first_target_answers_and_the_next_when_it_cannot() -> None:
    world = World(p_b=Overloaded("busy"))
    world.route("smart", "p/a", "p/c")
    world.route("other", "p/b", "p/c")
    assert (await world.ask())[0] == "p/a"
    assert (await world.ask("other"))[0] == "p/c"
    assert world.asked == ["p/a", "p/b", "p/c"]


async def test_a_route_in_a_route_takes_one_place() -> None:
    world = World(p_x=Overloaded("busy"), p_y=Overloaded("busy"))
    world.route("inner", "p/x", "p/y")
    world.route("smart", "inner", "p/z")
    assert (await world.ask())[0] == "p/z"
    assert world.asked == ["p/x", "p/y", "p/z"]


class Seen:
    """A race in which only the first runs; `races` counts them."""

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled
        self.races = 0

    async def __call__(self, legs: Sequence[Leg], ctx: Context, first: Standing) -> Any:
        self.races += 1
        return await legs[0](ctx), []


async def test_a_route_may_be_raced_in_a_way_of_its_own() -> None:
    everywhere, outer, inner, never = Seen(), Seen(), Seen(), Seen(enabled=False)
    world = World()
    world.router = Router(world.resolve, 4, race=everywhere)
    world.route("plain", "p/a", "p/b")
    world.route("inner", "p/a", "p/b", race=inner)
    world.route("outer", "plain", "p/c", race=outer)
    world.route("nested", "inner", "p/c", race=outer)
    world.route("never", "p/a", "p/b", race=never)
    world.route("single", "p/a", race=outer)
    counts = {}
    for name in ("plain", "inner", "outer", "nested", "never", "single"):
        await world.ask(name)
        counts[name] = [race.races for race in (everywhere, outer, inner, never)]
    assert counts == {
        "plain": [1, 0, 0, 0],
        "inner": [1, 0, 1, 0],
        "outer": [1, 1, 1, 0],
        "nested": [1, 1, 2, 0],
        "never": [1, 1, 2, 0],
        "single": [1, 1, 2, 0],
    }
    await world.ask("p/c", routing=v1.RoutingOptions(fallbacks=[v1.FallbackTarget(model="never")]))
    assert everywhere.races == 2, "the requested model is first, and belongs to no route"
    world.router = Router(world.resolve, 4, race=never)
    await world.ask("outer")
    assert outer.races == 2, "a route may be raced where others are not"


async def test_weights_of_a_route_in_a_route_are_its_own() -> None:
    world = World()
    world.route("inner", "p/x", "p/y", strategy=S.STRATEGY_WEIGHTED)
    world.route("smart", "inner*1", "p/z*3", strategy=S.STRATEGY_WEIGHTED)
    answers = Counter([(await world.ask())[0] for _ in range(400)])
    assert answers["p/z"] == pytest.approx(300, abs=5)
    assert answers["p/x"] == pytest.approx(50, abs=12)


async def test_the_strategy_of_the_request_wins_over_that_of_the_route() -> None:
    world = World({"p/a": card(price=9_000_000), "p/b": card(price=1_000_000), "p/c": card()})
    world.route("smart", "p/c", "p/a", "p/b")
    assert (await world.ask())[0] == "p/c"
    assert (await world.ask(routing=S(strategy=S.STRATEGY_COST)))[0] == "p/b"


async def test_fallbacks_of_the_request_come_behind_the_route_or_among_its_targets() -> None:
    world = World(
        {"p/a": card(price=9_000_000), "p/b": card(price=5_000_000), "p/c": card(price=1_000_000)},
        p_a=Overloaded("busy"),
    )
    world.route("smart", "p/a", "p/b")
    fallbacks = [v1.FallbackTarget(model="p/c")]
    assert (await world.ask(routing=S(fallbacks=fallbacks)))[0] == "p/b"
    assert (await world.ask(routing=S(fallbacks=fallbacks, strategy=S.STRATEGY_COST)))[0] == "p/c"


async def test_weights_of_the_request() -> None:
    world = World()
    fallbacks = [v1.FallbackTarget(model="p/b", weight=0)]
    routing = S(fallbacks=fallbacks, strategy=S.STRATEGY_WEIGHTED)
    assert {(await world.ask("p/a", routing=routing))[0] for _ in range(50)} == {"p/a"}


async def test_a_route_may_be_a_fallback() -> None:
    world = World(p_a=Overloaded("busy"), p_b=Overloaded("busy"))
    world.route("rest", "p/b", "p/c")
    assert (await world.ask("p/a", routing=S(fallbacks=[v1.FallbackTarget(model="rest")])))[0] == "p/c"


@pytest.mark.parametrize(
    ("error", "first", "second", "asked"),
    [
        (ContextLengthExceeded("long"), card(1000), card(2000), True),
        (ContextLengthExceeded("long"), card(1000), card(1000), False),
        (ContextLengthExceeded("long"), card(1000), card(), False),
        (ContextLengthExceeded("long"), card(), card(1000), True),
        (ContextLengthExceeded("long"), card(), card(), True),
        (UnsupportedParameter("cannot"), card(), card(), True),
        (OperationUnsupported("cannot"), card(), card(), True),
        (RequestTooLarge("big"), card(), card(), True),
        (CredentialsRejected("key"), card(), card(), True),
        (QuotaExhausted("money"), card(), card(), True),
        (RateLimited("slow"), card(), card(), True),
        (DeadlineExceeded("a long queue"), card(), card(), True),
        (InvalidRequest("bad"), card(), card(), False),
        (PromptBlocked("no"), card(), card(), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, GatewayError) else None,
)
async def test_the_failure_decides_who_may_come_next(
    error: GatewayError, first: v1.Model, second: v1.Model, asked: bool
) -> None:
    world = World({"p/a": first, "q/b": second}, p_a=error)
    world.route("smart", "p/a", "q/b")
    if asked:
        assert (await world.ask())[0] == "q/b"
    else:
        with pytest.raises(type(error)):
            await world.ask()
        assert world.asked == ["p/a"]


async def test_after_a_long_prompt_only_larger_windows_are_asked() -> None:
    long = ContextLengthExceeded("long")
    cards = {"p/a": card(4000), "p/b": card(2000), "p/c": card(8000), "p/d": card(6000), "p/e": card(9000)}
    world = World(cards, p_a=long, p_c=long)
    world.route("smart", "p/a", "p/b", "p/c", "p/d", "p/e")
    assert (await world.ask())[0] == "p/e"
    assert world.asked == ["p/a", "p/c", "p/e"]


async def test_what_one_provider_blocks_another_is_asked_where_the_route_says_so() -> None:
    world = World(p_a=PromptBlocked("no"))
    world.route("smart", "p/a", "p/b", "q/c", on="content_blocked")
    assert (await world.ask())[0] == "q/c"
    assert world.asked == ["p/a", "q/c"]


async def test_what_one_provider_finds_invalid_another_is_asked_where_the_route_says_so() -> None:
    world = World(p_a=InvalidRequest("bad"))
    world.route("inner", "p/a", "p/b")
    world.route("smart", "inner", on="invalid_request")
    assert (await world.ask())[0] == "p/b"


async def test_targets_that_cannot_answer_are_passed_over() -> None:
    world = World({"p/a": card(10_000, "reasoning"), "p/b": card(10_000, "tools"), "p/c": card()})
    world.route("smart", "p/a", "p/b", "p/c")
    tools = [v1.Tool(function=v1.FunctionTool(name="f"))]
    answer, warnings = await world.ask(tools=tools)
    assert answer == "p/b"
    assert [(w.code, w.field, w.message) for w in warnings] == [("TARGET_SKIPPED", "model", "p/a does not do tools")]


async def test_a_single_model_is_always_asked() -> None:
    world = World({"p/a": card(1, "reasoning")})
    world.route("alias", "p/a")
    tools = [v1.Tool(function=v1.FunctionTool(name="f"))]
    assert (await world.ask("p/a", tools=tools))[0] == "p/a"
    assert (await world.ask("alias", tools=tools))[0] == "p/a"


async def test_where_nobody_can_answer_it_is_said_what_each_lacks() -> None:
    world = World({"p/a": card(0, "reasoning"), "p/b": card(100, "tools")})
    world.route("smart", "p/a", "p/b")
    tools = [v1.Tool(function=v1.FunctionTool(name="f"))]
    with pytest.raises(ContextLengthExceeded, match="p/a does not do tools; p/b has a window of 100 tokens") as caught:
        await world.ask(tools=tools, messages=[v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text="x" * 800)])])
    assert [violation.field for violation in caught.value.violations] == ["model", "model"]
    world.route("other", "p/a", "p/a")
    with pytest.raises(UnsupportedParameter):
        await world.ask("other", tools=tools)
    assert world.asked == []


@pytest.mark.parametrize(("limit", "answer"), [(10**9, "p/a"), (1500, "p/b")])
async def test_targets_above_the_cost_limit_are_passed_over(limit: int, answer: str) -> None:
    world = World({"p/a": card(price=10**9), "p/b": card(price=10**6)})
    world.route("smart", "p/a", "p/b")
    said, warnings = await world.ask(routing=S(max_cost_nano_usd=limit))
    assert said == answer
    assert [w.code for w in warnings] == (["TARGET_SKIPPED"] if answer == "p/b" else [])


async def test_a_call_that_costs_too_much_everywhere_is_refused_unasked() -> None:
    world = World({"p/a": card(price=10**9), "p/b": card(price=10**8)})
    world.route("smart", "p/a", "p/b")
    for model in ("smart", "p/a"):
        with pytest.raises(
            CostLimitExceeded, match="p/a should cost 1002000 nano-USD, at most 5 are allowed"
        ) as caught:
            await world.ask(model, routing=S(max_cost_nano_usd=5))
    assert caught.value.facts == {"estimateNanoUsd": "1002000"}
    assert world.asked == []


async def test_a_limit_that_cannot_hold_is_warned_about() -> None:
    _, warnings = await World().ask("p/a", routing=S(max_cost_nano_usd=5))
    assert [(w.code, w.field) for w in warnings] == [("COST_UNKNOWN", "routing.max_cost_nano_usd")]


async def test_targets_that_are_not_there_are_passed_over() -> None:
    world = World()
    world.route("smart", "gone", "p/a")
    world.route("none", "gone")
    answer, warnings = await world.ask()
    assert (answer, [w.code for w in warnings]) == ("p/a", ["TARGET_SKIPPED"])
    raised = []
    for _ in range(2):
        with pytest.raises(ModelNotFound) as caught:
            await world.ask("none")
        raised.append(caught.value)
    assert raised[0] is not raised[1], "what one call does with its error is not the next one's"
    assert raised[0].message == raised[1].message


async def test_providers_of_a_route_may_be_denied() -> None:
    world = World()
    world.route("smart", "p/a", "q/b")
    assert (await world.ask(routing=S(denied_providers=["p"])))[0] == "q/b"
    with pytest.raises(InvalidRequest) as caught:
        await world.ask(routing=S(allowed_providers=["z"]))
    assert caught.value.violations[0].field == "routing.allowed_providers"


@pytest.mark.parametrize(
    ("asked", "answers"),
    [
        ([], "us/a"),
        (["us-1"], "us/a"),
        (["eu-1"], "eu/b"),
        (["eu-2", "eu-1"], "eu/b"),
        (["eu"], None),
        (["ap-1"], None),
    ],
)
@pytest.mark.parametrize("model", ["smart", "us/a"])
async def test_only_targets_in_the_regions_that_are_asked_for(
    asked: list[str], answers: str | None, model: str
) -> None:
    world = World()
    world.regions = {"us": "us-1", "eu": "eu-1"}
    world.route("smart", "us/a", "nowhere/c", "eu/b")
    fallbacks = [v1.FallbackTarget(model=name) for name in ("nowhere/c", "eu/b")] if model == "us/a" else []
    routing = S(regions=asked, fallbacks=fallbacks)
    if answers is not None:
        assert (await world.ask(model, routing=routing))[0] == answers
        return
    with pytest.raises(InvalidRequest) as caught:
        await world.ask(model, routing=routing)
    assert world.asked == []
    assert [violation.field for violation in caught.value.violations] == ["routing.regions"]
    assert caught.value.facts == {"field": "routing.regions"}
    assert caught.value.message == (
        f"no target is left: the request asks for {asked[0]}, and us/a is in us-1, "
        "nowhere/c is in no region that is known, eu/b is in eu-1"
    )


async def test_the_only_model_is_not_asked_elsewhere_either_and_providers_that_are_denied_are_not_told_of() -> None:
    world = World()
    world.regions = {"us": "us-1", "eu": "eu-1"}
    with pytest.raises(InvalidRequest, match=r"asks for eu-2, and us/a is in us-1$"):
        await world.ask("us/a", routing=S(regions=["eu-2"]))
    world.route("smart", "us/a", "eu/b")
    with pytest.raises(InvalidRequest, match=r"asks for ap-1, and eu/b is in eu-1$"):
        await world.ask("smart", routing=S(regions=["ap-1"], denied_providers=["us"]))
    with pytest.raises(InvalidRequest, match="models of us, eu") as caught:
        await world.ask("smart", routing=S(regions=["ap-1"], denied_providers=["us", "eu"]))
    assert caught.value.violations[0].field == "routing.denied_providers"
    assert world.asked == []


async def test_overrides_change_what_is_set_and_leave_the_rest() -> None:
    world = World(p_a=Overloaded("busy"))
    own = Overrides(
        v1.SamplingOptions(temperature=0.1, stop_sequences=["b"]),
        v1.ReasoningOptions(effort=v1.REASONING_EFFORT_LOW),
        {"tier": "flex"},
    )
    outer = Overrides(v1.SamplingOptions(top_k=5))
    world.route("inner", Entry(world.resolve("p/b", "chat"), overrides=own))
    world.route("smart", "p/a", Entry(world.routes["inner"], overrides=outer))
    fields: dict[str, Any] = {
        "sampling": v1.SamplingOptions(temperature=0.9, seed=7, stop_sequences=["a"], top_k=1),
        "provider_options_json": {"p": '{"user": "u", "tier": "x"}', "q": "{}"},
    }
    await world.ask(**fields)
    assert world.requests["p/a"].sampling == fields["sampling"]
    sent = world.requests["p/b"]
    assert sent.sampling == v1.SamplingOptions(temperature=0.1, seed=7, stop_sequences=["b"], top_k=5)
    assert sent.reasoning.effort == v1.REASONING_EFFORT_LOW
    assert dict(sent.provider_options_json) == {"p": '{"user":"u","tier":"flex"}', "q": "{}"}


async def test_targets_whose_answer_broke_off_come_last_within_the_budget_that_is_left() -> None:
    world = World()
    world.route("smart", "p/a", "p/b", "p/c")
    ctx = context(attempts=2)
    ctx.broken = ["p/a"]
    reply = await world.router(chat("smart"), ctx)
    assert (await reply.response()).message.parts[0].text == "p/b"
    assert ctx.budget.left == 1


async def test_a_call_that_is_planned_twice_warns_once() -> None:
    world = World()
    world.route("smart", "gone", "p/a", "p/b")
    ctx = context()
    for broken in ([], ["p/a"]):
        ctx.broken = broken
        await world.router(chat("smart"), ctx)
    assert [w.code for w in ctx.warnings] == ["TARGET_SKIPPED"]


async def test_the_call_knows_its_route_and_strategy() -> None:
    world = World()
    world.route("smart", "p/a", "p/b", strategy=S.STRATEGY_LEAST_BUSY)
    for model, routing, told in (
        ("smart", None, ("smart", "least_busy")),
        ("smart", S(strategy=S.STRATEGY_AFFINITY), ("smart", "affinity")),
        ("p/a", None, ("", "")),
        ("p/a", S(fallbacks=[v1.FallbackTarget(model="p/b")]), ("", "ordered")),
    ):
        ctx = context()
        request = chat(model)
        if routing is not None:
            request.routing.CopyFrom(routing)
        await world.router(request, ctx)
        assert (ctx.route, ctx.strategy) == told


@given(
    st.lists(st.sampled_from("abcde"), min_size=1, max_size=6),
    st.sampled_from(S.Strategy.values()),
    st.integers(1, 12),
    st.integers(1, 4),
    st.booleans(),
)
def test_no_target_is_asked_more_often_than_the_budget_allows(
    names: list[str], strategy: Strategy, budget: int, per_target: int, nested: bool
) -> None:
    async def main() -> None:
        made: Counter[str] = Counter()

        def resolve(model: str, _: Operation) -> Candidate | Route:
            async def service(request: Any, ctx: Any) -> Any:
                made[model] += 1
                raise Overloaded("busy")

            policy = RetryPolicy(attempts=per_target, base=0.001)
            retry = Retry(policy, asyncio.sleep, lambda: 0.5, RetryBudget(most=math.inf))
            return Candidate(Target("p", model), retry(service))

        entries = tuple(Entry(resolve(name, "chat")) for name in names)
        route: Route = Route("r", entries, strategy)
        if nested:
            route = Route("outer", (Entry(route), Entry(resolve("z", "chat"))), strategy)
        targets = len(names) + nested
        request = chat("r")
        request.routing.max_attempts = budget
        with pytest.raises(Overloaded):
            await Router(lambda _model, _operation: route, 4)(request, context())
        assert sum(made.values()) <= budget
        assert all(count <= per_target * (names.count(name) or 1) for name, count in made.items())
        if budget >= targets:  # an attempt was kept for each
            assert made.keys() == {*names} | ({"z"} if nested else set())

    run(main())
