"""Gemini behind the real gateway: with a key, and on Google Cloud with what a metadata server gives."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2 as details
from google.rpc.status_pb2 import Status

from parley import v1
from parley.fold import Fold
from tests.gateway.process import Gateway, ask, config, gateway, stream
from tests.upstream import Exchange, Upstream, scripted

pytestmark = pytest.mark.asyncio(loop_scope="module")

SIGNATURE = "c2lnbmVk"
COUNTS = {"promptTokenCount": 7, "candidatesTokenCount": 3, "thoughtsTokenCount": 2, "totalTokenCount": 12}
CALL = {"functionCall": {"name": "weather", "args": {"city": "Oslo"}}, "thoughtSignature": SIGNATURE}
LISTING = {
    "models": [{"name": "models/gemini-listed", "supportedGenerationMethods": ["generateContent"], "thinking": True}]
}


def says(*parts: dict[str, Any], finish: str = "STOP") -> dict[str, Any]:
    """An answer, or a chunk of one where `finish` is empty."""
    candidate = {"content": {"role": "model", "parts": list(parts)}, "index": 0}
    return {
        "candidates": [candidate | ({"finishReason": finish} if finish else {})],
        "usageMetadata": COUNTS,
        "modelVersion": "gemini-answers",
        "responseId": "resp-1",
    }


async def provider(exchange: Exchange) -> None:
    """The Gemini API, as far as it is needed here."""
    path = urlsplit(exchange.request.path).path
    verb = path.rpartition(":")[2]
    match verb:
        case "generateContent" if "tools" in exchange.request.json:
            await exchange.answer(200, says(CALL))
        case "generateContent" if "gemini-limited" in path:
            quota = {"quotaId": "GenerateRequestsPerDayPerProject", "quotaValue": "50"}
            failure = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [quota]}
            said = {"code": 429, "message": "Quota.", "status": "RESOURCE_EXHAUSTED", "details": [failure]}
            await exchange.answer(429, {"error": said})
        case "generateContent":
            await exchange.answer(200, says({"text": "Thought.", "thought": True}, {"text": "Hello."}))
        case "streamGenerateContent":
            chunks = [says({"text": word}, finish="") for word in ("Grüß ", "🌍", " dich")]
            chunks.append(says({"text": "", "thoughtSignature": SIGNATURE}))
            data = "".join(f"data: {json.dumps(chunk, ensure_ascii=False)}\r\n\r\n" for chunk in chunks).encode()
            await exchange.head(200, {"content-type": "text/event-stream"})
            await exchange.drip(data, size=7)
            await exchange.end()
        case "batchEmbedContents":
            vectors = [{"values": [float(n), 0.5]} for n, _ in enumerate(exchange.request.json["requests"])]
            await exchange.answer(200, {"embeddings": vectors})
        case "predict":
            rows = [{"embeddings": {"values": [1.0, 2.0], "statistics": {"token_count": 4}}}]
            await exchange.answer(200, {"predictions": rows})
        case "rawPredict":
            await exchange.answer(200, CLAUDE_SAYS)
        case _ if exchange.request.method == "GET":
            await exchange.answer(200, LISTING if path.endswith("/models") else {})
        case _:
            await exchange.answer(404, {"error": {"code": 404, "message": path, "status": "NOT_FOUND"}})


CLAUDE_SAYS = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-opus-4-5",
    "content": [{"type": "text", "text": "Hello from Claude."}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 3, "output_tokens": 4},
}


async def metadata(exchange: Exchange) -> None:
    """The metadata server of a machine on Google Cloud."""
    flavour = {"metadata-flavor": "Google"}
    path = urlsplit(exchange.request.path).path
    if path.endswith("/token"):
        await exchange.answer(
            200, {"access_token": "from-metadata", "expires_in": 3600, "token_type": "Bearer"}, flavour
        )
    elif path == "/" or path.endswith("/project-id"):
        await exchange.answer(200, "some-project", {**flavour, "content-type": "application/text"})
    else:
        await exchange.answer(200, {"email": "robot@some-project", "scopes": [], "aliases": ["default"]}, flavour)


@dataclass
class Scene:
    """A gateway in front of both."""

    server: Gateway
    upstream: Upstream
    metadata: Upstream

    @property
    def last(self) -> Any:
        return [request for request in self.upstream.requests if request.method == "POST"][-1]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    folder = tmp_path_factory.mktemp("gateway")
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(scripted(provider))
        machine = await stack.enter_async_context(scripted(metadata))
        place = f"127.0.0.1:{machine.port}"
        environ = {"KEY": "AIzaKey", "GCE_METADATA_HOST": place, "GCE_METADATA_IP": place}
        # nobody is logged in, and there is no key: only the metadata server is left
        environ |= {"CLOUDSDK_CONFIG": str(folder), "GOOGLE_APPLICATION_CREDENTIALS": "", "NO_GCE_CHECK": "false"}
        settings = config(
            providers={
                "gemini": {"base_url": f"{upstream.base_url}/v1beta", "api_key": "env:KEY"},
                "vertex": {"base_url": upstream.base_url, "project": "some-project", "location": "us-east5"},
            }
        )
        server = await stack.enter_async_context(gateway(settings, folder, environ))
        yield Scene(server, upstream, machine)


async def test_chat(scene: Scene) -> None:
    response = await scene.server.stub.Chat(ask("gemini/gemini-3-flash-preview"))
    thought, text = response.message.parts
    assert (thought.reasoning.text, text.text) == ("Thought.", "Hello.")
    assert (response.usage.input_tokens, response.usage.output_tokens) == (7, 5)
    assert (response.route.provider, response.route.model) == ("gemini", "gemini-answers")
    assert scene.last.path == "/v1beta/models/gemini-3-flash-preview:generateContent"
    assert scene.last.headers["x-goog-api-key"] == "AIzaKey"
    assert scene.last.json == {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}


async def test_a_call_and_its_result(scene: Scene) -> None:
    request = ask("gemini/gemini-3-flash-preview", tools=[v1.Tool(function=v1.FunctionTool(name="weather"))])
    response = await scene.server.stub.Chat(request)
    assert response.finish_reason == v1.FINISH_REASON_TOOL_CALL
    (part,) = response.message.parts
    result = v1.ToolResult(tool_call_id=part.tool_call.id, parts=[v1.Part(text="12 °C")])
    request.messages.append(response.message)
    request.messages.add(role=v1.ROLE_TOOL, parts=[v1.Part(tool_result=result)])
    again = await scene.server.stub.Chat(request)
    assert not again.warnings
    assert scene.last.json["contents"][1:] == [
        {"role": "model", "parts": [CALL]},
        {"role": "user", "parts": [{"functionResponse": {"name": "weather", "response": {"output": "12 °C"}}}]},
    ]


async def test_stream(scene: Scene) -> None:
    fold = Fold()
    async for event in scene.server.stub.StreamChat(stream("gemini/gemini-3-flash-preview")):
        fold.feed(event)
    response = fold.response()
    assert [part.text for part in response.message.parts] == ["Grüß 🌍 dich", ""]
    assert response.message.parts[1].replay_state.data == SIGNATURE.encode()
    assert response.usage.source == v1.Usage.SOURCE_PROVIDER
    assert scene.last.path.endswith(":streamGenerateContent?alt=sse")


async def test_embed(scene: Scene) -> None:
    inputs = [v1.EmbedInput(text=text) for text in ("a", "b")]
    response = await scene.server.stub.Embed(v1.EmbedRequest(model="gemini/gemini-embedding-001", inputs=inputs))
    assert [list(one.floats.values) for one in response.embeddings] == [[0.0, 0.5], [1.0, 0.5]]


async def test_models(scene: Scene) -> None:
    listed = await scene.server.stub.ListModels(v1.ListModelsRequest(provider="gemini", page_size=1000))
    found = {model.id: model for model in listed.models}
    assert "reasoning" in found["gemini/gemini-listed"].capabilities


async def test_a_quota_by_the_day_is_not_tried_again(scene: Scene) -> None:
    before = len(scene.upstream.requests)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await scene.server.stub.Chat(ask("gemini/gemini-limited"))
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reason_of(refused.value) == "PROVIDER_QUOTA_EXHAUSTED"
    assert len(scene.upstream.requests) == before + 1


PLACE = "/v1beta1/projects/some-project/locations/us-east5"


@pytest.mark.parametrize(
    ("call", "path"),
    [
        (
            lambda stub: stub.Chat(ask("vertex/gemini-2.5-flash")),
            "/publishers/google/models/gemini-2.5-flash:generateContent",
        ),
        (
            lambda stub: stub.Chat(ask("vertex/claude-opus-4-5@20251101")),
            "/publishers/anthropic/models/claude-opus-4-5@20251101:rawPredict",
        ),
        (
            lambda stub: stub.Embed(
                v1.EmbedRequest(model="vertex/gemini-embedding-001", inputs=[v1.EmbedInput(text="a")])
            ),
            "/publishers/google/models/gemini-embedding-001:predict",
        ),
    ],
)
async def test_on_google_cloud(scene: Scene, call: Callable[[Any], Any], path: str) -> None:
    response = await call(scene.server.stub)
    assert response.route.provider == "vertex"
    assert scene.last.path == PLACE + path
    assert scene.last.headers["authorization"] == "Bearer from-metadata"
    tokens = [request for request in scene.metadata.requests if "/token" in request.path]
    assert len(tokens) == 1  # for all of them


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """The reason in the details of a status."""
    info = details.ErrorInfo()
    packed = dict(error.trailing_metadata() or ())["grpc-status-details-bin"]
    assert any(detail.Unpack(info) for detail in Status.FromString(packed).details)
    return info.reason
