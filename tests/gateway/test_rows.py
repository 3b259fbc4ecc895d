"""Providers of the table of rows, through a gateway that runs and sockets that are real."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest

from parley import v1
from parley.fold import fold
from tests.gateway.process import Gateway, ask, config, gateway, stream
from tests.gateway.wire import openai_answer, openai_chunk, openai_fails, openai_says, sse
from tests.upstream import Exchange, Upstream, scripted

CALLED = [{"id": "fc_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]


async def mistral(exchange: Exchange) -> None:
    """Thinks in blocks, calls a tool, and answers once it has the result; or embeds."""
    if exchange.request.method == "GET":
        await exchange.answer(200, {"data": [{"id": "small", "max_context_length": 4096}]})
    elif exchange.request.path.endswith("/embeddings"):
        rows = [{"index": n, "embedding": [float(n), 1.0]} for n in range(len(exchange.request.json["input"]))]
        await exchange.answer(200, {"data": rows, "usage": {"prompt_tokens": 3, "total_tokens": 3}})
    elif exchange.request.json["messages"][-1]["role"] == "tool":
        await exchange.answer(200, openai_answer("done"))
    else:
        thought = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}], "closed": True}
        chunks = (
            openai_chunk({"role": "assistant", "content": ""}),
            openai_chunk({"content": [thought]}),
            openai_chunk({"tool_calls": CALLED}, "tool_calls", usage={"prompt_tokens": 3, "completion_tokens": 2}),
        )
        await exchange.stream(sse(*chunks, "[DONE]"))


async def qwen(exchange: Exchange) -> None:
    """Answers nothing but streams."""
    if exchange.request.method == "GET":
        await exchange.answer(200, {"data": []})
    elif not exchange.request.json.get("stream"):
        await exchange.answer(400, {"error": {"message": "This model only support stream mode"}})
    else:
        await openai_says("put together")(exchange)


async def full(exchange: Exchange) -> None:
    """Has no room for the flex tier."""
    await openai_fails(498, "flex is full", code="capacity_exceeded")(exchange)


def posted(upstream: Upstream) -> list[tuple[str, str | None, dict[str, object]]]:
    """Paths, keys and bodies of what was asked."""
    return [(r.path, r.headers.get("authorization"), r.json) for r in upstream.requests if r.method == "POST"]


async def tool_loop(server: Gateway, upstream: Upstream) -> None:
    request = ask("mistral/small")
    request.tools.add(function=v1.FunctionTool(name="f"))
    request.tool_choice.mode = v1.ToolChoice.MODE_REQUIRED
    request.sampling.seed = 7
    request.reasoning.effort = v1.REASONING_EFFORT_HIGH
    events = [event async for event in server.stub.StreamChat(v1.StreamChatRequest(request=request), timeout=20)]
    turn = fold(events).message
    assert [part.WhichOneof("kind") for part in turn.parts] == ["reasoning", "tool_call"]
    request.messages.append(turn)
    result = v1.ToolResult(tool_call_id="fc_1", name="f", parts=[v1.Part(text="r")])
    request.messages.add(role=v1.ROLE_TOOL, parts=[v1.Part(tool_result=result)])
    answer = await server.stub.Chat(request, timeout=20)
    assert (answer.message.parts[0].text, answer.route.provider) == ("done", "mistral")
    assert not answer.warnings

    (path, key, first), (_, _, second) = posted(upstream)
    assert (path, key) == ("/v1/chat/completions", "Bearer mistral-key")
    assert first["random_seed"] == 7
    assert (first["tool_choice"], first["reasoning_effort"]) == ("any", "high")
    assert "stream_options" not in first
    said = second["messages"]
    assert isinstance(said, list)
    assert said[1]["content"] == [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}], "closed": True}]
    call_id = said[1]["tool_calls"][0]["id"]
    assert (len(call_id), said[2]["tool_call_id"]) == (9, call_id)


async def embeddings(server: Gateway, upstream: Upstream) -> None:
    request = v1.EmbedRequest(model="mistral/mistral-embed", inputs=[v1.EmbedInput(text=t) for t in "abc"])
    answer = await server.stub.Embed(request, timeout=20)
    assert [list(one.floats.values) for one in answer.embeddings] == [[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]]
    assert posted(upstream)[-1][0] == "/v1/embeddings"


@pytest.mark.asyncio
async def test_rows_serve(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        scripts = {"mistral": mistral, "dashscope": qwen, "groq": full}
        upstreams = {name: await stack.enter_async_context(scripted(script)) for name, script in scripts.items()}
        providers = {name: {"base_url": f"{upstream.base_url}/v1"} for name, upstream in upstreams.items()}
        environ = {f"{name.upper()}_API_KEY": f"{name}-key" for name in scripts}
        async with gateway(config(providers=providers), tmp_path, environ) as server:
            await tool_loop(server, upstreams["mistral"])
            await embeddings(server, upstreams["mistral"])

            whole = await server.stub.Chat(ask("dashscope/qwq-plus"), timeout=20)
            assert whole.message.parts[0].text == "puttogether"
            assert whole.usage.total_tokens == 10
            streamed = [event async for event in server.stub.StreamChat(stream("dashscope/qwq-plus"), timeout=20)]
            assert fold(streamed).message == whole.message

            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await server.stub.Chat(ask("groq/llama-3.3-70b-versatile"), timeout=20)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert len(posted(upstreams["groq"])) == 3  # worth trying again
