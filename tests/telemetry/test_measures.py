"""What attempts and calls are counted as."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from parley import v1
from parley_server.core.errors import Unavailable
from parley_server.core.service import Service
from parley_server.core.target import Target
from parley_server.measures import Measures
from parley_server.pipeline.meter import Meter
from tests.fakes import Upstream, chat, completed, context, delta, opened, run, started

TARGET, OTHER = Target("acme", "m"), Target("other", "m")
PRICE = v1.ModelPricing(input_nano_usd=10**9, output_nano_usd=2 * 10**9)
FIRST = [started(), opened(), delta("a" * 8)]
GEN_AI = ("chat", "openai", "m", "acme")


def metered(measures: Measures, target: Target, service: Service) -> Service:
    return Meter(target, PRICE, measures.attempts("chat", "openai", target, target.model))(service)


def counted(measures: Measures, name: str) -> dict[Any, Any]:
    """By the values of attributes: what a counter has come to, or what a histogram has counted and come to."""
    families, found = measures.families, dict[Any, Any]()
    if name in families.counters:
        found = {values: cell.value for values, cell in families.counters[name].cells() if cell.value}
    else:
        cells = families.histograms[name].cells()
        found = {values: (sum(cell.counts), pytest.approx(cell.sum)) for values, cell in cells if any(cell.counts)}
    return found


def test_a_stream_that_ends_well_and_one_that_is_given_up() -> None:
    measures = Measures()

    async def main() -> None:
        for rest, read in (([completed(input_tokens=10, output_tokens=4)], 2), ([delta("b" * 8)], 1)):
            upstream = Upstream(0.5, FIRST, 1.5, rest)
            async with await metered(measures, TARGET, upstream)(chat(text="x" * 40), context()) as reply:
                batches = aiter(reply)
                for _ in range(read):
                    await anext(batches)

    run(main())
    assert counted(measures, "parley.upstream.attempts") == {
        ("acme", "m", "first", ""): 1,
        ("acme", "m", "first", "CANCELLED"): 1,
    }
    durations = counted(measures, "gen_ai.client.operation.duration")
    assert durations == {(*GEN_AI, ""): (1, 2.0), (*GEN_AI, "CANCELLED"): (1, 0.5)}
    assert counted(measures, "gen_ai.client.operation.time_to_first_chunk") == {GEN_AI: (2, 1.0)}
    tokens = counted(measures, "gen_ai.client.token.usage")
    assert tokens.pop((*GEN_AI, "input", "")) == (1, 10)
    assert tokens.pop((*GEN_AI, "output", "")) == (1, 4)
    assert tokens.keys() == {(*GEN_AI, "input", "true"), (*GEN_AI, "output", "true")}
    estimated = tokens[*GEN_AI, "input", "true"][1].expected, tokens[*GEN_AI, "output", "true"][1].expected
    assert counted(measures, "parley.upstream.cost_nano_usd") == {
        ("acme", "m"): (10 + 2 * 4 + estimated[0] + 2 * estimated[1]) * 1000
    }


def test_what_an_attempt_is_follows_from_those_before_it() -> None:
    measures = Measures()

    async def main() -> None:
        ctx = context(streaming=False)
        for target in (TARGET, TARGET, OTHER):
            with pytest.raises(Unavailable):
                await metered(measures, target, Upstream(Unavailable("down")))(chat(), ctx)
        beside = replace(ctx, hedges=True)
        with pytest.raises(Unavailable):
            await metered(measures, TARGET, Upstream(Unavailable("down")))(chat(), beside)

    run(main())
    assert list(counted(measures, "parley.upstream.attempts")) == [
        ("acme", "m", "first", "PROVIDER_UNAVAILABLE"),
        ("acme", "m", "retry", "PROVIDER_UNAVAILABLE"),
        ("other", "m", "fallback", "PROVIDER_UNAVAILABLE"),
        ("acme", "m", "hedge", "PROVIDER_UNAVAILABLE"),
    ]
    assert not counted(measures, "gen_ai.client.token.usage"), "nobody knows"
    assert not counted(measures, "gen_ai.client.operation.time_to_first_chunk")


@pytest.mark.parametrize("by_caller", [False, True])
def test_callers_are_counted_where_it_is_asked_for(by_caller: bool) -> None:
    measures = Measures(by_caller=by_caller)

    async def main() -> None:
        for caller in ("ann", ""):
            ctx = context(streaming=False)
            ctx.caller = caller
            upstream = Upstream(FIRST, [completed(input_tokens=10, output_tokens=4)])
            async with await metered(measures, TARGET, upstream)(chat(), ctx) as reply:
                await reply.response()
            ctx.ended = ("OK", "") if caller else ("UNAVAILABLE", "PROVIDER_UNAVAILABLE")
            measures.call(ctx)

    run(main())
    method = ("grpc", "parley.v1.GatewayService/Chat")
    assert list(counted(measures, "rpc.server.call.duration")) == [
        (*method, "OK", ""),
        (*method, "UNAVAILABLE", "PROVIDER_UNAVAILABLE"),
    ]
    names = ("parley.caller.calls", "parley.caller.tokens", "parley.caller.cost_nano_usd")
    told = [counted(measures, name) for name in names]
    if by_caller:
        assert told == [{("ann", "OK"): 1}, {("ann", "input"): 10, ("ann", "output"): 4}, {("ann",): 18_000}]
    else:
        assert told == [{}, {}, {}]
