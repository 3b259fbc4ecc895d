"""One entry per attempt, always."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from hypothesis import given
from hypothesis import strategies as st

from parley import v1
from parley_server.core.context import Context
from parley_server.core.errors import GatewayError, Overloaded, StreamInterrupted
from parley_server.core.reply import Reply
from parley_server.core.service import Service, stack
from parley_server.core.target import Target
from parley_server.pipeline.meter import Meter
from parley_server.pipeline.retry import Retry, RetryPolicy
from parley_server.pipeline.timeout import Limits, Timeout
from tests.fakes import (
    Attempts,
    Entered,
    Upstream,
    answering,
    chat,
    completed,
    context,
    delta,
    opened,
    run,
    started,
    used,
)

TARGET = Target("mock", "echo")
PRICE = v1.ModelPricing(input_nano_usd=1_000_000_000, output_nano_usd=2_000_000_000, price_version="v")
TIERED = v1.ModelPricing(
    input_nano_usd=1_000_000_000,
    output_nano_usd=2_000_000_000,
    tiers=[
        v1.PriceTier(above_input_tokens=100, input_nano_usd=3_000_000_000, output_nano_usd=4_000_000_000),
        v1.PriceTier(service_tier="flex", input_nano_usd=500_000_000, output_nano_usd=1_000_000_000),
    ],
)
FIRST = [started(), opened(), delta("a" * 8)]


def reason(attempt: v1.Attempt) -> str:
    info = ErrorInfo()
    assert attempt.status.details[0].Unpack(info)
    assert info.domain == "parley"
    return info.reason


async def test_success() -> None:
    ctx = context(streaming=False)
    upstream = Upstream(2.0, FIRST, [completed(input_tokens=10, output_tokens=4)])
    async with await Meter(TARGET, PRICE)(upstream)(chat(), ctx) as reply:
        response = await reply.response()
    [attempt] = ctx.ledger.attempts
    assert (attempt.provider, attempt.model, attempt.status.code) == ("mock", "echo", 0)
    assert attempt.HasField("status")
    assert attempt.duration.ToTimedelta().total_seconds() == pytest.approx(2, abs=0.01)
    assert attempt.usage == response.usage
    assert list(response.route.attempts) == [attempt]
    assert response.usage.total_tokens == 14
    assert response.usage.source == v1.Usage.SOURCE_PROVIDER
    assert response.usage.cost == v1.Cost(
        total_nano_usd=18_000, input_nano_usd=10_000, output_nano_usd=8_000, price_version="v"
    )


async def test_completed_stream() -> None:
    ctx = context()
    upstream = Upstream(FIRST, 1.0, [completed(input_tokens=10, output_tokens=4)])
    async with await Meter(TARGET, PRICE)(upstream)(chat(), ctx) as reply:
        events = [event async for batch in reply for event in batch]
    [attempt] = ctx.ledger.attempts
    assert events[-1].completed.usage.cost.total_nano_usd == 18_000
    assert list(events[-1].completed.route.attempts) == [attempt]


async def test_failed_attempts_come_before_the_one_that_answered() -> None:
    ctx = context(attempts=3)
    inner = Attempts(Overloaded("busy"), answering("hi", input_tokens=1, output_tokens=1))
    service = stack(Retry(RetryPolicy(), asyncio.sleep, lambda: 0.0), Meter(TARGET, PRICE), service=inner)
    async with await service(chat(), ctx) as reply:
        response = await reply.response()
    failed, answered = response.route.attempts
    assert (failed.status.code, failed.status.message, reason(failed)) == (14, "busy", "PROVIDER_OVERLOADED")
    assert not failed.HasField("usage")
    assert answered.status.code == 0


@pytest.mark.parametrize(
    ("script", "code", "why"),
    [
        ([Overloaded("busy")], 14, "PROVIDER_OVERLOADED"),
        ([60.0], 14, "PROVIDER_TIMEOUT"),
        ([RuntimeError("secret text of a bug")], 13, "INTERNAL"),
    ],
    ids=["error", "timeout", "bug"],
)
async def test_failure_before_the_answer(script: list[Any], code: int, why: str) -> None:
    ctx = context()
    service = stack(Meter(TARGET, PRICE), Timeout(Limits(first_content=5)), service=Upstream(*script))
    with pytest.raises((GatewayError, RuntimeError)):
        await service(chat(), ctx)
    [attempt] = ctx.ledger.attempts
    assert (attempt.status.code, reason(attempt)) == (code, why)
    assert "secret" not in attempt.status.message


@pytest.mark.parametrize(
    ("script", "source", "tokens"),
    [
        ([FIRST, Overloaded("busy")], v1.Usage.SOURCE_ESTIMATED, (2, 2)),
        ([[*FIRST, used(input_tokens=10, output_tokens=3)], Overloaded("busy")], v1.Usage.SOURCE_PARTIAL, (10, 3)),
        (
            [[started(), used(input_tokens=10, output_tokens=1)], FIRST[1:], Overloaded("busy")],
            v1.Usage.SOURCE_ESTIMATED,
            (10, 3),
        ),
    ],
    ids=["nothing_reported", "all_reported", "reported_at_the_start_only"],
)
async def test_failure_within_the_answer(script: list[Any], source: int, tokens: tuple[int, int]) -> None:
    ctx = context()
    with pytest.raises(Overloaded):
        async with await Meter(TARGET, PRICE)(Upstream(*script))(chat(text="12345678"), ctx) as reply:
            await reply.response()
    [attempt] = ctx.ledger.attempts
    assert reason(attempt) == "PROVIDER_OVERLOADED"
    assert attempt.usage.source == source
    assert (attempt.usage.input_tokens, attempt.usage.output_tokens) == tokens
    assert attempt.usage.cost.total_nano_usd == tokens[0] * 1000 + tokens[1] * 2000


@pytest.mark.parametrize(
    ("deadline", "code", "why"), [(None, 1, "CANCELLED"), (100, 1, "CANCELLED"), (5, 4, "DEADLINE_EXCEEDED")]
)
@pytest.mark.parametrize("script", [[60.0], [FIRST, 60.0]], ids=["before_the_answer", "within_the_answer"])
async def test_cancelled_calls_are_told_from_overdue_ones(
    script: list[Any], deadline: float | None, code: int, why: str
) -> None:
    ctx = context(deadline=deadline)

    async def call() -> None:
        async with await Meter(TARGET, PRICE)(Upstream(*script))(chat(), ctx) as reply:
            await reply.response()

    task = asyncio.create_task(call())
    await asyncio.sleep(4.995)  # gRPC cancels at the caller's deadline, by its own clock
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    [attempt] = ctx.ledger.attempts
    assert (attempt.status.code, reason(attempt)) == (code, why)


async def test_reply_that_nobody_reads_is_entered_when_it_is_closed() -> None:
    ctx = context()
    reply = await Meter(TARGET, PRICE)(Upstream(FIRST, [completed()]))(chat(), ctx)
    assert ctx.ledger.attempts == []
    await reply.aclose()
    assert [reason(attempt) for attempt in ctx.ledger.attempts] == ["CANCELLED"]


async def test_usage_that_the_provider_kept_to_itself_is_estimated() -> None:
    ctx = context(streaming=False)
    async with await Meter(TARGET, PRICE)(answering("x" * 40))(chat(text="y" * 20), ctx) as reply:
        usage = (await reply.response()).usage
    assert (usage.source, usage.input_tokens, usage.output_tokens) == (v1.Usage.SOURCE_ESTIMATED, 5, 10)
    assert usage.total_tokens == 15
    assert usage.HasField("cost")


async def test_embeddings() -> None:
    async def embed(*_: Any) -> Reply[Any]:
        return Reply.of(v1.EmbedResponse(usage=v1.Usage(source=v1.Usage.SOURCE_PROVIDER, input_tokens=7)))

    ctx = context("embed", streaming=False)
    async with await Meter(TARGET, v1.ModelPricing(input_nano_usd=10**9))(embed)(v1.EmbedRequest(), ctx) as reply:
        usage = (await reply.response()).usage
    assert (usage.total_tokens, usage.cost.total_nano_usd) == (7, 7000)


def at_tier(tier: str, tokens: int) -> Service:
    """Answers with so many input tokens and one of output, at a service tier."""

    async def answer(request: Any, ctx: Context) -> Reply[Any]:
        reply = await answering("hi", input_tokens=tokens, output_tokens=1)(request, ctx)
        reply.on_final(lambda final: setattr(final.route, "service_tier", tier))
        return reply

    return answer


async def test_searches_of_a_reranker_that_counts_no_tokens() -> None:
    async def rank(*_: Any) -> Reply[Any]:
        return Reply.of(v1.RerankResponse(usage=v1.Usage(server_tool_calls={"search": 2})))

    ctx, price = context("rerank", streaming=False), v1.ModelPricing(search_nano_usd=2_000_000)
    async with await Meter(TARGET, price)(rank)(v1.RerankRequest(query="q", documents=["d"]), ctx) as reply:
        usage = (await reply.response()).usage
    assert (usage.cost.other_nano_usd, usage.cost.total_nano_usd) == (4_000_000, 4_000_000)
    assert ctx.ledger.attempts[0].usage.cost == usage.cost


@pytest.mark.parametrize(
    ("price", "tier", "tokens", "total"),
    [
        (TIERED, "default", 100, 102_000),
        (TIERED, "on_demand", 100, 102_000),
        (TIERED, "", 101, 307_000),
        (TIERED, "flex", 100, 51_000),
        (TIERED, "FLEX", 100, 51_000),
        (TIERED, "flex", 101, None),
        (TIERED, "priority", 100, None),
        (PRICE, "flex", 100, None),
        (None, "", 100, None),
    ],
    ids=[
        "default_tier",
        "its_other_name",
        "long_prompt",
        "cheaper_tier",
        "cheaper_tier_in_capitals",
        "cheaper_tier_without_a_price_for_long_prompts",
        "tier_without_a_price",
        "no_tiers",
        "no_price",
    ],
)
async def test_cost_is_that_of_the_service_tier_that_answered_or_unset(
    price: v1.ModelPricing | None, tier: str, tokens: int, total: int | None
) -> None:
    async with await Meter(TARGET, price)(at_tier(tier, tokens))(chat(), context(streaming=False)) as reply:
        usage = (await reply.response()).usage
    assert (usage.cost.total_nano_usd if usage.HasField("cost") else None) == total


async def test_a_broken_answer_is_billed_at_the_service_tier_that_was_asked_for() -> None:
    ctx, request = context(), chat()
    request.routing.service_tier = "flex"
    upstream = Upstream([*FIRST, used(input_tokens=10, output_tokens=3)], Overloaded("busy"))
    with pytest.raises(Overloaded):
        async with await Meter(TARGET, TIERED)(upstream)(request, ctx) as reply:
            await reply.response()
    assert ctx.ledger.attempts[0].usage.cost.total_nano_usd == 10 * 500 + 3 * 1000


@pytest.mark.parametrize(
    ("part", "given", "priced"),
    [
        (v1.Part(text="x"), [v1.MODALITY_TEXT], True),
        (v1.Part(image=v1.ImagePart()), [v1.MODALITY_TEXT], True),
        (v1.Part(audio=v1.AudioPart()), [v1.MODALITY_TEXT], False),
        (v1.Part(text="x"), [v1.MODALITY_TEXT, v1.MODALITY_AUDIO], False),
    ],
    ids=["text", "media_at_the_price_of_text", "media_with_another_price", "answers_may_be_such_media"],
)
async def test_cost_is_left_unset_where_media_with_another_price_occur(
    part: v1.Part, given: list[v1.Modality.ValueType], priced: bool
) -> None:
    price = v1.ModelPricing(input_nano_usd=1, output_nano_usd=1, unpriced_modalities=[v1.MODALITY_AUDIO])
    target = Target("mock", "echo", v1.Model(output_modalities=given))
    request = chat()
    request.messages.add(parts=[part])
    async with await Meter(target, price)(at_tier("", 10))(request, context(streaming=False)) as reply:
        assert (await reply.response()).usage.HasField("cost") is priced


async def test_a_cost_that_the_dialect_knows_is_kept() -> None:
    end = completed(input_tokens=10, output_tokens=4)
    end.completed.usage.cost.total_nano_usd = 7
    async with await Meter(TARGET, PRICE)(Upstream(FIRST, [end]))(chat(), context()) as reply:
        response = await reply.response()
    assert response.usage.cost == v1.Cost(total_nano_usd=7)


async def test_total_of_the_provider_is_kept() -> None:
    inner = answering("hi", input_tokens=1, output_tokens=1, total_tokens=5)
    async with await Meter(TARGET, None)(inner)(chat(), context(streaming=False)) as reply:
        assert (await reply.response()).usage.total_tokens == 5


@given(
    script=st.lists(
        st.sampled_from(
            [[started()], FIRST[1:], [delta("b"), used(output_tokens=1)], [completed()], 0.5, Overloaded("x")]
        ),
        max_size=5,
    ),
    cancel_after=st.none() | st.floats(0, 3, allow_nan=False),
    read=st.integers(0, 6),
)
def test_every_attempt_is_entered_and_settled_exactly_once(
    script: list[Any], cancel_after: float | None, read: int
) -> None:
    settled = Entered()
    upstream = Upstream(*script)

    async def main() -> Context:
        ctx = context()
        service = Meter(TARGET, PRICE, settled)(upstream)

        async def call() -> None:
            async with await service(chat(), ctx) as reply:
                left = read
                async for _ in reply:
                    left -= 1
                    if left <= 0:
                        return

        task = asyncio.create_task(call())
        if cancel_after is not None:
            await asyncio.sleep(cancel_after)
            task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            assert isinstance(task.exception(), Overloaded | StreamInterrupted | None)
        return ctx

    ctx = run(main())
    assert len(ctx.ledger.attempts) == upstream.opened
    assert settled == ctx.ledger.attempts
