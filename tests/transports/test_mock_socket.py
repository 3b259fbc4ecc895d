"""The same scripts over a real socket: what aiohttp's client sees of a server that answers, stalls and breaks off."""

from __future__ import annotations

import asyncio
import json
import time

import aiohttp
import pytest

from parley_server.transports.mock import MockModel
from tests.mock_server import Running, mock_server
from tests.transports.mock_exchange import chat_body, deltas, mock, parse_events, stream_bytes

MODELS = {
    "m": MockModel(),
    "slow": MockModel(token_delay=0.01),
    "cut_early": MockModel(cut_after=0),
    "cut": MockModel(cut_after=2),
    "stall_early": MockModel(stall_after=0),
    "stall": MockModel(stall_after=2),
    "large": MockModel(size=2_000_000, chunking=1000),
    "limited": MockModel.model_validate({"errors": [{"status": 429, "retry_after": 0.5}]}),
}


async def settled(server: Running, count: int) -> None:
    """Return as soon as the server is answering so many requests."""
    for _ in range(5000):
        if server.open == count:
            return
        await asyncio.sleep(0.001)
    pytest.fail(f"{server.open} requests are being answered, not {count}")


async def test_whole_answer_and_listing() -> None:
    async with mock_server(MODELS) as server, aiohttp.ClientSession() as session:
        async with session.post(f"{server.base_url}/chat/completions", json=chat_body("over a socket")) as answer:
            assert (await answer.json())["choices"][0]["message"]["content"] == "over a socket"
        async with session.get(f"{server.base_url}/models") as answer:
            assert {row["id"] for row in (await answer.json())["data"]} == {*MODELS, "echo", "embed", "rerank"}
        assert [request.path for request in server.requests] == ["/v1/chat/completions", "/v1/models"]


@pytest.mark.parametrize("model", ["m", "slow", "large"])
async def test_stream_has_the_bytes_of_the_script(model: str) -> None:
    body = json.dumps(chat_body("a stream of words", stream=True, model=model)).encode()
    async with (
        mock_server(MODELS) as server,
        aiohttp.ClientSession() as session,
        session.post(f"{server.base_url}/chat/completions", data=body) as answer,
    ):
        assert answer.content_type == "text/event-stream"
        streamed = await answer.read()
    settings = MODELS[model].model_dump(exclude={"token_delay"}, exclude_defaults=True)
    expected = await stream_bytes(mock(**settings), "a stream of words")
    assert deltas(parse_events(streamed), "content") == deltas(parse_events(expected), "content")


async def test_scripted_error() -> None:
    async with (
        mock_server(MODELS) as server,
        aiohttp.ClientSession() as session,
        session.post(f"{server.base_url}/chat/completions", json=chat_body(model="limited")) as answer,
    ):
        assert answer.status == 429
        assert (answer.headers["retry-after"], answer.headers["retry-after-ms"]) == ("1", "500")


async def test_connection_breaks() -> None:
    async with mock_server(MODELS) as server, aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.post(f"{server.base_url}/chat/completions", json=chat_body(model="cut_early"))
        async with session.post(
            f"{server.base_url}/chat/completions", json=chat_body(model="cut", stream=True)
        ) as answer:
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.read()
        await settled(server, 0)


@pytest.mark.parametrize("model", ["stall_early", "stall"])
async def test_a_stalled_answer_ends_when_its_client_goes(model: str) -> None:
    async with mock_server(MODELS) as server, aiohttp.ClientSession() as session:

        async def read() -> bytes:
            async with session.post(
                f"{server.base_url}/chat/completions", json=chat_body(model=model, stream=True)
            ) as a:
                return await a.read()

        task = asyncio.create_task(read())
        await settled(server, 1)
        task.cancel()
        await settled(server, 0)


async def test_the_server_ends_with_its_block_although_an_answer_stalls() -> None:
    async with aiohttp.ClientSession() as session:
        async with mock_server(MODELS) as server:
            body = chat_body(model="stall", stream=True)
            answer = await session.post(f"{server.base_url}/chat/completions", json=body)
            started = time.monotonic()
        assert time.monotonic() - started < 2
        answer.close()
