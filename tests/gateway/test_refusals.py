"""Bad input gets a clear status with details, leaks nothing, and leaves the gateway alive."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2 as details
from google.rpc.status_pb2 import Status

from parley import v1
from tests.gateway.process import Gateway, ask, config, gateway, stream
from tests.upstream import Exchange, scripted

pytestmark = pytest.mark.asyncio(loop_scope="module")
KEY = "sk-proj-ThisIsTheGatewaysOwnKey0123456789abcdef"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    async def reject(exchange: Exchange) -> None:
        message = f"Incorrect API key provided: {KEY}. You can find your API key at the dashboard."
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": "invalid_api_key"}
        await exchange.answer(401, {"error": error}, {"x-request-id": "req_upstream"})

    async with scripted(reject) as upstream:
        providers = {
            "mock": {"models": {"cut": {"reply": "a b c d e f", "cut_after": 4}}},
            "openai": {"api_key": "env:TEST_KEY", "base_url": f"{upstream.base_url}/v1"},
        }
        folder = tmp_path_factory.mktemp("gateway")
        async with gateway(config(providers=providers), folder, {"TEST_KEY": KEY}) as server:
            yield server
            assert KEY not in repr(server.log)
            alive = await server.stub.Chat(ask("mock/echo", "still there?"))
            assert alive.message.parts[0].text == "still there?"


async def refused(call: Any) -> tuple[grpc.aio.AioRpcError, dict[str, Any]]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    found: dict[str, Any] = {}
    status = Status.FromString(dict(caught.value.trailing_metadata())["grpc-status-details-bin"])
    for detail in status.details:
        for kind in (
            details.ErrorInfo,
            details.BadRequest,
            details.ResourceInfo,
            details.PreconditionFailure,
            v1.ProviderError,
        ):
            message = kind()
            if detail.Unpack(message):
                found[kind.__name__] = message
    return caught.value, found


BAD: dict[str, tuple[v1.ChatRequest, str]] = {
    "no_messages": (v1.ChatRequest(model="mock/echo"), "messages"),
    "unknown_role": (
        v1.ChatRequest(model="mock/echo", messages=[v1.Message(role=42, parts=[v1.Part(text="x")])]),  # type: ignore[arg-type]
        "messages[0].role",
    ),
    "broken_schema": (
        ask("mock/echo", tools=[v1.Tool(function=v1.FunctionTool(name="f", parameters_json_schema='{"type":"nope"}'))]),
        "tools[0].function.parameters_json_schema",
    ),
    "nan": (ask("mock/echo", sampling=v1.SamplingOptions(temperature=math.nan)), "sampling.temperature"),
    "too_many_parts": (
        v1.ChatRequest(model="mock/echo", messages=[v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text="x")] * 1001)]),
        "messages[0].parts",
    ),
    "many_faults": (
        v1.ChatRequest(model="", messages=[v1.Message() for _ in range(40)]),
        "model",
    ),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_fields_are_named(running: Gateway, name: str) -> None:
    request, path = BAD[name]
    error, found = await refused(running.stub.Chat(request))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert found["ErrorInfo"].reason == "INVALID_REQUEST"
    fields = [violation.field for violation in found["BadRequest"].field_violations]
    assert path in fields
    assert len(fields) <= 20


async def test_a_stream_is_refused_with_paths_that_start_at_its_request(running: Gateway) -> None:
    bad = v1.StreamChatRequest(request=v1.ChatRequest(model="mock/echo"))
    _, found = await refused(anext(aiter(running.stub.StreamChat(bad))))
    assert [v.field for v in found["BadRequest"].field_violations] == ["request.messages"]
    _, found = await refused(anext(aiter(running.stub.StreamChat(v1.StreamChatRequest()))))
    assert [v.field for v in found["BadRequest"].field_violations] == ["request"]


async def test_unknown_models(running: Gateway) -> None:
    error, found = await refused(running.stub.Chat(ask("gpt-17")))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert found["ErrorInfo"].reason == "MODEL_NOT_FOUND"
    assert found["ResourceInfo"].resource_name == "gpt-17"
    error, _ = await refused(running.stub.Chat(ask("mock/nobody")))
    assert error.code() is grpc.StatusCode.NOT_FOUND


async def test_a_wrong_provider_key_is_the_operators_business_and_is_not_shown(running: Gateway) -> None:
    error, found = await refused(running.stub.Chat(ask("openai/gpt-5.1")))
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert found["ErrorInfo"].reason == "PROVIDER_CREDENTIALS_REJECTED"
    assert found["ProviderError"].http_status == 401
    assert found["ProviderError"].request_id == "req_upstream"
    assert found["PreconditionFailure"].violations[0].subject == "openai"
    assert KEY not in repr(error.trailing_metadata()) + str(error.details())


async def test_a_request_over_the_limit_is_refused_by_grpc(running: Gateway) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.stub.Chat(ask("mock/echo", "x" * (33 * 1024 * 1024)))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_request_just_within_the_limit_is_answered(running: Gateway) -> None:
    image = v1.Part(
        image=v1.ImagePart(source=v1.MediaSource(data=b"\x89PNG" + bytes(30_000_000), mime_type="image/png"))
    )
    request = ask("mock/echo", "what is this?")
    request.messages[0].parts.append(image)
    assert (await running.stub.Chat(request)).message.parts[0].text == "what is this?"


async def test_a_stream_that_breaks_ends_with_an_error_and_what_had_come(running: Gateway) -> None:
    events: list[v1.StreamChatResponse] = []
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for event in running.stub.StreamChat(stream("mock/cut")):
            events.append(event)  # noqa: PERF401  # what came before the error has to be kept
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    status = Status.FromString(dict(caught.value.trailing_metadata())["grpc-status-details-bin"])
    failure = v1.ResponseFailure()
    assert any(detail.Unpack(failure) for detail in status.details)
    assert failure.last_sequence == events[-1].sequence
    assert not any(event.HasField("completed") for event in events)


async def test_page_tokens_and_sizes(running: Gateway) -> None:
    error, found = await refused(running.stub.ListModels(v1.ListModelsRequest(page_size=-1)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    _, found = await refused(running.stub.ListModels(v1.ListModelsRequest(page_token="x")))
    assert found["ErrorInfo"].reason == "PAGE_TOKEN_INVALID"
    error, found = await refused(running.stub.GetModel(v1.GetModelRequest(model="nothing")))
    assert error.code() is grpc.StatusCode.NOT_FOUND
