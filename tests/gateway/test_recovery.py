"""Streams that a provider cuts off, over real sockets: what the client sees of each policy, and who is asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from parley import v1
from parley.fold import fold
from parley.status import from_rpc
from tests.gateway.process import Gateway, config, gateway, stream
from tests.gateway.wire import (
    anthropic_answer,
    anthropic_delta,
    by_model,
    named_events,
    openai_chunk,
    openai_says,
    sse,
)
from tests.upstream import Exchange, Script, Upstream, scripted

Options = v1.RoutingOptions
RESTART, CONTINUE = Options.MID_STREAM_FALLBACK_RESTART, Options.MID_STREAM_FALLBACK_CONTINUE
ROLE = openai_chunk({"role": "assistant"})


def cut(*chunks: Any, how: str = "hang_up") -> Script:
    """Sends chunks and is gone."""

    async def script(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": "text/event-stream"})
        await exchange.chunk(sse(ROLE, *chunks))
        await asyncio.sleep(0.05)
        if how == "in_band":
            await exchange.chunk(sse({"error": {"message": "server error", "type": "server_error", "code": 500}}))
            await exchange.end()
        else:
            await (exchange.reset() if how == "reset" else exchange.hang_up())

    return script


def word(text: str) -> Any:
    return openai_chunk({"content": text})


async def goes_on_for_ever(exchange: Exchange) -> None:
    await exchange.head(200, {"content-type": "text/event-stream"})
    await exchange.chunk(sse(ROLE, word(" and on")))
    await exchange.stall()


TOOL_CALL = openai_chunk({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"a'}}]})


class Scene:
    def __init__(self, server: Gateway, first: Upstream, second: Upstream) -> None:
        self.server = server
        self.first = first
        self.second = second

    @property
    def asked(self) -> tuple[int, int]:
        return _posts(self.first), _posts(self.second)

    def call(self, policy: Any, continuation: Any = 0, **fields: Any) -> Any:
        request = stream("one/m", "tell me", **fields)
        routing = request.request.routing
        routing.mid_stream_fallback, routing.continuation = policy, continuation
        routing.fallbacks.add(model="two/m")
        return self.server.stub.StreamChat(request)

    async def read(self, policy: Any, continuation: Any = 0, **fields: Any) -> tuple[list[Any], Any]:
        events: list[v1.StreamChatResponse] = []
        try:
            async for event in self.call(policy, continuation, **fields):
                events.append(event)  # noqa: PERF401  # what came before an error counts
        except grpc.aio.AioRpcError as error:
            return events, from_rpc(error, "")
        return events, None


def _posts(upstream: Upstream) -> int:
    return sum(1 for request in upstream.requests if request.method == "POST")


@asynccontextmanager
async def scene(
    tmp_path: Path, first: Script, second: Script, *, kind: str = "openai-compatible"
) -> AsyncIterator[Scene]:
    async with scripted(by_model({"m": first})) as one, scripted(by_model({"m": second})) as two:
        other: dict[str, Any] = {
            "kind": kind,
            "base_url": f"{two.base_url}/v1" if kind != "anthropic" else two.base_url,
        }
        if kind == "anthropic":
            other["api_key"] = "env:KEY"
        providers = {"one": {"kind": "openai-compatible", "base_url": f"{one.base_url}/v1"}, "two": other}
        async with gateway(config(providers=providers), tmp_path, {"KEY": "sk-test"}) as server:
            yield Scene(server, one, two)


def text(events: list[v1.StreamChatResponse]) -> str:
    return "".join(part.text for part in fold(events).message.parts)


def check(events: list[v1.StreamChatResponse]) -> None:
    """Numbers without gaps, parts that begin once and never again."""
    assert [event.sequence for event in events if event.sequence] == list(range(1, len(events) + 1))
    begun = [event.part_started.part_index for event in events if event.HasField("part_started")]
    assert begun == list(range(len(begun)))
    assert sum(event.HasField("started") for event in events) == 1


@pytest.mark.parametrize("how", ["hang_up", "reset", "in_band"])
@pytest.mark.parametrize(
    ("policy", "continuation", "said"),
    [
        (0, 0, None),
        (Options.MID_STREAM_FALLBACK_FAIL, 0, None),
        (RESTART, 0, " a time."),
        (CONTINUE, 0, "Long ago.\n\nOnce upon a time."),
        (CONTINUE, Options.CONTINUATION_PARAGRAPH, "Long ago.\n\n a time."),
        (CONTINUE, Options.CONTINUATION_SUMMARIZE, "Long ago.\n\nOnce upon a time."),
    ],
    ids=["unspecified", "fail", "restart", "exact", "paragraph", "summarize"],
)
async def test_a_cut_stream(policy: Any, continuation: Any, said: str | None, how: str, tmp_path: Path) -> None:
    broken = cut(word("Long ago.\n\n"), word("Once upon"), how=how)
    async with scene(tmp_path, broken, openai_says(" a time.")) as there:
        # words are split at spaces: the scripted provider sends "", "a", "time."
        events, error = await there.read(policy, continuation)
        if said is None:
            assert error is not None
            assert error.code is grpc.StatusCode.UNAVAILABLE
            assert there.asked == (1, 0)
            return
        assert error is None
        check(events)
        assert text(events).replace(" ", "") == said.replace(" ", "")
        assert there.asked == (1, 1)
        end = events[-1].completed
        assert [attempt.provider for attempt in end.route.attempts] == ["one", "two"]
        assert [attempt.status.code for attempt in end.route.attempts] == [14, 0]
        assert end.route.provider == "two"
        used = [attempt.usage.output_tokens for attempt in end.route.attempts]
        assert end.usage.output_tokens == sum(used)
        fallback = next(event.fallback_started for event in events if event.HasField("fallback_started"))
        assert fallback.provider == "two"
        assert fallback.failed_attempt.provider == "one"


async def test_the_conversation_that_the_next_target_sees(tmp_path: Path) -> None:
    async with scene(tmp_path, cut(word("Once upon")), openai_says("a time")) as there:
        await there.read(CONTINUE)
        (asked,) = [request.json for request in there.second.requests if request.method == "POST"]
        assert [(m["role"], m["content"]) for m in asked["messages"][:2]] == [
            ("user", "tell me"),
            ("assistant", "Once upon"),
        ]
        assert asked["messages"][2]["role"] == "user"


async def test_another_dialect_goes_on(tmp_path: Path) -> None:
    async def claude(exchange: Exchange) -> None:
        start = anthropic_answer("") | {"content": [], "stop_reason": None}
        await exchange.stream(
            named_events(
                {"type": "message_start", "message": start},
                {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
                anthropic_delta("The quick "),
                anthropic_delta("brown fox jumps"),
                {"type": "content_block_stop", "index": 0},
                {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}},
                {"type": "message_stop"},
            )
        )

    async with scene(tmp_path, cut(word("The quick"), word(" brown fox")), claude, kind="anthropic") as there:
        events, error = await there.read(CONTINUE)
        assert error is None
        check(events)
        assert text(events) == "The quick brown fox jumps"


@pytest.mark.parametrize("policy", [RESTART, CONTINUE], ids=["restart", "continue"])
async def test_within_a_tool_call(policy: Any, tmp_path: Path) -> None:
    tool = v1.Tool(function=v1.FunctionTool(name="f"))
    async with scene(tmp_path, cut(TOOL_CALL), openai_says("no tool")) as there:
        events, error = await there.read(policy, tools=[tool])
        assert (error is None) == (policy == RESTART)
        if error is None:
            check(events)
            assert [part.WhichOneof("kind") for part in fold(events).message.parts] == ["text"]
        else:
            assert there.asked == (1, 0)


async def test_structured_output_is_not_continued(tmp_path: Path) -> None:
    schema = v1.OutputOptions(json_schema=v1.JsonSchemaFormat(json_schema=json.dumps({"type": "object"})))
    async with scene(tmp_path, cut(word('{"a')), openai_says("{}")) as there:
        _, error = await there.read(CONTINUE, output=schema)
        assert error is not None
        assert there.asked == (1, 0)


async def test_one_budget_for_all_of_it(tmp_path: Path) -> None:
    async with scene(tmp_path, cut(word("one ")), cut(word("two "))) as there:
        events, error = await there.read(CONTINUE)
        assert error is not None
        assert sum(there.asked) == 4  # retry.max_attempts
        assert text(events).startswith("one two ")


async def test_going_away_closes_whoever_goes_on(tmp_path: Path) -> None:
    async with scene(tmp_path, cut(word("on")), goes_on_for_ever) as there:
        call = there.call(CONTINUE)
        async for event in call:
            if event.HasField("fallback_started"):
                break
        assert there.second.open_connections == 1
        call.cancel()
        assert await there.second.closed_within(0.5)
        assert await there.first.closed_within(0.5)
