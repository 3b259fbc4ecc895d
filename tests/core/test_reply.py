"""A reply closes what it owns, and says once how it ended, whatever happens to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley import v1
from parley_server.core.errors import Overloaded, StreamInterrupted
from parley_server.core.reply import Batch, Batches, Outcome, Reply
from tests.fakes import Upstream, chat, completed, context, delta, opened, run, said, started, used

WHOLE = ([started(), opened()], [delta("Hel")], [delta("lo"), used(output_tokens=2)], [completed(output_tokens=2)])


async def primed(upstream: Upstream) -> Reply[v1.ChatResponse]:
    return await upstream(chat(), context())


async def test_primed_returns_at_the_first_content_with_what_was_held_back() -> None:
    upstream = Upstream([started()], 3.0, [opened()], 4.0, [delta("a")], 100.0, [completed()])
    begin = asyncio.get_running_loop().time()
    async with await primed(upstream) as reply:
        assert asyncio.get_running_loop().time() - begin == pytest.approx(7.0)
        first = await anext(aiter(reply))
    assert [event.WhichOneof("event") for event in first] == ["started", "part_started", "part_delta"]


async def test_failure_before_content_is_raised_from_primed_with_the_upstream_closed() -> None:
    upstream = Upstream([started()], Overloaded("busy"))
    with pytest.raises(Overloaded):
        await primed(upstream)
    assert (upstream.closed, upstream.generators_closed) == (1, 1)


async def test_answer_that_ends_before_it_begins_is_interrupted_before_the_commit_point() -> None:
    upstream = Upstream([started()])
    with pytest.raises(StreamInterrupted):
        await primed(upstream)
    assert upstream.closed == 1


async def test_answer_without_its_end_is_not_taken_for_whole() -> None:
    upstream = Upstream([started(), opened(), delta("a")])
    outcomes: list[Outcome] = []
    reply = await primed(upstream)
    reply.on_over(outcomes.append)
    with pytest.raises(StreamInterrupted):
        async with reply:
            await reply.response()
    assert isinstance(outcomes[0].error, StreamInterrupted)


async def test_response_is_the_fold_of_the_events() -> None:
    async with await primed(Upstream(*WHOLE)) as reply:
        response = await reply.response()
    assert response.message.parts[0].text == "Hello"
    assert response.usage.output_tokens == 2


async def test_finished_reply_read_as_events_is_its_unfolding() -> None:
    reply = Reply.of(said("hi"))
    async with reply:
        kinds = [event.WhichOneof("event") async for batch in reply for event in batch]
    assert kinds == ["started", "part_started", "part_delta", "part_completed", "completed"]


async def test_on_final_may_fill_in_the_end_before_it_travels_on() -> None:
    def sign(final: Any) -> None:
        final.native_finish_reason = "signed"

    async with await primed(Upstream(*WHOLE)) as reply:
        reply.on_final(sign)
        assert (await reply.response()).native_finish_reason == "signed"


async def test_inner_observers_are_told_first() -> None:
    told: list[str] = []
    async with await primed(Upstream(*WHOLE)) as reply:
        reply.on_over(lambda _: told.append("inner"))
        reply.on_over(lambda _: told.append("outer"))
    assert told == ["inner", "outer"]


async def test_what_is_kept_is_released_before_the_upstream() -> None:
    order: list[str] = []
    owner, held = AsyncExitStack(), AsyncExitStack()
    owner.callback(order.append, "upstream")
    held.callback(order.append, "permit")
    reply: Reply[v1.ChatResponse] = await Reply.primed(Upstream(*WHOLE).events(), owner)
    reply.keep(held)
    async with reply:
        pass
    assert order == ["permit", "upstream"]


async def test_chars_count_from_the_last_report_of_usage() -> None:
    reply = await primed(Upstream([started(), opened(), delta("12345"), used(output_tokens=1)], [delta("678")], 1.0))
    outcomes: list[Outcome] = []
    reply.on_over(outcomes.append)
    with suppress(StreamInterrupted):
        async with reply:
            async for _ in reply:
                pass
    assert outcomes[0].usage is not None
    assert outcomes[0].usage.output_tokens == 1
    assert outcomes[0].chars == 3


async def test_reply_whose_through_was_never_started_still_closes_the_upstream() -> None:
    upstream = Upstream(*WHOLE)
    reply = await primed(upstream)
    ran = []

    async def never(batches: Batches) -> AsyncGenerator[Batch, None]:
        ran.append(True)
        async for batch in batches:
            yield batch

    reply.through(never)
    await reply.aclose()
    assert not ran
    assert (upstream.closed, upstream.generators_closed) == (1, 1)


async def test_reader_of_a_closed_reply_finds_the_end() -> None:
    reply = await primed(Upstream(*WHOLE))
    batches = aiter(reply)
    await anext(batches)
    await reply.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(batches)


async def test_observer_that_fails_does_not_keep_the_upstream_open() -> None:
    upstream = Upstream(*WHOLE)
    reply = await primed(upstream)
    reply.on_over(lambda _: 1 / 0)  # type: ignore[arg-type]
    with pytest.raises(ZeroDivisionError):
        await reply.aclose()
    assert upstream.closed == 1


# What may happen to a reply, in any combination: where the upstream breaks, how many layers wrap it, how far it is
# read, when the reader is cancelled, whether closing is repeated.
scripts = st.lists(
    st.sampled_from(
        [
            [started()],
            [opened()],
            [delta("a")],
            [delta("bc"), used(output_tokens=1)],
            [completed()],
            0.5,
            2.0,
            Overloaded("x"),
        ]
    ),
    max_size=6,
)


@given(
    script=scripts,
    layers=st.integers(0, 3),
    read=st.integers(0, 8),
    cancel_after=st.none() | st.floats(0, 6, allow_nan=False),
    closes=st.integers(1, 2),
)
def test_upstream_is_closed_and_the_outcome_told_exactly_once(
    script: list[Any], layers: int, read: int, cancel_after: float | None, closes: int
) -> None:
    upstream = Upstream(*script)
    outcomes: list[Outcome] = []
    finals: list[object] = []
    wrapped = [0, 0]  # generators of layers: begun, ended

    async def layer(batches: Batches) -> AsyncGenerator[Batch, None]:
        wrapped[0] += 1
        try:
            async for batch in batches:
                yield batch
        finally:
            wrapped[1] += 1

    async def call() -> None:
        reply = await primed(upstream)
        reply.on_final(finals.append)
        reply.on_over(outcomes.append)
        for _ in range(layers):
            reply.through(layer)
        try:
            async with reply:
                left = read
                async for _ in reply:
                    left -= 1
                    if left <= 0:
                        break
        finally:
            for _ in range(closes):
                await reply.aclose()

    async def main() -> None:
        task = asyncio.create_task(call())
        if cancel_after is not None:
            await asyncio.sleep(cancel_after)
            task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # retrieved

    run(main())
    assert upstream.opened == upstream.closed
    # Closed before its first step a generator has nothing to clean up; begun, it has cleaned up.
    assert upstream.generators_closed <= 1
    assert wrapped[0] == wrapped[1]
    assert len(outcomes) <= 1
    assert len(finals) <= 1
    if outcomes:
        [outcome] = outcomes
        assert [outcome.final is not None, outcome.error is not None, outcome.cancelled].count(True) == 1
        assert (outcome.final is not None) == bool(finals)
        assert upstream.generators_closed == 1
