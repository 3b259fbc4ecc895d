"""SageMaker: where endpoints are, what they speak, and what is listed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import ValidationError

from parley import v1
from parley_server.core.errors import GatewayError, ProtocolError
from parley_server.core.target import Target
from parley_server.dialects.bedrock import SageMakerEndpoints
from parley_server.providers import sagemaker
from parley_server.providers.auth.aws import AwsAuth
from parley_server.providers.base import Provider
from parley_server.providers.directory import list_models
from parley_server.providers.kind import Shared
from parley_server.transports.http import HttpTransport
from tests.providers.cards import Unreachable
from tests.upstream import Exchange, Script, scripted

ENVIRON = {"AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "s"}


def card(**given: Any) -> Provider:
    settings = sagemaker.SageMaker.model_validate({"kind": "sagemaker", **given}, context={"environ": ENVIRON})
    return sagemaker.card("sagemaker", settings, Shared(Unreachable()))


def test_the_runtime_of_the_region_and_what_is_configured_there() -> None:
    provider = card(models=["chat-1"], embeddings={"vectors-1": "tei"}, base_models={"chat-1": "llama-3"})
    assert provider.base_url == "https://runtime.sagemaker.eu-west-1.amazonaws.com"
    assert provider.known_models == ("chat-1", "vectors-1")
    assert provider.base_models == {"chat-1": "llama-3"}
    assert provider.operations() == ["chat", "embed"]
    assert isinstance(provider.auth, AwsAuth)
    assert card(base_url="https://vpce-1.example.com").base_url == "https://vpce-1.example.com"


@pytest.mark.parametrize(("endpoint", "body"), [("a", {"inputs": ["hi"]}), ("b", {"input": ["hi"]})])
def test_embeddings_in_the_words_of_the_container(endpoint: str, body: dict[str, Any]) -> None:
    embed = card(embeddings={"a": "tei"}).embed
    assert embed is not None
    target = Target("sagemaker", endpoint)
    call = embed.encode(v1.EmbedRequest(inputs=[v1.EmbedInput(text="hi")]), target)
    assert call.path == f"/endpoints/{endpoint}/invocations"
    sent = json.loads(call.body)
    assert sent.items() >= body.items()
    assert "model" not in sent
    answered = b"[[1.0, 2.0]]" if endpoint == "a" else b'{"data":[{"index":0,"embedding":[1.0,2.0]}]}'
    response = embed.decode(answered, target, v1.EMBEDDING_ENCODING_FLOAT)
    assert list(response.embeddings[0].floats.values) == [1.0, 2.0]
    assert embed.batch_limit(target) == (32 if endpoint == "a" else embed.batch_limit(Target("sagemaker", "c")))


def test_a_container_of_another_kind_is_refused() -> None:
    with pytest.raises(ValidationError):
        card(embeddings={"a": "word2vec"})


def test_it_is_never_there_unless_it_is_configured() -> None:
    assert sagemaker.KIND.usually({**ENVIRON, "AWS_SESSION_TOKEN": "t"}) is None


@asynccontextmanager
async def account(script: Script) -> AsyncIterator[tuple[Provider, HttpTransport]]:
    """The card, with the script's server as both planes."""
    async with scripted(script) as upstream:
        transport = HttpTransport()
        url = upstream.base_url
        settings = sagemaker.SageMaker.model_validate(
            {"kind": "sagemaker", "base_url": url, "control_url": url}, context={"environ": ENVIRON}
        )
        try:
            yield sagemaker.card("sagemaker", settings, Shared(transport)), transport
        finally:
            await transport.aclose()


@pytest.mark.asyncio
async def test_endpoints_of_the_account_page_by_page() -> None:
    asked: list[Any] = []

    async def script(exchange: Exchange) -> None:
        request = exchange.request
        asked.append((request.method, request.path, request.headers["x-amz-target"], json.loads(request.body)))
        assert "/eu-west-1/sagemaker/aws4_request" in request.headers["authorization"]
        rows = [{"EndpointName": f"chat-{len(asked)}", "CreationTime": 1700000000.5, "EndpointStatus": "InService"}]
        page = {"Endpoints": rows, **({"NextToken": "t1"} if len(asked) == 1 else {})}
        await exchange.answer(200, json.dumps(page).encode(), {"content-type": "application/x-amz-json-1.1"})

    async with account(script) as (provider, transport):
        models = await list_models(provider, transport)
    wanted = {"StatusEquals": "InService", "MaxResults": 100}
    assert asked == [
        ("POST", "/", "SageMaker.ListEndpoints", wanted),
        ("POST", "/", "SageMaker.ListEndpoints", {**wanted, "NextToken": "t1"}),
    ]
    assert [(model.id, model.provider_model) for model in models] == [
        ("sagemaker/chat-1", "chat-1"),
        ("sagemaker/chat-2", "chat-2"),
    ]
    assert models[0].create_time.ToJsonString() == "2023-11-14T22:13:20.500Z"


@pytest.mark.asyncio
async def test_who_may_not_list_is_told_so() -> None:
    async def script(exchange: Exchange) -> None:
        body = {"__type": "AccessDeniedException", "Message": "not authorized to perform: sagemaker:ListEndpoints"}
        await exchange.answer(400, json.dumps(body).encode())

    async with account(script) as (provider, transport):
        with pytest.raises(GatewayError) as caught:
            await list_models(provider, transport)
    assert "sagemaker:ListEndpoints" in str(caught.value.provider_error)


@pytest.mark.parametrize(
    "body", [b"{}", b"[]", b'{"Endpoints":[{}]}', b'{"Endpoints":[{"EndpointName":"a","CreationTime":1e99}]}']
)
def test_what_is_no_listing(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        SageMakerEndpoints().decode(body, "sagemaker")


def test_named_endpoints_need_no_listing() -> None:
    assert card().models is not None
    assert card(models=["a"]).models is None
    assert card(models=["a"], list_endpoints=True).models is not None
    assert card(list_endpoints=False).models is None
