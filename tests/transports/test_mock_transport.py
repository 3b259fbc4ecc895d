"""The mock transport plays scripts as a wire would: delays, faults, long answers, cancellation, captured requests."""

from __future__ import annotations

import asyncio
import json
import stat
from contextlib import aclosing
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from parley_server.core.errors import ProtocolError, StreamInterrupted, Unavailable
from parley_server.transports.base import Incoming, Outgoing
from parley_server.transports.mock import Captured, CaptureFile, MockModel, MockTransport, read_captured
from tests.transports.mock_exchange import (
    BASE_URL,
    ask,
    asking,
    chat_body,
    deltas,
    message,
    mock,
    parse_events,
    say,
    send,
    slept,
    stream,
    stream_bytes,
)

WORDS = "one two three four"  # a stream of eight events: role, four words, finish, [DONE], and usage if asked for


async def open_stream(transport: MockTransport, text: str = WORDS, **fields: Any) -> Incoming:
    return await send(transport, "/chat/completions", chat_body(text, stream=True, **fields))


async def until_broken(incoming: Incoming) -> bytes:
    """All that arrives before the connection breaks."""
    body = b""
    try:
        async for block in incoming:
            body += block
    except StreamInterrupted:
        return body
    pytest.fail("the connection did not break")


class TestDelays:
    async def test_pieces_of_a_stream_come_one_by_one(self) -> None:
        transport = mock(first_token_delay=2, token_delay=0.5)
        incoming = await open_stream(transport)
        blocks = [block async for block in incoming]
        assert slept(transport) == [2, 0.5, 0.5, 0.5]
        assert [len(block.split(b"\n\n")) - 1 for block in blocks] == [1, 1, 1, 1, 3]

    async def test_without_delays_a_stream_comes_at_once(self) -> None:
        incoming = await open_stream(mock())
        assert len([block async for block in incoming]) == 1

    async def test_a_whole_answer_takes_the_sum_before_its_head(self) -> None:
        transport = mock(first_token_delay=2, token_delay=0.5)
        await send(transport, "/chat/completions", chat_body(WORDS))
        assert slept(transport) == [3.5]

    async def test_role_comes_before_the_first_delay(self) -> None:
        incoming = await open_stream(mock(first_token_delay=3600))
        (first,) = parse_events(await anext(aiter(incoming)))
        assert first["choices"][0]["delta"]["role"] == "assistant"

    async def test_embeddings_take_their_time(self) -> None:
        transport = mock(first_token_delay=2)
        await ask(transport, "/embeddings", {"model": "m", "input": "x"})
        assert slept(transport) == [2]


class TestScriptedErrors:
    async def test_consumed_in_order_then_good_answers(self) -> None:
        transport = mock(errors=[{"status": 503}, {}, {"status": 429, "retry_after": 2}])
        statuses = [(await ask(transport, "/chat/completions", chat_body()))[0] for _ in range(5)]
        assert statuses == [503, 200, 429, 200, 200]

    async def test_repeated_for_ever(self) -> None:
        transport = mock(errors=[{"status": 500}, {}], repeat_errors=True)
        statuses = [(await ask(transport, "/embeddings", {"model": "m", "input": "x"}))[0] for _ in range(6)]
        assert statuses == [500, 200] * 3

    async def test_each_model_has_its_own(self) -> None:
        error = MockModel.model_validate({"errors": [{"status": 500}]})
        transport = MockTransport({"a": error, "b": error})
        for model in ("a", "b"):
            assert (await ask(transport, "/chat/completions", chat_body(model=model)))[0] == 500
            assert (await ask(transport, "/chat/completions", chat_body(model=model)))[0] == 200

    async def test_a_refused_request_uses_none_up(self) -> None:
        transport = mock(errors=[{"status": 503}])
        assert (await ask(transport, "/chat/completions", {"model": "m", "messages": []}))[0] == 400
        assert (await ask(transport, "/chat/completions", chat_body()))[0] == 503

    @pytest.mark.parametrize(
        ("retry_after", "headers"),
        [(2, {"retry-after": "2"}), (0.25, {"retry-after": "1", "retry-after-ms": "250"}), (0, {"retry-after": "0"})],
    )
    async def test_retry_after(self, retry_after: float, headers: dict[str, str]) -> None:
        incoming = await open_stream(mock(errors=[{"status": 429, "retry_after": retry_after}]))
        assert incoming.status == 429
        assert {name: value for name, value in incoming.headers.items() if name.startswith("retry")} == headers

    async def test_openais_words_for_a_status_or_ones_own(self) -> None:
        own = {"status": 429, "type": "insufficient_quota", "code": "insufficient_quota", "message": "Pay."}
        transport = mock(errors=[{"status": 429}, own, {"status": 418}, {"status": 502}])
        errors = [(await ask(transport, "/chat/completions", chat_body()))[1]["error"] for _ in range(4)]
        assert (errors[0]["type"], errors[0]["code"]) == ("requests", "rate_limit_exceeded")
        assert errors[1] == {
            "message": "Pay.",
            "type": "insufficient_quota",
            "param": None,
            "code": "insufficient_quota",
        }
        assert (errors[2]["type"], errors[3]["type"]) == ("invalid_request_error", "server_error")

    async def test_a_body_that_is_not_json(self) -> None:
        incoming = await open_stream(mock(errors=[{"status": 502, "body": "<html>Bad gateway</html>"}]))
        assert incoming.headers["content-type"] == "text/html"
        assert await incoming.read(100) == b"<html>Bad gateway</html>"

    async def test_one_answer_breaks_and_the_next_is_good(self) -> None:
        transport = mock(errors=[{"cut_after": 2}])
        await until_broken(await open_stream(transport))
        assert "".join(deltas(await stream(transport, WORDS), "content")) == WORDS


class TestFaults:
    @pytest.mark.parametrize("events", [1, 2, 5, 6])
    async def test_cut_after_so_many_events(self, events: int) -> None:
        transport = mock(cut_after=events)
        whole = await stream_bytes(mock(), WORDS)
        broken = await until_broken(await open_stream(transport))
        assert whole.startswith(broken)
        assert len(parse_events(broken)) == events
        assert transport.open == 0

    @pytest.mark.parametrize("streaming", [True, False])
    async def test_cut_before_the_head(self, streaming: bool) -> None:
        transport = mock(cut_after=0)
        with pytest.raises(Unavailable):
            await send(transport, "/chat/completions", chat_body(stream=streaming))
        assert transport.open == 0

    @pytest.mark.parametrize("way", ["cut_after", "stall_after", "error_after", "malformed_after"])
    async def test_a_number_beyond_the_end_breaks_nothing(self, way: str) -> None:
        assert await stream_bytes(mock(**{way: 7}), WORDS) == await stream_bytes(mock(), WORDS)

    @pytest.mark.parametrize("after", [0, 1, 3])
    async def test_an_error_inside_the_stream_is_its_last_event(self, after: int) -> None:
        events = await stream(mock(error_after=after), WORDS)
        assert len(events) == after + 1
        assert events[-1]["error"]["type"] == "server_error"

    async def test_an_error_inside_the_stream_in_ones_own_words(self) -> None:
        error = {"error_after": 2, "type": "insufficient_quota", "code": "q", "message": "Pay."}
        events = await stream(mock(errors=[error]), WORDS)
        assert events[-1]["error"] == {"message": "Pay.", "type": "insufficient_quota", "param": None, "code": "q"}

    async def test_one_event_is_not_json(self) -> None:
        frames = (await stream_bytes(mock(malformed_after=2), WORDS)).split(b"\n\n")
        good = [frame for frame in frames if frame == b"data: [DONE]" or (frame and _is_json(frame[6:]))]
        assert len(good) == len(frames) - 2  # one is broken, one is the empty rest
        assert not _is_json(frames[2][6:])

    async def test_half_of_a_whole_answer(self) -> None:
        whole = json.dumps(await say(mock()), separators=(",", ":"), ensure_ascii=False).encode()
        incoming = await send(mock(cut_after=1), "/chat/completions", chat_body())
        assert incoming.status == 200
        assert await until_broken(incoming) == whole[: len(whole) // 2]
        malformed = await send(mock(malformed_after=1), "/chat/completions", chat_body())
        assert await malformed.read(10_000) == whole[: len(whole) // 2]

    async def test_an_error_instead_of_a_whole_answer(self) -> None:
        status, answer = await ask(mock(error_after=1), "/chat/completions", chat_body())
        assert (status, answer["error"]["type"]) == (200, "server_error")


class TestLongAnswers:
    @pytest.mark.parametrize(("size", "chunking"), [(100_000, 1000), (100_001, 7777), (10, 1000), (50_000, "words")])
    async def test_sized_answer_has_exactly_that_size(self, size: int, chunking: Any) -> None:
        transport = mock(size=size, chunking=chunking)
        events = await stream(transport, stream_options={"include_usage": True})
        text = "".join(deltas(events, "content"))
        assert len(text.encode()) == size
        assert (await message(transport))["content"] == text
        assert events[-2]["usage"]["completion_tokens"] == -(-size // 16)

    async def test_sized_answer_comes_in_blocks_of_some_kilobytes(self) -> None:
        incoming = await open_stream(mock(size=1_000_000, chunking=1000))
        assert max([len(block) async for block in incoming]) < 20_000

    @pytest.mark.parametrize("streaming", [True, False])
    async def test_endless_answer_is_bounded_by_its_reader_alone(self, streaming: bool) -> None:
        transport = mock(reply="tick tock", endless=True)
        incoming = await send(transport, "/chat/completions", chat_body(stream=streaming))
        async with aclosing(incoming):
            with pytest.raises(ProtocolError):
                await incoming.read(1_000_000)
        assert transport.open == 0

    async def test_endless_stream_repeats_its_reply(self) -> None:
        transport = mock(reply="tick tock", endless=True, token_delay=1)
        async with aclosing(await open_stream(transport)) as incoming:
            body = b"".join([block async for block in _first(incoming, 8)])
        assert "".join(deltas(parse_events(body), "content")).startswith("tick tock tick tock tick")

    async def test_an_endless_stream_lets_others_run(self) -> None:
        transport = mock(endless=True)
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        async with aclosing(await open_stream(transport)) as incoming:
            async for _ in _first(incoming, 10):
                pass
        task.cancel()
        assert turns >= 10


class TestClosing:
    @pytest.mark.parametrize("streaming", [True, False])
    async def test_cancelled_while_waiting_for_the_head(self, streaming: bool) -> None:
        transport = mock(stall_after=0)
        task = asyncio.create_task(send(transport, "/chat/completions", chat_body(stream=streaming)))
        await asyncio.sleep(0)
        assert transport.open == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert transport.open == 0

    async def test_cancelled_during_a_real_delay_before_the_head(self) -> None:
        transport = MockTransport({"m": MockModel(first_token_delay=3600)})
        task = asyncio.create_task(send(transport, "/chat/completions", chat_body()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert transport.open == 0

    @pytest.mark.parametrize("streaming", [True, False])
    async def test_cancelled_during_a_stall(self, streaming: bool) -> None:
        transport = mock(stall_after=2)
        incoming = await send(transport, "/chat/completions", chat_body(WORDS, stream=streaming))
        task = asyncio.create_task(incoming.read(10_000))
        await _settle()
        assert transport.open == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await incoming.aclose()
        assert transport.open == 0

    @pytest.mark.parametrize("settings", [{"stall_after": 2}, {"first_token_delay": 3600}])
    async def test_closing_wakes_a_reader_that_waits(self, settings: dict[str, Any]) -> None:
        transport = MockTransport({"m": MockModel.model_validate(settings)})
        incoming = await open_stream(transport)
        task = asyncio.create_task(until_broken(incoming))
        await _settle()
        await incoming.aclose()
        assert transport.open == 0
        async with asyncio.timeout(1):
            await task

    async def test_closed_unread_half_read_or_read_twice(self) -> None:
        transport = mock(token_delay=1)
        unread, half, whole = [await open_stream(transport) for _ in range(3)]
        assert transport.open == 3
        await unread.aclose()
        await anext(aiter(half))
        await half.aclose()
        await whole.read(100_000)
        assert transport.open == 0  # read to its end: the connection is free
        await whole.aclose()
        await half.aclose()
        assert transport.open == 0
        with pytest.raises(StreamInterrupted):
            await half.read(100_000)

    async def test_too_large_a_body_is_refused(self) -> None:
        incoming = await send(mock(reply="x" * 1000), "/chat/completions", chat_body())
        with pytest.raises(ProtocolError):
            await incoming.read(1000)

    async def test_a_thousand_cancelled_streams_leave_nothing(self) -> None:
        transport = mock(stall_after=2)
        tasks = [asyncio.create_task(_read_and_close(transport)) for _ in range(1000)]
        await _settle()
        assert transport.open == 1000
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert transport.open == 0
        assert len(asyncio.all_tasks()) == 1


class TestCapture:
    HEADERS = {  # noqa: RUF012
        "authorization": "Bearer sk-secret",
        "x-api-key": "sk-secret",
        "cookie": "sk-secret",
        "traceparent": "00-1",
    }

    async def sent(self, transport: MockTransport, body: Any) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = Outgoing("POST", f"{BASE_URL}/chat/completions?a=b", self.HEADERS, content)
        await (await transport.send(request, connect_timeout=1)).aclose()

    async def test_requests_are_remembered_without_credentials(self) -> None:
        transport = MockTransport({"m": MockModel()}, clock=lambda: 12.5)
        await self.sent(transport, chat_body("remember me"))
        (request,) = transport.requests
        assert (request.method, request.path, request.time) == ("POST", "/v1/chat/completions", 12.5)
        assert request.body == chat_body("remember me")
        assert request.headers == {"traceparent": "00-1"}
        assert "remember me" not in repr(request)

    async def test_a_stalled_request_is_remembered_too(self) -> None:
        transport = mock(stall_after=0)
        task = asyncio.create_task(send(transport, "/chat/completions", chat_body()))
        await asyncio.sleep(0)
        assert len(transport.requests) == 1
        task.cancel()

    async def test_only_the_latest_are_kept(self) -> None:
        transport = MockTransport({}, remember=3)
        for i in range(5):
            await self.sent(transport, {"number": i})
        assert [request.body["number"] for request in transport.requests] == [2, 3, 4]

    async def test_large_bodies_push_older_ones_out(self) -> None:
        transport = MockTransport({})
        for letter in "abc":
            await self.sent(transport, {"model": "echo", "text": letter * 2_000_000})
        assert [request.body["text"][0] for request in transport.requests] == ["b", "c"]
        await self.sent(transport, {"model": "echo", "text": "d" * 9_000_000})
        assert [request.body["text"][0] for request in transport.requests] == ["d"]

    async def test_another_process_can_read_the_file(self, tmp_path: Path) -> None:
        path = tmp_path / "requests.jsonl"
        transport = MockTransport({"m": MockModel()}, capture=CaptureFile(path), clock=lambda: 1.0)
        await self.sent(transport, chat_body("ünï\nline"))
        await self.sent(transport, b"not JSON")
        with path.open("ab") as file:
            file.write(b'{"time": 2.0, "meth')  # being written at this moment
        first, second = read_captured(path)
        assert first.body == chat_body("ünï\nline")
        assert (first.path, first.time) == ("/v1/chat/completions", 1.0)
        assert second.body is None
        assert b"sk-secret" not in path.read_bytes()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    async def test_capture_sees_the_request_before_it_is_answered(self) -> None:
        seen: list[Captured] = []
        transport = MockTransport({"m": MockModel(cut_after=0)}, capture=seen.append)
        with pytest.raises(Unavailable):
            await transport.send(asking("/chat/completions", chat_body()), connect_timeout=1)
        assert len(seen) == 1


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


async def _settle() -> None:
    for _ in islice(range(20), 20):
        await asyncio.sleep(0)


async def _read_and_close(transport: MockTransport) -> None:
    async with aclosing(await open_stream(transport)) as incoming:
        await incoming.read(10_000)


async def _first(incoming: Incoming, blocks: int) -> Any:
    async for block in incoming:
        yield block
        blocks -= 1
        if not blocks:
            return
