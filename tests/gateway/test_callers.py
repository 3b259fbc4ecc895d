"""Callers with keys, through the whole gateway: who is let in, what they see of each other, where keys do not go."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
import pytest_asyncio
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import parley
from parley import v1
from parley.v1 import gateway_service_pb2
from tests.gateway.process import Gateway, ask, config, gateway, stream
from tests.gateway.statuses import reason
from tests.gateway.wire import by_model, openai_says
from tests.telemetry.collectors import Collected, attributes, grpc_collector
from tests.upstream import Upstream, scripted

pytestmark = pytest.mark.asyncio(loop_scope="module")

ONE, TWO, THIRD = "sk-parley-one-0123456789abcdef", "callers-own-key-with-no-prefix", "sk-parley-three-0123456789abc"
WRONG = "nobodys-key-0123456789-abcdefghij"
CALLERS = {
    "one": {"key": "env:KEY_ONE", "tenant": "shop"},
    "two": {"keys": [f"sha256:{hashlib.sha256(TWO.encode()).hexdigest()}"]},
}


class Scene:
    def __init__(self, server: Gateway, upstream: Upstream, collected: Collected) -> None:
        self.server, self.upstream, self.collected = server, upstream, collected

    @property
    def asked(self) -> int:
        return sum(1 for request in self.upstream.requests if request.method == "POST")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    async with scripted(by_model({"m": openai_says("one two")})) as upstream:
        with grpc_collector() as (endpoint, collected):
            providers = {"up": {"kind": "openai-compatible", "base_url": f"{upstream.base_url}/v1", "models": ["m"]}}
            settings = config(providers=providers, callers=CALLERS, reload={"interval": 0.1})
            environ = {
                "KEY_ONE": ONE,
                "KEY_THREE": THIRD,
                "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
                "OTEL_BSP_SCHEDULE_DELAY": "50",
            }
            async with gateway(settings, tmp_path_factory.mktemp("gateway"), environ) as server:
                yield Scene(server, upstream, collected)
                told = repr(server.log) + repr(collected.spans)
                for key in (ONE, TWO, THIRD, WRONG):
                    assert key not in told
                    assert hashlib.sha256(key.encode()).hexdigest() not in told


def shows(key: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key}"),)


async def first(call: Any) -> None:
    async for _ in call:
        return


VERBS: dict[str, Callable[[Any, Any], Awaitable[Any]]] = {
    "Chat": lambda stub, metadata: stub.Chat(ask("up/m"), metadata=metadata),
    "StreamChat": lambda stub, metadata: first(stub.StreamChat(stream("up/m"), metadata=metadata)),
    "resume": lambda stub, metadata: first(
        stub.StreamChat(
            v1.StreamChatRequest(resume=v1.ResumeFrom(response_id="resp_01j00000000000000000000000")),
            metadata=metadata,
        )
    ),
    "GetChat": lambda stub, metadata: stub.GetChat(v1.GetChatRequest(response_id="resp_1"), metadata=metadata),
    "CancelChat": lambda stub, metadata: stub.CancelChat(v1.CancelChatRequest(response_id="resp_1"), metadata=metadata),
    "Embed": lambda stub, metadata: stub.Embed(v1.EmbedRequest(), metadata=metadata),
    "Rerank": lambda stub, metadata: stub.Rerank(v1.RerankRequest(), metadata=metadata),
    "ListModels": lambda stub, metadata: stub.ListModels(v1.ListModelsRequest(), metadata=metadata),
    "GetModel": lambda stub, metadata: stub.GetModel(v1.GetModelRequest(model="no"), metadata=metadata),
    "GetServerInfo": lambda stub, metadata: stub.GetServerInfo(v1.GetServerInfoRequest(), metadata=metadata),
}


async def test_every_verb_is_tried() -> None:
    methods = gateway_service_pb2.DESCRIPTOR.services_by_name["GatewayService"].methods
    assert {method.name for method in methods} == VERBS.keys() - {"resume"}


@pytest.mark.parametrize("verb", VERBS)
async def test_no_verb_answers_without_a_known_key(scene: Scene, verb: str) -> None:
    asked = scene.asked
    shown: dict[str, tuple[tuple[str, str], ...]] = {
        "CREDENTIALS_MISSING": (("x-request-id", "r-1"),),
        "CREDENTIALS_INVALID": shows(WRONG),
    }
    for why, metadata in shown.items():
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await VERBS[verb](scene.server.stub, metadata)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert reason(caught.value) == why
        assert WRONG not in str(caught.value) + repr(caught.value.trailing_metadata())
    assert scene.asked == asked


@pytest.mark.parametrize(
    "metadata",
    [
        (("authorization", f"Basic {ONE}"),),
        (("authorization", f"Bearer {ONE}x"),),
        (("authorization", f"Bearer {ONE[:-1]}"),),
        (("x-api-key", ONE.upper()),),
        (("authorization", f"Bearer {WRONG}"), ("x-api-key", ONE)),
    ],
)
async def test_nearly_a_key_is_none(scene: Scene, metadata: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await scene.server.stub.Chat(ask("up/m"), metadata=metadata)
    assert reason(caught.value) == "CREDENTIALS_INVALID"


@pytest.mark.parametrize("key", [ONE, TWO])
@pytest.mark.parametrize("header", ["authorization", "x-api-key"])
async def test_a_key_lets_its_caller_in(scene: Scene, key: str, header: str) -> None:
    metadata = shows(key) if header == "authorization" else ((header, key),)
    answer = await scene.server.stub.Chat(ask("up/m"), metadata=metadata)
    assert answer.message.parts[0].text
    sent = scene.upstream.requests[-1]
    assert key not in repr(sent.headers) + repr(sent.body), "a caller's key is not for providers"


async def test_the_sdk_shows_its_token(scene: Scene) -> None:
    async with parley.AsyncClient(scene.server.address, token=TWO) as client:
        assert (await client.chat("up/m", "hi")).text
        assert [model.id async for model in client.models()]
        assert await client.health() == "serving"
    async with parley.AsyncClient(scene.server.address, token=WRONG) as client:
        with pytest.raises(parley.Unauthenticated) as caught:
            await client.chat("up/m", "hi")
        assert not caught.value.retryable
    async with parley.AsyncClient(scene.server.address, token="") as client:
        with pytest.raises(parley.CredentialsMissing):
            await client.chat("up/m", "hi")
        assert await client.health() == "serving"


async def test_health_and_reflection_are_open(scene: Scene) -> None:
    channel = scene.server.channel
    health = health_pb2_grpc.HealthStub(channel)
    assert (await health.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING
    reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
    call = reflection.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    async for answer in call:
        assert "parley.v1.GatewayService" in {one.name for one in answer.list_services_response.service}


async def test_refusals_are_traced_and_callers_named(scene: Scene) -> None:
    async def span(key: str, trace: str) -> dict[str, Any]:
        parent = ("traceparent", f"00-{trace}-b7ad6b7169203331-01")
        call = scene.server.stub.Chat(ask("up/m"), metadata=(*shows(key), parent))
        await asyncio.gather(call, return_exceptions=True)
        async with asyncio.timeout(10):
            while True:
                for found in scene.collected.spans:
                    if found.trace_id.hex() == trace and found.name.endswith("/Chat"):
                        return attributes(found.attributes)
                await asyncio.sleep(0.01)

    refused = await span(WRONG, "0af7651916cd43dd8448eb211c803191")
    assert refused["error.type"] == "CREDENTIALS_INVALID"
    assert refused["rpc.response.status_code"] == "UNAUTHENTICATED"
    assert "parley.caller" not in refused
    answered = await span(ONE, "0af7651916cd43dd8448eb211c803192")
    assert (answered["parley.caller"], answered["parley.tenant"]) == ("one", "shop")


async def test_a_response_is_its_callers_alone(scene: Scene) -> None:
    options = v1.StreamOptions(resumable=True)
    call = scene.server.stub.StreamChat(stream("up/m", options=options), metadata=shows(ONE))
    started, *_ = [event async for event in call]
    response_id = started.started.response_id
    get = v1.GetChatRequest(response_id=response_id)
    mine = await scene.server.stub.GetChat(get, metadata=shows(ONE))
    assert mine.state == v1.GetChatResponse.STATE_SUCCEEDED
    resume = v1.StreamChatRequest(resume=v1.ResumeFrom(response_id=response_id))
    assert [event async for event in scene.server.stub.StreamChat(resume, metadata=shows(ONE))]
    tries: list[Callable[[], Awaitable[Any]]] = [
        lambda: scene.server.stub.GetChat(get, metadata=shows(TWO)),
        lambda: scene.server.stub.CancelChat(v1.CancelChatRequest(response_id=response_id), metadata=shows(TWO)),
        lambda: first(scene.server.stub.StreamChat(resume, metadata=shows(TWO))),
    ]
    for attempt in tries:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await attempt()
        assert reason(caught.value) == "RESPONSE_NOT_FOUND"


async def test_an_idempotency_key_is_its_callers_alone(scene: Scene) -> None:
    asked = scene.asked
    request = ask("up/m", idempotency_key="the-same")
    answers = [await scene.server.stub.Chat(request, metadata=shows(key)) for key in (ONE, TWO, ONE)]
    assert scene.asked == asked + 2
    assert [[warning.code for warning in answer.warnings] for answer in answers] == [[], [], ["IDEMPOTENT_REPLAY"]]


async def test_a_reload_takes_keys_away_and_gives_others(scene: Scene) -> None:
    path = scene.server.folder / "parley.yaml"
    before = path.read_text()
    settings = yaml.safe_load(before)
    settings["callers"] = {"three": {"key": "env:KEY_THREE"}}
    path.write_text(yaml.safe_dump(settings))
    stub = scene.server.stub
    await _known(stub, THIRD)
    assert await _reason(stub, ONE) == "CREDENTIALS_INVALID"
    path.write_text(before)
    await _known(stub, ONE)
    assert await _reason(stub, THIRD) == "CREDENTIALS_INVALID"


async def _reason(stub: Any, key: str) -> str:
    try:
        await stub.GetServerInfo(v1.GetServerInfoRequest(), metadata=shows(key))
    except grpc.aio.AioRpcError as error:
        return reason(error)
    return ""


async def _known(stub: Any, key: str) -> None:
    """Wait until the gateway knows a key."""
    for _ in range(400):
        if not await _reason(stub, key):
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the key is still unknown")
