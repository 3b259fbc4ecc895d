"""Bedrock and SageMaker behind the gateway: signed requests, streams in frames, vectors, errors."""

from __future__ import annotations

import json
from array import array
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import grpc
import pytest
import pytest_asyncio

from parley import v1
from parley.fold import Fold
from tests.aws_signature import signed_by
from tests.dialects.bedrock_wire import answer, chunk, exception, frame, split, streamed
from tests.gateway.process import Gateway, ask, config, gateway, stream
from tests.upstream import Exchange, Request, Upstream, scripted

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
ENVIRON = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": "FwoG/x=="}
PROFILE = "arn:aws:bedrock:us-east-1:000000000000:application-inference-profile/a1b2"
STREAM = {"content-type": "application/vnd.amazon.eventstream", "x-amzn-requestid": "req-1"}
PART = {":event-type": "PayloadPart", ":message-type": "event", ":content-type": "application/octet-stream"}
SAID = answer([{"text": "Hello, 🌍!"}, {"toolUse": {"toolUseId": "t1", "name": "f", "input": {"x": 1}}}], "tool_use")
MESSAGES: list[dict[str, Any]] = [
    {"type": "message_start", "message": {"id": "m", "model": "claude", "content": [], "usage": {"input_tokens": 3}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
    {"type": "message_stop"},
]
CHUNKS = (
    b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":"from a container"}}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)


async def aws(exchange: Exchange) -> None:
    """All services of AWS at one address."""
    path = exchange.request.path
    operation = path.partition("?")[0].rpartition("/")[2]
    match operation:
        case "converse" if "throttled" in path:
            failed = {"x-amzn-errortype": "ThrottlingException:http://x/", "x-amzn-requestid": "req-2"}
            await exchange.answer(429, json.dumps({"message": "Too many requests"}), failed)
        case "converse":
            await exchange.answer(200, json.dumps(SAID), {"x-amzn-requestid": "req-1"})
        case "converse-stream" if "breaks" in path:
            await pour(exchange, [*streamed(SAID)[:3], exception("serviceUnavailableException", {"message": "busy"})])
        case "converse-stream":
            await pour(exchange, streamed(SAID, pieces=3))
        case "invoke-with-response-stream":
            await pour(exchange, [chunk(said) for said in MESSAGES])
        case "invocations-response-stream":
            await pour(exchange, [frame(PART, piece) for piece in split(CHUNKS, [7, 60, 61, 120]) if piece])
        case "invoke" if "embed" in path:
            texts = exchange.request.json["texts"]
            counted = {"x-amzn-bedrock-input-token-count": str(len(texts))}
            await exchange.answer(200, json.dumps({"embeddings": {"float": [[1.0, 2.0]] * len(texts)}}), counted)
        case "foundation-models":
            row = {
                "modelId": "amazon.nova-lite-v1:0",
                "outputModalities": ["TEXT"],
                "inferenceTypesSupported": ["ON_DEMAND"],
            }
            await exchange.answer(200, {"modelSummaries": [row]})
        case "inference-profiles":
            rows = [{"inferenceProfileId": "us.anthropic.claude-x", "inferenceProfileArn": "arn:x"}]
            await exchange.answer(200, {"inferenceProfileSummaries": rows})
        case _:
            await exchange.answer(404, {"message": "no such operation"})


async def pour(exchange: Exchange, frames: list[bytes]) -> None:
    """A stream, cut where no frame ends."""
    await exchange.head(200, STREAM)
    for piece in split(b"".join(frames), range(40, 4000, 97)):
        if piece:
            await exchange.chunk(piece)
    await exchange.end()


@dataclass
class Scene:
    """A gateway in front of AWS."""

    server: Gateway
    upstream: Upstream

    @property
    def last(self) -> Request:
        """What AWS was asked last on a caller's behalf: the gateway lists models by itself meanwhile."""
        return [request for request in self.upstream.requests if request.method == "POST"][-1]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    folder: Path = tmp_path_factory.mktemp("gateway")
    async with AsyncExitStack() as running:
        upstream = await running.enter_async_context(scripted(aws))
        region, url = {"region": "eu-central-1"}, upstream.base_url
        providers = {
            "bedrock": {**region, "base_url": url, "control_url": url, "openai_url": f"{url}/openai/v1"},
            "sagemaker": {**region, "base_url": url, "models": ["my-llama"]},
        }
        server = await running.enter_async_context(gateway(config(providers=providers), folder, ENVIRON))
        yield Scene(server, upstream)


async def folded(scene: Scene, request: v1.StreamChatRequest) -> v1.ChatResponse:
    fold = Fold()
    async for event in scene.server.stub.StreamChat(request):
        fold.feed(event)
    return fold.response()


@pytest.mark.parametrize("model", ["amazon.nova-lite-v1:0", PROFILE])
async def test_chat_is_signed_over_the_path_that_is_sent(scene: Scene, model: str) -> None:
    response = await scene.server.stub.Chat(ask(f"bedrock/{model}"))
    assert signed_by(scene.last, SECRET) == ("AKIDEXAMPLE", "eu-central-1", "bedrock")
    assert scene.last.headers["x-amz-security-token"] == "FwoG/x=="
    path, operation = scene.last.path.removeprefix("/model/").split("/")
    assert (unquote(path), operation) == (model, "converse")
    assert response.message.parts[0].text == "Hello, 🌍!"
    assert response.message.parts[1].tool_call.arguments_json == '{"x":1}'
    assert (response.route.provider, response.route.provider_request_id) == ("bedrock", "req-1")
    assert (response.usage.input_tokens, response.usage.output_tokens) == (10, 5)


async def test_a_stream_says_the_same(scene: Scene) -> None:
    response = await folded(scene, stream("bedrock/amazon.nova-lite-v1:0"))
    assert scene.last.path.endswith("/converse-stream")
    assert signed_by(scene.last, SECRET)[2] == "bedrock"
    assert [part.text or part.tool_call.name for part in response.message.parts] == ["Hello, 🌍!", "f"]
    assert response.finish_reason == v1.FINISH_REASON_TOOL_CALL
    assert response.usage.total_tokens == 15


async def test_an_exception_in_a_stream_is_the_status_of_the_call(scene: Scene) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await folded(scene, stream("bedrock/breaks"))
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "bedrock is overloaded" in (caught.value.details() or "")


async def test_what_converse_cannot_say_to_claude_goes_by_the_messages_api(scene: Scene) -> None:
    tool = v1.Tool(provider_tool=v1.ProviderTool(provider="bedrock", json='{"type":"bash_20250124","name":"bash"}'))
    response = await folded(scene, stream("bedrock/us.anthropic.claude-sonnet-4-6", tools=[tool]))
    assert scene.last.path == "/model/us.anthropic.claude-sonnet-4-6/invoke-with-response-stream"
    assert scene.last.json["tools"] == [{"type": "bash_20250124", "name": "bash"}]
    assert signed_by(scene.last, SECRET)[2] == "bedrock"
    assert response.message.parts[0].text == "hi"


async def test_vectors_come_in_batches_and_are_counted_by_a_header(scene: Scene) -> None:
    inputs = [v1.EmbedInput(text=str(number)) for number in range(100)]
    request = v1.EmbedRequest(
        model="bedrock/cohere.embed-v4:0", inputs=inputs, encoding=v1.EMBEDDING_ENCODING_FLOAT32_BYTES
    )
    before = len(scene.upstream.requests)
    response = await scene.server.stub.Embed(request)
    assert [len(asked.json["texts"]) for asked in scene.upstream.requests[before:] if asked.method == "POST"] in (
        [96, 4],
        [4, 96],
    )
    assert signed_by(scene.last, SECRET)[0] == "AKIDEXAMPLE"
    assert len(response.embeddings) == 100
    assert array("f", response.embeddings[99].packed).tolist() == [1.0, 2.0]
    assert (response.usage.source, response.usage.input_tokens) == (v1.Usage.SOURCE_PROVIDER, 100)


async def test_refusals_keep_what_aws_said(scene: Scene) -> None:
    routing = v1.RoutingOptions(max_attempts=1)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await scene.server.stub.Chat(ask("bedrock/throttled", routing=routing))
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_models_and_profiles_are_listed(scene: Scene) -> None:
    response = await scene.server.stub.ListModels(v1.ListModelsRequest(provider="bedrock"))
    ids = {model.id for model in response.models}
    assert {"bedrock/amazon.nova-lite-v1:0", "bedrock/us.anthropic.claude-x"} <= ids
    asked = [request for request in scene.upstream.requests if request.method == "GET"]
    assert {signed_by(request, SECRET)[2] for request in asked} == {"bedrock"}
    assert "/inference-profiles?maxResults=1000" in [request.path for request in asked]


async def test_a_container_on_sagemaker(scene: Scene) -> None:
    response = await folded(scene, stream("sagemaker/my-llama"))
    assert scene.last.path == "/endpoints/my-llama/invocations-response-stream"
    assert signed_by(scene.last, SECRET) == ("AKIDEXAMPLE", "eu-central-1", "sagemaker")
    assert "model" not in scene.last.json
    assert response.message.parts[0].text == "from a container"
