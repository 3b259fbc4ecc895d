"""Resumable streams on fake time: who follows gets everything, once, in order; or is told why not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as st

from parley import v1
from parley.fold import fold
from parley_server.api.calls import Calls
from parley_server.api.recordings import Ended, Events, Recordings
from parley_server.core.context import Context
from parley_server.core.errors import (
    ResponseNotFound,
    ResumeWindowExpired,
    SequenceOutOfRange,
    SlowConsumer,
    Unavailable,
)
from parley_server.core.reply import Outcome, Reply
from parley_server.stores.memory.streams import MemoryStreams
from parley_server.stores.streams import Bounds
from tests import fakes
from tests.fakes import Step, Upstream, chat, completed, delta, opened, started

ID = "resp_01j00000000000000000000000"
OTHER_ID = "resp_01j00000000000000000000001"
SAID: list[Step] = [[started(), opened(), delta("one ")], 1.0, [delta("two ")], 1.0, [delta("three"), completed()]]


class Scene:
    """Recordings of scripted upstreams."""

    def __init__(self, stream_bytes: int = 2**20, ahead: int = 2**19, window: float = 600.0) -> None:
        self.calls = Calls()
        self.store = MemoryStreams(Bounds(stream_bytes, 2**24, window))
        self.recordings = Recordings(self.store, self.calls, window=window, ahead=ahead, wall=lambda: 1_790_000_000.0)
        self.outcomes: list[Outcome] = []

    async def begin(self, *script: Step, caller: str = "", response_id: str = ID) -> Upstream:
        upstream = Upstream(*script)
        ctx: Context = replace(fakes.context(), caller=caller, response_id=response_id)
        reply = await upstream(chat(), ctx)
        reply.on_over(self.outcomes.append)
        await self.recordings.record(reply, events_of(reply), ctx)
        return upstream

    def follow(self, after: int = 0, *, caller: str = "", response_id: str = ID) -> Events:
        return self.recordings.follow(caller, response_id, after)

    async def read(self, after: int = 0, *, pause: float = 0.0, caller: str = "") -> list[v1.StreamChatResponse]:
        events = []
        async for batch in self.follow(after, caller=caller):
            events += batch
            await asyncio.sleep(pause)
        return events


async def events_of(reply: Reply[v1.ChatResponse]) -> Events:
    async for batch in reply:
        yield [copy(event) for event in batch]


def copy(event: v1.StreamChatResponse) -> v1.StreamChatResponse:
    return v1.StreamChatResponse.FromString(event.SerializeToString())


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    there = Scene()
    yield there
    await there.store.aclose()


async def finished(scene: Scene) -> None:
    """Wait until nothing is generated any more."""
    await asyncio.sleep(0)  # it is under way now, if it was not yet
    assert await scene.calls.drained(10_000)


def text(events: list[v1.StreamChatResponse]) -> str:
    return "".join(event.part_delta.text for event in events)


async def test_what_is_followed_is_numbered_and_whole(scene: Scene) -> None:
    await scene.begin(*SAID)
    events = await scene.read()
    assert [event.sequence for event in events] == [1, 2, 3, 4, 5, 6]
    assert text(events) == "one two three"
    assert scene.outcomes[0].final is not None


async def test_it_goes_on_when_nobody_follows(scene: Scene) -> None:
    upstream = await scene.begin(*SAID)
    follower = scene.follow()
    assert text(await anext(follower)) == "one "
    await follower.aclose()
    await finished(scene)
    assert upstream.closed == 1
    assert text(await scene.read(3)) == "two three"
    assert len(scene.calls) == 0


async def test_a_batch_is_there_as_soon_as_it_has_come(scene: Scene) -> None:
    await scene.begin(*SAID)
    loop = asyncio.get_running_loop()
    start = loop.time()
    times = [round(loop.time() - start) async for _ in scene.follow()]
    assert times == [0, 1, 2]


async def test_a_recording_counts_as_a_call_until_it_is_over(scene: Scene) -> None:
    await scene.begin(*SAID)
    await asyncio.sleep(0)
    assert len(scene.calls) == 1
    assert not await scene.calls.drained(0.5)
    assert await scene.calls.drained(5)


async def test_what_the_drain_cuts_off_says_so(scene: Scene) -> None:
    upstream = await scene.begin([started(), opened(), delta("one ")], 1e6, [completed()])
    await asyncio.sleep(1)
    scene.calls.cut()
    assert await scene.calls.cleaned_up(1)
    assert upstream.closed == 1
    status, events = await failure(scene)
    assert status.code == 14
    assert "had to shut down" in status.message
    assert text(events) == "one "
    found = v1.ResponseFailure()
    assert any(detail.Unpack(found) for detail in status.details)
    assert found.last_sequence == 3


async def failure(scene: Scene) -> tuple[Status, list[v1.StreamChatResponse]]:
    events: list[v1.StreamChatResponse] = []
    with pytest.raises(Ended) as ended:
        async for batch in scene.follow():
            events += batch
    return Status.FromString(ended.value.status), events


async def test_a_failure_ends_it_for_all_who_follow(scene: Scene) -> None:
    error = Unavailable("the provider fell over")
    upstream = await scene.begin([started(), opened(), delta("one ")], 1.0, error)
    one, other = await asyncio.gather(failure(scene), failure(scene))
    assert one == other == await failure(scene)
    assert one[0].message == "the provider fell over"
    assert text(one[1]) == "one "
    assert scene.outcomes[0].error is error
    assert upstream.closed == 1
    assert (await scene.recordings.get("", ID)).state == v1.GetChatResponse.STATE_FAILED


async def test_an_unexpected_failure_keeps_its_text_to_itself(scene: Scene) -> None:
    await scene.begin([started(), opened(), delta("one ")], 1.0, ZeroDivisionError("secret"))
    status, _ = await failure(scene)
    assert status.code == 13
    assert "secret" not in str(status)


async def test_each_caller_has_its_own(scene: Scene) -> None:
    await scene.begin(*SAID, caller="alice")
    assert text(await scene.read(caller="alice")) == "one two three"
    for caller in ("", "bob", "alic"):
        with pytest.raises(ResponseNotFound):
            await scene.read(caller=caller)
        with pytest.raises(ResponseNotFound):
            await scene.recordings.get(caller, ID)
        with pytest.raises(ResponseNotFound):
            await scene.recordings.cancel(caller, ID)
    for response_id in (OTHER_ID, f"{ID}/alice", f"{ID}\n", "", "alice"):
        with pytest.raises(ResponseNotFound):
            await scene.recordings.get("alice", response_id)


async def test_nobody_cancels_what_another_caller_began(scene: Scene) -> None:
    await scene.begin(*SAID, caller="alice")
    await asyncio.sleep(0)
    with pytest.raises(ResponseNotFound):
        await scene.recordings.cancel("bob", ID)
    assert text(await scene.read(caller="alice")) == "one two three"


async def test_it_is_kept_for_the_window_and_no_longer(scene: Scene) -> None:
    await scene.begin(*SAID)
    await finished(scene)
    await asyncio.sleep(599)
    whole = await scene.read()
    assert (await scene.recordings.get("", ID)).response == fold(whole)
    await asyncio.sleep(2)
    for asked in (scene.read(), scene.read(6), scene.recordings.get("", ID), scene.recordings.cancel("", ID)):
        with pytest.raises(ResumeWindowExpired):
            await asked
    assert scene.store.held == 0


async def test_a_sequence_that_has_not_been_reached_is_refused(scene: Scene) -> None:
    await scene.begin(*SAID)
    await asyncio.sleep(0.5)
    with pytest.raises(SequenceOutOfRange) as refused:
        await scene.read(4)
    assert refused.value.facts["lastSequence"] == "3"
    assert text(await scene.read(3)) == "two three"


async def test_the_state_of_a_response(scene: Scene) -> None:
    await scene.begin(*SAID)
    await asyncio.sleep(1.5)
    running = await scene.recordings.get("", ID)
    assert running.state == v1.GetChatResponse.STATE_RUNNING
    assert running.response.message.parts[0].text == "one two "
    assert running.response.finish_reason == v1.FINISH_REASON_UNSPECIFIED
    await finished(scene)
    done = await scene.recordings.get("", ID)
    assert done.state == v1.GetChatResponse.STATE_SUCCEEDED
    assert done.response.finish_reason == v1.FINISH_REASON_STOP


async def test_cancelling_waits_until_it_has_stopped(scene: Scene) -> None:
    upstream = await scene.begin([started(), opened(), delta("one ")], 1e6, [completed()])
    follower = asyncio.create_task(failure(scene))
    await asyncio.sleep(1)
    await asyncio.gather(scene.recordings.cancel("", ID), scene.recordings.cancel("", ID))
    assert upstream.closed == 1
    assert scene.outcomes[0].cancelled
    status, events = await follower
    assert status.code == 1
    assert text(events) == "one "
    assert (await scene.recordings.get("", ID)).state == v1.GetChatResponse.STATE_CANCELLED
    await scene.recordings.cancel("", ID)


async def test_cancelling_what_is_complete_changes_nothing(scene: Scene) -> None:
    await scene.begin(*SAID)
    await finished(scene)
    await scene.recordings.cancel("", ID)
    assert (await scene.recordings.get("", ID)).state == v1.GetChatResponse.STATE_SUCCEEDED


def long(batches: int, every: float = 0.0) -> list[Step]:
    script: list[Step] = [[started(), opened()]]
    for number in range(batches):
        script += [[delta(f"{number} ".ljust(1000, "."))], every]
    return [*script, [completed()]]


async def test_a_long_answer_that_nobody_follows_loses_its_beginning() -> None:
    scene = Scene(stream_bytes=20_000, ahead=10_000)
    await scene.begin(*long(100))
    await finished(scene)
    with pytest.raises(ResumeWindowExpired):
        await scene.read()
    with pytest.raises(ResumeWindowExpired):
        await scene.recordings.get("", ID)
    assert [event.sequence for event in await scene.read(95)] == list(range(96, 104))
    assert scene.store.held <= 20_000
    await scene.store.aclose()


async def test_a_single_follower_who_is_slow_slows_the_upstream() -> None:
    scene = Scene(stream_bytes=20_000, ahead=10_000)
    await scene.begin(*long(300))
    loop = asyncio.get_running_loop()
    start = loop.time()
    events = await scene.read(pause=1.0)
    assert [event.sequence for event in events] == list(range(1, 304))
    assert loop.time() - start > 8
    await scene.store.aclose()


async def test_an_answer_in_one_piece_can_be_longer_than_what_is_kept() -> None:
    scene = Scene(stream_bytes=20_000, ahead=10_000)
    await scene.begin([event for step in long(300) if isinstance(step, list) for event in step])
    events = await scene.read(pause=0.1)
    assert [event.sequence for event in events] == list(range(1, 304))
    await scene.store.aclose()


async def test_who_is_slower_than_another_is_outrun_and_told() -> None:
    scene = Scene(stream_bytes=20_000, ahead=10_000)
    await scene.begin(*long(300, 0.1))

    async def slow() -> None:
        async for _ in scene.follow():
            await asyncio.sleep(10)

    outrun = asyncio.create_task(slow())
    events = await scene.read()
    assert [event.sequence for event in events] == list(range(1, 304))
    with pytest.raises(SlowConsumer):
        await outrun
    await scene.store.aclose()


async def test_a_slow_follower_who_leaves_holds_nothing_up() -> None:
    scene = Scene(stream_bytes=20_000, ahead=10_000)
    await scene.begin(*long(300))
    follower = scene.follow()
    await anext(follower)
    await asyncio.sleep(100)
    assert len(scene.recordings) == 1, "it waits"
    await follower.aclose()
    await asyncio.sleep(0)
    await finished(scene)
    await scene.store.aclose()


async def test_an_upstream_that_never_pauses_lets_others_run() -> None:
    scene = Scene()
    await scene.begin(*[step for step in long(1000) if isinstance(step, list)])
    turns = 0
    while not turns or len(scene.recordings):
        await asyncio.sleep(0)
        turns += 1
    assert turns > 500
    await scene.store.aclose()


async def test_when_the_store_fails_the_reply_is_closed(scene: Scene) -> None:
    async def broken(key: str) -> None:
        raise ConnectionError(key)

    scene.store.create = broken  # type: ignore[method-assign]
    with pytest.raises(ConnectionError):
        await scene.begin(*SAID)
    assert scene.outcomes[0].cancelled


async def test_the_first_event_says_how_long_it_is_kept(scene: Scene) -> None:
    begun = v1.ResponseStarted()
    scene.recordings.announce(begun)
    assert begun.resume_expire_time.seconds == 1_790_000_600


SIZES = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 600), st.sampled_from([0.0, 0.1, 1.0])), max_size=25)
READERS = st.lists(
    st.tuples(
        st.floats(0, 10),  # when it comes
        st.sampled_from([0.0, 0.05, 0.5, 3.0]),  # how long it takes over a batch
        st.integers(0, 40),  # after how many events its connection breaks, again and again
    ),
    max_size=4,
)


@given(SIZES, READERS, st.integers(200, 6000), st.sampled_from([None, 0.5, 4.0]))
def test_no_gap_and_no_duplicate_whatever_happens(
    sizes: list[tuple[int, int, float]],
    readers: list[tuple[float, float, int]],
    stream_bytes: int,
    cancelled: float | None,
) -> None:
    """Any upstream, any readers that come, lag, break off and come back, any size of the buffer, perhaps a cancel."""
    script: list[Step] = [[started(), opened(), delta("0")]]
    total, number = 3, 0
    for count, size, pause in sizes:
        batch = []
        for _ in range(count):
            number += 1
            batch.append(delta(str(number).ljust(size, ".")))
        total += count
        script += [batch, pause] if pause else [batch]
    script.append([completed()])
    total += 1

    async def reader(scene: Scene, comes: float, takes: float, breaks: int) -> None:
        await asyncio.sleep(comes)
        got: list[int] = []
        while True:
            left = breaks or 10**6
            follower = scene.follow(got[-1] if got else 0)
            try:
                async for batch in follower:
                    for event in batch[:left]:
                        assert event.sequence == (got[-1] if got else 0) + 1
                        got.append(event.sequence)
                    left -= len(batch)
                    if left <= 0:
                        break
                    await asyncio.sleep(takes)
                else:
                    assert got[-1:] == [total]
                    return
            except (ResumeWindowExpired, SlowConsumer):
                return  # it was told that there is a gap, and got nothing from behind it
            except Ended as ended:
                statuses.append(Status.FromString(ended.status))
                return
            finally:
                await follower.aclose()

    statuses: list[Status] = []

    async def main() -> None:
        scene = Scene(stream_bytes=stream_bytes, ahead=stream_bytes // 2)
        upstream = await scene.begin(*script)
        async with asyncio.TaskGroup() as group:
            for comes, takes, breaks in readers:
                group.create_task(reader(scene, comes, takes, breaks))
            if cancelled is not None:
                await asyncio.sleep(cancelled)
                await scene.recordings.cancel("", ID)
        await finished(scene)
        assert upstream.closed == 1
        assert scene.store.held <= max(stream_bytes, 1000)
        assert len(asyncio.all_tasks()) == 1
        assert all(cancelled is not None and status.code == 1 for status in statuses)
        await scene.store.aclose()

    fakes.run(main())
