"""The gateway in front of Replicate: predictions made, listened to, waited for, and stopped when nobody wants them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from parley import v1
from parley.fold import fold
from tests.gateway.process import Gateway, ask, config, gateway, stream
from tests.upstream import Exchange, Upstream, scripted

MODEL = "replicate/meta/llama"
SCHEMAS = {
    "Input": {"properties": {"prompt": {"type": "string"}, "max_new_tokens": {"type": "integer"}}},
    "Output": {"type": "array", "items": {"type": "string"}},
}
DESCRIBED = {
    "owner": "meta",
    "name": "llama",
    "latest_version": {"openapi_schema": {"components": {"schemas": SCHEMAS}}},
}


@dataclass
class Predictions:
    """Replicate with one model that says two words, in as many polls as a test wants."""

    polls: int = 0
    """Polls that find it under way."""
    streams: bool = True
    stalls: bool = False
    """The stream stops after its first word."""
    elsewhere: str = ""
    """Where the stream is, if not here."""
    end: dict[str, Any] = field(default_factory=lambda: {"status": "succeeded", "output": ["Hel", "lo"]})
    upstream: Upstream = field(init=False)

    async def __call__(self, exchange: Exchange) -> None:
        match exchange.request.path:
            case "/v1/collections/language-models":
                await exchange.answer(200, {"models": [DESCRIBED]}, {"connection": "close"})
                await exchange.hang_up()
            case "/v1/models/meta/llama":
                await exchange.answer(200, DESCRIBED)
            case "/v1/models/meta/llama/predictions" | "/v1/predictions/p1":
                over = self.polls <= 0
                self.polls -= 1
                await exchange.answer(201, self._prediction(over=over))
            case "/stream":
                await exchange.head(200, {"content-type": "text/event-stream"})
                await exchange.chunk(b"event: output\nid: 1\ndata: Hel\n\n")
                if self.stalls:
                    await exchange.stall()
                    return
                await exchange.chunk(b"event: output\nid: 2\ndata: lo\n\nevent: done\nid: 3\ndata: {}\n\n")
                await exchange.end()
            case "/v1/predictions/p1/cancel":
                await exchange.answer(200, {"id": "p1", "status": "canceled"})
            case path:
                await exchange.answer(404, {"detail": f"nothing at {path}"})

    def _prediction(self, *, over: bool) -> dict[str, Any]:
        said: dict[str, Any] = {"id": "p1", "model": "meta/llama", "status": "processing", "output": None}
        if self.streams:
            said["urls"] = {"stream": self.elsewhere or f"{self.upstream.base_url}/stream"}
        if over:
            said |= {"metrics": {"input_token_count": 7, "output_token_count": 2}, **self.end}
        return said

    @property
    def asked(self) -> list[str]:
        """What was asked of predictions, in order."""
        return [
            f"{request.method} {request.path.removeprefix('/v1')}"
            for request in self.upstream.requests
            if "collections" not in request.path and not request.path.endswith("/llama")
        ]


MADE, POLLED, STREAMED = "POST /models/meta/llama/predictions", "GET /predictions/p1", "GET /stream"
CANCELLED = "POST /predictions/p1/cancel"


@asynccontextmanager
async def scene(predictions: Predictions, folder: Path) -> AsyncIterator[Gateway]:
    async with scripted(predictions) as upstream:
        predictions.upstream = upstream
        providers = {"replicate": {"base_url": f"{upstream.base_url}/v1", "api_key": "env:TOKEN"}}
        settings = config(providers=providers, retry={"base": 0.001, "attempts_per_target": 1})
        async with gateway(settings, folder, {"TOKEN": "r8-token"}) as server:
            yield server


async def read(server: Gateway, **fields: Any) -> v1.ChatResponse:
    return fold([event async for event in server.stub.StreamChat(stream(MODEL, **fields))])


async def test_a_whole_answer(tmp_path: Path) -> None:
    predictions = Predictions(polls=1)
    async with scene(predictions, tmp_path) as server:
        response = await server.stub.Chat(ask(MODEL, sampling=v1.SamplingOptions(max_output_tokens=9, top_p=0.5)))
        assert response.message.parts[0].text == "Hello"
        assert (response.usage.input_tokens, response.usage.output_tokens) == (7, 2)
        assert (response.route.provider, response.route.provider_response_id) == ("replicate", "p1")
        assert [warning.field for warning in response.warnings] == ["sampling.top_p"]
        assert predictions.asked == [MADE, POLLED]
        made = next(request for request in predictions.upstream.requests if request.method == "POST")
        assert made.json == {"input": {"prompt": "hello", "max_new_tokens": 9}}
        assert (made.headers["authorization"], made.headers["prefer"]) == ("Bearer r8-token", "wait=5")


async def test_a_stream(tmp_path: Path) -> None:
    predictions = Predictions(polls=1)
    async with scene(predictions, tmp_path) as server:
        response = await read(server)
        assert response.message.parts[0].text == "Hello"
        assert response.usage.output_tokens == 2
        assert response.finish_reason == v1.FINISH_REASON_STOP
        assert predictions.asked == [MADE, STREAMED, POLLED]
        listened = next(request for request in predictions.upstream.requests if request.path == "/stream")
        assert listened.headers["authorization"] == "Bearer r8-token"
        assert listened.headers["accept"] == "text/event-stream"


@pytest.mark.parametrize("how", ["no stream", "elsewhere"])
async def test_an_answer_that_cannot_be_streamed_is_a_stream_of_one(how: str, tmp_path: Path) -> None:
    """A stream at a host that nobody knows to be Replicate's is not asked for: the key would go with it."""
    predictions = Predictions(polls=1, streams=how == "elsewhere", elsewhere="https://replicate.example/stream")
    async with scene(predictions, tmp_path) as server:
        response = await read(server)
        assert response.message.parts[0].text == "Hello"
        assert predictions.asked == [MADE, POLLED]


async def test_a_prediction_that_fails(tmp_path: Path) -> None:
    predictions = Predictions(end={"status": "failed", "error": "E005 flagged as sensitive"})
    async with scene(predictions, tmp_path) as server:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.stub.Chat(ask(MODEL))
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert predictions.asked == [MADE]


@pytest.mark.parametrize("streaming", [False, True])
async def test_cancelling_stops_the_prediction(streaming: bool, tmp_path: Path) -> None:
    predictions = Predictions(polls=10**6, stalls=True)
    async with scene(predictions, tmp_path) as server:
        call = server.stub.StreamChat(stream(MODEL)) if streaming else server.stub.Chat(ask(MODEL))
        if streaming:
            async for event in call:
                if event.HasField("part_delta"):
                    break
        else:
            await predictions.upstream.until(lambda: POLLED in predictions.asked)
        call.cancel()
        assert await predictions.upstream.until(lambda: CANCELLED in predictions.asked)
        assert predictions.asked[-1] == CANCELLED
        if streaming:  # the connection of the stream is closed, that of the other calls is kept
            assert await predictions.upstream.until(lambda: predictions.upstream.open_connections == 1)


@pytest.mark.parametrize("streaming", [False, True])
async def test_the_deadline_stops_the_prediction(streaming: bool, tmp_path: Path) -> None:
    predictions = Predictions(polls=10**6, stalls=True)
    async with scene(predictions, tmp_path) as server:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            if streaming:
                async for _ in server.stub.StreamChat(stream(MODEL), timeout=0.5):
                    pass
            else:
                await server.stub.Chat(ask(MODEL), timeout=0.5)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert await predictions.upstream.until(lambda: CANCELLED in predictions.asked)
        assert predictions.asked.count(CANCELLED) == 1


async def test_shutting_down_stops_predictions(tmp_path: Path) -> None:
    predictions = Predictions(polls=10**6, stalls=True)
    async with scripted(predictions) as upstream:
        predictions.upstream = upstream
        providers = {"replicate": {"base_url": f"{upstream.base_url}/v1", "api_key": "env:TOKEN"}}
        settings = config(providers=providers, server={"drain": 0.1, "drain_delay": 0})
        async with gateway(settings, tmp_path, {"TOKEN": "r8-token"}) as server:
            call = server.stub.Chat(ask(MODEL))
            asking = asyncio.ensure_future(call)
            await upstream.until(lambda: POLLED in predictions.asked)
            server.terminate()
            await server.exit_code()
            await asyncio.gather(asking, return_exceptions=True)
        assert predictions.asked[-1] == CANCELLED


async def test_the_listing(tmp_path: Path) -> None:
    async with scene(Predictions(), tmp_path) as server:
        for _ in range(100):
            models = (await server.stub.ListModels(v1.ListModelsRequest(provider="replicate"))).models
            if models:
                break
            await asyncio.sleep(0.02)
        assert [(model.id, list(model.operations)) for model in models] == [(MODEL, ["chat"])]
