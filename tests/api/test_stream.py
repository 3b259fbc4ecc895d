"""The writer of a stream: numbers, heartbeats in silence, merging; on a clock that costs no time."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley import v1
from parley.fold import fold
from parley_server.api.stream import EventWriter, coalesced, merged
from parley_server.core.reply import Batch


def text(fragment: str, part: int = 0) -> v1.StreamChatResponse:
    return v1.StreamChatResponse(part_delta=v1.PartDelta(part_index=part, text=fragment))


def reasoning(fragment: str, part: int = 0) -> v1.StreamChatResponse:
    return v1.StreamChatResponse(part_delta=v1.PartDelta(part_index=part, reasoning=fragment))


def begun(part: int) -> v1.StreamChatResponse:
    return v1.StreamChatResponse(part_started=v1.PartStarted(part_index=part, part=v1.Part(text="")))


class Sent:
    """What was written, and when."""

    def __init__(self) -> None:
        self.events: list[tuple[float, v1.StreamChatResponse]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.writing = 0

    async def write(self, event: v1.StreamChatResponse) -> None:
        self.writing += 1
        assert self.writing == 1, "two writes at a time"
        await self.gate.wait()
        self.events.append((asyncio.get_running_loop().time(), event))
        self.writing -= 1


async def test_events_are_numbered_from_one_without_gaps() -> None:
    sent = Sent()
    writer = EventWriter(sent.write, 15)
    for word in "abc":
        await writer.event(text(word))
    await writer.aclose()
    assert [event.sequence for _, event in sent.events] == [1, 2, 3]


async def test_heartbeats_go_out_in_silence_and_only_then() -> None:
    sent, loop = Sent(), asyncio.get_running_loop()
    start = loop.time()
    writer = EventWriter(sent.write, 15)
    for _ in range(10):
        await asyncio.sleep(10)
        await writer.event(text("x"))
    assert all(event.sequence for _, event in sent.events)
    await asyncio.sleep(50)
    await writer.aclose()
    beats = [(round(at - start), event) for at, event in sent.events if event.HasField("heartbeat")]
    assert [at for at, _ in beats] == [115, 130, 145]
    assert all(event.sequence == 0 for _, event in beats)


async def test_no_heartbeat_while_a_slow_client_takes_an_event() -> None:
    sent = Sent()
    writer = EventWriter(sent.write, 1)
    sent.gate.clear()
    task = asyncio.create_task(writer.event(text("x")))
    await asyncio.sleep(10)
    sent.gate.set()
    await task
    await writer.aclose()
    assert [event.WhichOneof("event") for _, event in sent.events] == ["part_delta"]


async def test_an_event_waits_for_the_heartbeat_being_written() -> None:
    sent = Sent()
    writer = EventWriter(sent.write, 1)
    sent.gate.clear()
    await asyncio.sleep(1.5)
    task = asyncio.create_task(writer.event(text("x")))
    await asyncio.sleep(0)
    sent.gate.set()
    await task
    await writer.aclose()
    assert [event.WhichOneof("event") for _, event in sent.events] == ["heartbeat", "part_delta"]


async def test_an_event_that_has_a_number_keeps_it() -> None:
    sent = Sent()
    writer = EventWriter(sent.write, 15)
    for sequence in (0, 7, 0, 12):
        event = text("x")
        event.sequence = sequence
        await writer.event(event)
    await writer.aclose()
    assert [event.sequence for _, event in sent.events] == [1, 7, 8, 12]
    assert writer.sequence == 12


@pytest.mark.parametrize(("interval", "max_stall"), [(15, 60), (15, 4), (1, 60), (300, 60)])
async def test_a_write_that_takes_too_long_cancels_its_task(interval: float, max_stall: float) -> None:
    sent, loop = Sent(), asyncio.get_running_loop()
    writers: list[EventWriter] = []

    async def stream() -> None:
        writers.append(EventWriter(sent.write, interval, max_stall))
        await asyncio.sleep(7)
        await writers[0].event(text("a"))
        sent.gate.clear()
        await writers[0].event(text("b"))

    start = loop.time()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(stream())
    assert writers[0].stalled
    assert max_stall <= loop.time() - start - 7 <= 2 * max_stall
    await writers[0].aclose()


async def test_slow_is_not_stalled() -> None:
    sent = Sent()
    writer = EventWriter(sent.write, 15, 10)

    async def slowly() -> None:
        for _ in range(100):
            sent.gate.clear()
            asyncio.get_running_loop().call_later(9, sent.gate.set)
            await writer.event(text("a"))

    await asyncio.create_task(slowly())
    await asyncio.sleep(1000)  # and neither is silence
    assert not writer.stalled
    assert len([event for _, event in sent.events if event.sequence]) == 100
    await writer.aclose()


async def test_closing_leaves_no_timer_and_no_task() -> None:
    sent = Sent()
    writer = EventWriter(sent.write, 1)
    sent.gate.clear()
    await asyncio.sleep(1.5)
    await writer.aclose()
    assert len(asyncio.all_tasks()) == 1
    await asyncio.sleep(10)
    assert sent.events == []


async def test_coalescing_waits_for_company_and_loses_nothing() -> None:
    async def source() -> AsyncIterator[Batch]:
        yield [begun(0), text("a")]
        for word in "bcdefgh":
            await asyncio.sleep(0.01)
            yield [text(word)]

    batches = [batch async for batch in coalesced(source(), 0.035)]
    assert [[event.part_delta.text for event in batch if event.HasField("part_delta")] for batch in batches] == [
        ["abcd"],
        ["efgh"],
    ]


async def test_coalescing_delivers_what_it_holds_before_an_error() -> None:
    async def source() -> AsyncIterator[Batch]:
        yield [text("a")]
        await asyncio.sleep(0.01)
        raise ValueError("broken")

    batches = coalesced(source(), 1)
    held = await anext(batches)
    assert [event.part_delta.text for event in held] == ["a"]
    with pytest.raises(ValueError, match="broken"):
        await anext(batches)


async def test_closing_a_coalesced_stream_stops_its_source() -> None:
    closed = False

    async def source() -> AsyncIterator[Batch]:
        nonlocal closed
        try:
            yield [text("a")]
            await asyncio.sleep(1000)
            yield [text("b")]
        finally:
            closed = True

    batches = coalesced(source(), 0.5)
    await anext(batches)
    await batches.aclose()  # type: ignore[attr-defined]
    assert closed
    assert len(asyncio.all_tasks()) == 1


events = st.lists(
    st.builds(text, st.text(max_size=3), st.integers(0, 1)) | st.builds(reasoning, st.text(max_size=3), st.just(2)),
    max_size=20,
)


@given(events)
def test_merging_changes_no_content(batch: Batch) -> None:
    opened = [
        begun(0),
        begun(1),
        v1.StreamChatResponse(part_started=v1.PartStarted(part_index=2, part=v1.Part(reasoning=v1.ReasoningPart()))),
    ]
    before = fold(opened + batch)
    copies = [v1.StreamChatResponse.FromString(event.SerializeToString()) for event in batch]
    after = merged(copies)
    assert fold(opened + after) == before
    kinds = [(event.part_delta.part_index, event.part_delta.WhichOneof("delta")) for event in after]
    assert all(one != other for one, other in itertools.pairwise(kinds))
