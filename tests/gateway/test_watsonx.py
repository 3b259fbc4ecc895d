"""The gateway in front of watsonx.ai: a key becomes a token, which opens everything there is."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import grpc
import pytest

from parley import v1
from parley.fold import fold
from tests.gateway.process import Gateway, ask, config, gateway, stream
from tests.upstream import Exchange, Upstream, scripted

MODEL = "watsonx/ibm/granite"
USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
HEAD = {"id": "chatcmpl-1", "model_id": "ibm/granite", "model": "ibm/granite", "created": 1}


def frame(said: Any, name: str = "message") -> bytes:
    return f"id: 1\nevent: {name}\ndata: {json.dumps(said)}\n\n".encode()


def chunk(content: str, finish: str | None = None) -> bytes:
    return frame({**HEAD, "choices": [{"index": 0, "delta": {"content": content}, "finish_reason": finish}]})


@dataclass
class Watsonx:
    """Token server and API in one."""

    tokens: int = 0
    breaks: bool = False
    """The stream ends in an error."""
    upstream: Upstream = field(init=False)

    async def __call__(self, exchange: Exchange) -> None:
        path = exchange.request.path.partition("?")[0]
        if path == "/identity/token":
            assert parse_qs(exchange.request.body.decode())["apikey"] == ["ibm-key"]
            self.tokens += 1
            await exchange.answer(200, {"access_token": f"token-{self.tokens}", "expires_in": 3600})
            return
        assert exchange.request.path.partition("?")[2].startswith("version=2024-10-08")
        if exchange.request.headers["authorization"] != f"Bearer token-{self.tokens}":
            await exchange.answer(401, {"errors": [{"code": "authentication_token_expired", "message": "expired"}]})
            return
        await self._serve(path, exchange)

    async def _serve(self, path: str, exchange: Exchange) -> None:
        match path:
            case "/ml/v1/foundation_model_specs":
                row = {"model_id": "ibm/granite", "functions": [{"id": "text_chat"}]}
                await exchange.answer(200, {"resources": [row]})
            case "/ml/v1/text/chat":
                choice = {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}
                await exchange.answer(200, {**HEAD, "choices": [choice], "usage": USAGE})
            case "/ml/v1/text/chat_stream" if self.breaks:
                problem = {"errors": [{"code": "downstream_request_failed", "message": "it broke"}], "status_code": 500}
                await exchange.stream(chunk("Hel"), frame(problem, "error"))
            case "/ml/v1/text/chat_stream" | "/ml/v1/deployments/d-1/text/chat_stream":
                await exchange.stream(
                    chunk("Hel"), chunk("lo"), chunk("", "stop"), frame({**HEAD, "choices": [], "usage": USAGE})
                )
            case "/ml/v1/text/embeddings":
                rows = [{"embedding": [float(len(text))]} for text in exchange.request.json["inputs"]]
                await exchange.answer(200, {"results": rows, "input_token_count": len(rows)})
            case "/ml/v1/text/rerank":
                results = [{"index": 1, "score": 0.5}, {"index": 0, "score": 0.25}]
                await exchange.answer(200, {"results": results, "input_token_count": 3})
            case _:
                await exchange.answer(404, {"errors": [{"code": "model_not_supported", "message": f"no {path}"}]})

    def sent(self, operation: str) -> list[Any]:
        """Bodies of the calls to `operation`."""
        return [r.json for r in self.upstream.requests if r.path.partition("?")[0].endswith(f"/{operation}")]


@asynccontextmanager
async def scene(watsonx: Watsonx, folder: Path) -> AsyncIterator[Gateway]:
    async with scripted(watsonx) as upstream:
        watsonx.upstream = upstream
        provider = {
            "base_url": upstream.base_url,
            "iam_url": f"{upstream.base_url}/identity/token",
            "api_key": "env:KEY",
            "project_id": "p-1",
        }
        async with gateway(config(providers={"watsonx": provider}), folder, {"KEY": "ibm-key"}) as server:
            yield server


async def test_everything_it_does(tmp_path: Path) -> None:
    watsonx = Watsonx()
    async with scene(watsonx, tmp_path) as server:
        response = await server.stub.Chat(ask(MODEL))
        assert response.message.parts[0].text == "Hello"
        assert (response.usage.input_tokens, response.route.provider) == (7, "watsonx")
        streamed = fold([event async for event in server.stub.StreamChat(stream(MODEL))])
        assert streamed.message.parts[0].text == "Hello"
        assert streamed.usage.output_tokens == 2
        deployed = fold([event async for event in server.stub.StreamChat(stream("watsonx/deployment/d-1"))])
        assert deployed.message.parts[0].text == "Hello"
        vectors = await server.stub.Embed(
            v1.EmbedRequest(model="watsonx/ibm/slate", inputs=[v1.EmbedInput(text="a" * n) for n in range(1, 1003)])
        )
        assert [row.floats.values[0] for row in vectors.embeddings] == list(range(1, 1003))
        ranked = await server.stub.Rerank(v1.RerankRequest(model="watsonx/x/ranker", query="q", documents=["a", "b"]))
        assert [result.index for result in ranked.results] == [1, 0]
        assert watsonx.tokens == 1
        assert watsonx.sent("chat") == [
            {"model_id": "ibm/granite", "project_id": "p-1", "messages": [{"role": "user", "content": "hello"}]}
        ]
        assert sorted(len(body["inputs"]) for body in watsonx.sent("embeddings")) == [2, 1000]


async def test_an_error_in_a_stream(tmp_path: Path) -> None:
    watsonx = Watsonx(breaks=True)
    async with scene(watsonx, tmp_path) as server:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in server.stub.StreamChat(stream(MODEL)):
                pass
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_key_that_is_refused_is_an_operators_matter(tmp_path: Path) -> None:
    """The token is new, so fetching another one would not help."""
    watsonx = Watsonx()
    async with scene(watsonx, tmp_path) as server:
        await server.stub.Chat(ask(MODEL))
        watsonx.tokens += 1  # the server has forgotten the token that it gave
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.stub.Chat(ask(MODEL))
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
