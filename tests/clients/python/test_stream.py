"""Streams: lenses, ends of every kind, cancellation, files."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import pytest

import parley
from parley import v1
from parley.fold import Fold, unfold
from tests.clients.python.peer import Fail, Peer, Stall, deltas, said

Event = v1.StreamChatResponse


def rich() -> v1.ChatResponse:
    parts = [
        v1.Part(reasoning=v1.ReasoningPart(text="Let me think.")),
        v1.Part(text="Hello "),
        v1.Part(refusal=v1.RefusalPart(text="(not that)")),
        v1.Part(text="Wörld 🎉"),
        v1.Part(tool_call=v1.ToolCall(id="call_1", name="f", arguments_json='{"a": 1}')),
    ]
    usage = v1.Usage(input_tokens=3, output_tokens=5)
    message = v1.Message(role=v1.ROLE_ASSISTANT, parts=parts)
    return v1.ChatResponse(id="resp_1", message=message, finish_reason=v1.FINISH_REASON_STOP, usage=usage)


def test_iterating_gives_text_and_reply_the_whole(peer: Peer, client: Any) -> None:
    peer.stream(rich())
    with client.stream("m", "x") as stream:
        assert list(stream) == ["Hello ", "Wörld 🎉"]
        assert stream.reply().raw == rich()
    assert stream.reply().raw == rich()  # also after the block: nothing more has to be read


def test_text_is_another_name_for_it(peer: Peer, client: Any) -> None:
    peer.stream(rich())
    with client.stream("m", "x") as stream:
        assert "".join(stream.text) == "Hello Wörld 🎉"


def test_reply_alone_reads_everything(peer: Peer, client: Any) -> None:
    peer.stream(rich())
    assert client.stream("m", "x").reply().text == "Hello Wörld 🎉"


def test_events_gives_everything_and_lenses_share_what_is_left(peer: Peer, client: Any) -> None:
    peer.stream(rich())
    with client.stream("m", "x") as stream:
        first = next(iter(stream.events))
        assert first.WhichOneof("event") == "started"
        assert next(iter(stream)) == "Hello "
        rest = [event.WhichOneof("event") for event in stream.events]
        assert rest[0] == "part_completed"
        assert rest[-1] == "completed"
        assert stream.reply().raw == rich()


def test_options_of_the_stream_arrive(peer: Peer, client: Any) -> None:
    peer.stream(said("x"))
    client.stream("m", "x", usage_updates=True, heartbeat_interval=20, coalesce_interval=0.05, temperature=0.5).reply()
    options = peer.requests[0].options
    assert options.usage_updates
    assert options.heartbeat_interval.ToMilliseconds() == 20_000
    assert options.coalesce_interval.ToMilliseconds() == 50
    assert peer.requests[0].request.sampling.temperature == 0.5


def test_unknown_events_and_heartbeats_are_skipped(peer: Peer, client: Any) -> None:
    unknown = Event.FromString(b"\x08\x02" + b"\xba\x06\x03abc")  # sequence 2, and field 103, which nobody knows yet
    assert unknown.WhichOneof("event") is None
    head, *rest = unfold(said("hello"))
    peer.will(head, unknown, Event(heartbeat=v1.Heartbeat()), *rest)
    with client.stream("m", "x") as stream:
        assert "".join(stream) == "hello"
        assert stream.reply().raw == said("hello")


def test_parts_and_deltas_of_unknown_kinds_are_skipped(peer: Peer, client: Any) -> None:
    events = unfold(said("hello"))
    alien = v1.Part.FromString(b"\x82\x01\x03abc")  # field 16
    started = Event(part_started=v1.PartStarted(part_index=7, part=alien))
    delta = Event(part_delta=v1.PartDelta.FromString(b"\x08\x07" + b"\x5a\x01x"))  # part 7, field 11
    peer.will(events[0], started, delta, *events[1:])
    with client.stream("m", "x") as stream:
        assert "".join(stream) == "hello"
        parts = stream.reply().raw.message.parts
    assert [part.WhichOneof("kind") for part in parts] == ["text", None]
    assert parts[1].SerializeToString() == alien.SerializeToString()  # kept, to be sent back


def test_a_delta_without_its_beginning_is_not_lost() -> None:
    fold = Fold()
    fold.feed(Event(part_delta=v1.PartDelta(part_index=0, text="a")))
    fold.feed(Event(part_delta=v1.PartDelta(part_index=1, reasoning="b")))
    fold.feed(Event(part_delta=v1.PartDelta(part_index=2, arguments_json="{}")))
    parts = fold.response().message.parts
    assert (parts[0].text, parts[1].reasoning.text, parts[2].tool_call.arguments_json) == ("a", "b", "{}")


def test_a_broken_stream_raises_and_keeps_what_arrived(peer: Peer, client: Any) -> None:
    failure = v1.ResponseFailure(response_id="resp_1", last_sequence=4, attempts=2)
    peer.will(
        *deltas("Hel", "lo"), Fail(grpc.StatusCode.UNAVAILABLE, "broke off", "STREAM_INTERRUPTED", details=[failure])
    )
    with client.stream("m", "x") as stream:
        texts = iter(stream)
        assert [next(texts), next(texts)] == ["Hel", "lo"]
        with pytest.raises(parley.StreamInterrupted) as caught:
            next(texts)
        assert stream.partial.text == "Hello"
        assert stream.partial.finish_reason == "unspecified"
        assert caught.value.retryable
        assert caught.value.attempts == 2
        assert caught.value.details.failure == failure
        with pytest.raises(parley.StreamInterrupted):  # and whoever asks again is told again
            stream.reply()


def test_ok_without_completed_is_truncated(peer: Peer, client: Any) -> None:
    peer.will(*deltas("Hel"))
    with client.stream("m", "x") as stream:
        with pytest.raises(parley.Truncated):
            stream.reply()
        with pytest.raises(parley.Truncated):
            next(iter(stream.events))
        assert stream.partial.text == "Hel"


def test_a_connection_that_breaks_is_told_apart_from_one_that_never_was(peer: Peer, client: Any) -> None:
    peer.will(*deltas("Hel"), Stall())
    with client.stream("m", "x") as stream:
        assert next(iter(stream)) == "Hel"
        assert peer.stalled.wait(5)
        peer.cut()
        with pytest.raises(parley.ConnectionFailed, match="before the answer was complete"):
            next(iter(stream))


def test_a_failure_before_the_first_event_is_retried_invisibly(peer: Peer, client: Any) -> None:
    peer.will(Fail(grpc.StatusCode.UNAVAILABLE, "going away", "SHUTTING_DOWN"))
    peer.stream(said("hello"))
    assert client.stream("m", "x").reply().text == "hello"
    assert len(peer.requests) == 2


def test_leaving_the_block_cancels_the_call(peer: Peer, client: Any) -> None:
    peer.will(*deltas("Hel"), Stall())
    with client.stream("m", "x") as stream:
        for text in stream:
            assert text == "Hel"
            break
        assert peer.stalled.wait(5)
        assert not peer.cancelled.is_set()
    assert peer.cancelled.wait(5)
    with pytest.raises(parley.Cancelled):
        stream.reply()
    assert stream.partial.text == "Hel"


def test_an_exception_in_the_block_cancels_the_call_and_goes_on(peer: Peer, client: Any) -> None:
    peer.will(*deltas("Hel"), Stall())

    def use() -> None:
        with client.stream("m", "x") as stream:
            next(iter(stream))
            assert peer.stalled.wait(5)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        use()
    assert peer.cancelled.wait(5)


def test_cancel_from_another_thread(peer: Peer) -> None:
    peer.will(*deltas("Hel"), Stall())
    with parley.Client(peer.address) as client, client.stream("m", "x") as stream:
        assert next(stream) == "Hel"

        def cancel() -> None:
            peer.stalled.wait(5)
            stream.cancel()

        thread = threading.Thread(target=cancel)
        thread.start()
        with pytest.raises(parley.Cancelled):
            next(stream)
        thread.join()
    assert peer.cancelled.wait(5)


async def test_cancel_from_another_task(peer: Peer) -> None:
    peer.will(*deltas("Hel"), Stall())
    async with parley.AsyncClient(peer.address) as client, client.stream("m", "x") as stream:
        assert await anext(stream) == "Hel"

        async def cancel() -> None:
            await asyncio.to_thread(peer.stalled.wait, 5)
            stream.cancel()

        task = asyncio.create_task(cancel())
        with pytest.raises(parley.Cancelled):
            await anext(stream)
        await task
    assert await asyncio.to_thread(peer.cancelled.wait, 5)


async def test_cancelling_the_reading_task_is_not_swallowed(peer: Peer) -> None:
    peer.will(*deltas("Hel"), Stall())
    async with parley.AsyncClient(peer.address) as client:

        async def read() -> None:
            async with client.stream("m", "x") as stream:
                async for _ in stream:
                    pass

        task = asyncio.create_task(read())
        assert await asyncio.to_thread(peer.stalled.wait, 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await asyncio.to_thread(peer.cancelled.wait, 5)


async def test_a_timeout_around_the_reading_works(peer: Peer) -> None:
    peer.will(*deltas("Hel"), Stall())
    async with parley.AsyncClient(peer.address) as client, client.stream("m", "x") as stream:
        assert await anext(stream) == "Hel"
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await anext(stream)
    assert await asyncio.to_thread(peer.cancelled.wait, 5)


def test_deadline_in_the_midst_of_a_stream(peer: Peer, client: Any) -> None:
    peer.will(*deltas("Hel"), Stall())
    with client.stream("m", "x", timeout=0.3) as stream:
        with pytest.raises(parley.DeadlineExceeded):
            stream.reply()
        assert stream.partial.text == "Hel"


def test_progress_counts_as_events_arrive(peer: Peer, client: Any) -> None:
    peer.stream(rich())
    seen = []
    with client.stream("m", "x", on_progress=lambda p: seen.append((p.events, p.text_chars, p.reasoning_chars))) as s:
        s.reply()
    assert [count for count, _, _ in seen] == list(range(1, len(seen) + 1))
    assert seen[-1][1:] == (len("Hello (not that)Wörld 🎉"), len("Let me think."))


def test_progress_knows_the_usage_and_the_time_to_the_first_output(peer: Peer, client: Any) -> None:
    peer.stream(rich())
    kept: list[parley.Progress] = []
    client.stream("m", "x", on_progress=kept.append).reply()
    progress = kept[-1]
    assert progress.usage is not None
    assert progress.usage.output_tokens == 5
    assert progress.arguments_chars == len('{"a": 1}')
    assert progress.first_output is not None
    assert 0 < progress.first_output <= progress.seconds


def test_what_the_progress_callback_raises_reaches_the_reader(peer: Peer, client: Any) -> None:
    peer.will(*deltas("Hel"), Stall())

    def stop(progress: parley.Progress) -> None:
        if progress.text_chars:
            raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"), client.stream("m", "x", on_progress=stop) as stream:
        stream.reply()
    assert peer.cancelled.wait(5)


def test_save_to_writes_the_text_and_gives_the_reply(peer: Peer, client: Any, tmp_path: Path) -> None:
    peer.stream(rich())
    path = tmp_path / "answer.txt"
    with client.stream("m", "x") as stream:
        assert next(iter(stream)) == "Hello "  # read before: written all the same
        assert stream.save_to(path).text == "Hello Wörld 🎉"
    assert path.read_text(encoding="utf-8") == "Hello Wörld 🎉"
    assert [one.name for one in tmp_path.iterdir()] == ["answer.txt"]


def test_save_to_leaves_the_file_alone_if_the_stream_breaks(peer: Peer, client: Any, tmp_path: Path) -> None:
    peer.will(*deltas("Hel", "lo"), Fail(grpc.StatusCode.UNAVAILABLE, "broke off", "STREAM_INTERRUPTED"))
    path = tmp_path / "answer.txt"
    path.write_text("before")
    with client.stream("m", "x") as stream, pytest.raises(parley.StreamInterrupted):
        stream.save_to(str(path))
    assert path.read_text() == "before"
    assert (tmp_path / "answer.txt.part").read_text() == "Hello"


def test_what_a_stream_takes_back_is_neither_in_the_reply_nor_in_the_file(
    peer: Peer, client: Any, tmp_path: Path
) -> None:
    again = unfold(said("right"))[1:]
    for event in again:
        kind = event.WhichOneof("event")
        if kind != "completed":
            getattr(event, str(kind)).part_index += 1
    fallback = Event(fallback_started=v1.FallbackStarted(first_valid_part_index=1, provider="two"))
    peer.will(*deltas("wr", "ong and longer"), fallback, *again)
    with client.stream("m", "x") as stream:
        assert stream.save_to(tmp_path / "answer.txt").text == "right"
    assert (tmp_path / "answer.txt").read_text() == "right"


def test_save_to_shows_the_text_while_it_grows(peer: Peer, tmp_path: Path) -> None:
    peer.will(*deltas("Hel"), Stall())
    part = tmp_path / "answer.txt.part"
    seen: list[str] = []

    def look() -> None:
        peer.stalled.wait(5)
        for _ in range(500):
            if part.exists() and (text := part.read_text()):
                seen.append(text)
                break
            time.sleep(0.01)  # another thread writes it within that
        stream.cancel()

    with parley.Client(peer.address) as client, client.stream("m", "x") as stream:
        thread = threading.Thread(target=look)
        thread.start()
        with pytest.raises(parley.Cancelled):
            stream.save_to(tmp_path / "answer.txt")
        thread.join()
    assert seen == ["Hel"]


def test_an_abandoned_stream_is_cancelled_when_nobody_holds_it(peer: Peer) -> None:
    peer.will(*deltas("Hel"), Stall())
    with parley.Client(peer.address) as client:
        stream = client.stream("m", "x")
        assert next(stream) == "Hel"
        assert peer.stalled.wait(5)
        del stream
        assert peer.cancelled.wait(5)
