"""How watsonx.ai is asked: settings, and tokens for keys from a real token server."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import parse_qs

import pytest
from pydantic import ValidationError

from parley import v1
from parley_server.core.errors import CredentialsRejected
from parley_server.core.secret import Secret
from parley_server.core.target import Target
from parley_server.providers.endpoint import EmbedEndpoint, Wire
from parley_server.providers.kind import Shared
from parley_server.providers.watsonx import KIND, Watsonx, iam
from parley_server.transports.base import Outgoing
from parley_server.transports.http import HttpTransport
from tests.fakes import context
from tests.providers.cards import made
from tests.upstream import Exchange, scripted

REQUEST = Outgoing("POST", "https://us-south.ml.cloud.ibm.com/ml/v1/text/chat", {}, b"")
ENVIRON = {"WATSONX_APIKEY": "key", "WATSONX_PROJECT_ID": "p-1"}


class Clock:
    def __init__(self) -> None:
        self.now = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now


class TokenServer:
    """Gives a new token each time, good for an hour."""

    def __init__(self, clock: Clock) -> None:
        self.given = 0
        self.forms: list[dict[str, list[str]]] = []
        self._clock = clock

    async def __call__(self, exchange: Exchange) -> None:
        self.forms.append(parse_qs(exchange.request.body.decode()))
        if self.forms[-1]["apikey"] == ["wrong"]:
            await exchange.answer(
                400, {"errorCode": "BXNIM0415E", "errorMessage": "Provided API key could not be found."}
            )
            return
        self.given += 1
        expires = int(self._clock.now) + 3600
        await exchange.answer(
            200,
            {"access_token": f"token-{self.given}", "expires_in": 3600, "expiration": expires, "token_type": "Bearer"},
        )


async def test_a_key_becomes_a_token_that_is_renewed_in_time() -> None:
    clock, transport = Clock(), HttpTransport()
    server = TokenServer(clock)
    async with scripted(server) as upstream:
        auth = iam(transport, clock, f"{upstream.base_url}/identity/token", Secret("key"))
        assert await auth.headers(REQUEST) == {"authorization": "Bearer token-1"}
        clock.now += 3000
        assert await auth.headers(REQUEST) == {"authorization": "Bearer token-1"}
        assert server.forms == [{"grant_type": ["urn:ibm:params:oauth:grant-type:apikey"], "apikey": ["key"]}]
        assert upstream.requests[0].headers["content-type"] == "application/x-www-form-urlencoded"
        clock.now += 400  # within five minutes of its end: it still serves, and a new one is fetched behind it
        assert await auth.headers(REQUEST) == {"authorization": "Bearer token-1"}
        assert await upstream.requested(2)
        for _ in range(1000):
            renewed = await auth.headers(REQUEST)
            if renewed == {"authorization": "Bearer token-2"}:
                break
            await asyncio.sleep(0.001)
        assert renewed == {"authorization": "Bearer token-2"}
        await transport.aclose()


async def test_a_token_that_is_refused_is_replaced_once() -> None:
    clock, transport = Clock(), HttpTransport()
    async with scripted(TokenServer(clock)) as upstream:
        auth = iam(transport, clock, f"{upstream.base_url}/identity/token", Secret("key"))
        await auth.headers(REQUEST)
        clock.now += 60
        assert auth.rejected(401)
        assert await auth.headers(REQUEST) == {"authorization": "Bearer token-2"}
        assert not auth.rejected(401)
        assert not auth.rejected(403)
        await transport.aclose()


async def test_a_call_with_a_stale_token_is_sent_once_more() -> None:
    clock, transport = Clock(), HttpTransport()
    tokens = TokenServer(clock)
    shown: list[str] = []

    async def script(exchange: Exchange) -> None:
        if exchange.request.path == "/token":
            await tokens(exchange)
            return
        shown.append(exchange.request.headers["authorization"])
        if shown[-1] == "Bearer token-1" and len(shown) > 1:
            await exchange.answer(401, {"errors": [{"code": "authentication_token_expired", "message": "expired"}]})
        else:
            await exchange.answer(200, {"results": [{"embedding": [1.0]}], "input_token_count": 1})

    async with scripted(script) as upstream:
        given = {"kind": "watsonx", "base_url": upstream.base_url, "iam_url": f"{upstream.base_url}/token"}
        set_up = settings(ENVIRON, **given)
        provider = KIND.card("watsonx", set_up, Shared(transport, clock))
        assert provider.embed is not None
        wire = Wire(provider, Target("watsonx", "m"), transport, connect_timeout=5)
        endpoint = EmbedEndpoint(wire, provider.embed)
        for _ in range(2):
            request = v1.EmbedRequest(inputs=[v1.EmbedInput(text="a")])
            await (await endpoint(request, context("embed"))).response()
            clock.now += 60
        assert shown == ["Bearer token-1", "Bearer token-1", "Bearer token-2"]
        assert tokens.given == 2
        await transport.aclose()


async def test_a_key_that_is_refused() -> None:
    clock, transport = Clock(), HttpTransport()
    async with scripted(TokenServer(clock)) as upstream:
        auth = iam(transport, clock, f"{upstream.base_url}/identity/token", Secret("wrong"))
        with pytest.raises(CredentialsRejected) as caught:
            await auth.headers(REQUEST)
        assert "wrong" not in str(caught.value)
        await transport.aclose()


@pytest.mark.parametrize(
    ("settings", "header"),
    [({"token": "env:KEY"}, "Bearer k"), ({"zen_api_key": "env:KEY"}, "ZenApiKey k")],
)
async def test_other_credentials(settings: Any, header: str) -> None:
    card = made(KIND, "watsonx", api_key=Secret(""), project_id="p", **settings)
    assert await card.auth.headers(REQUEST) == {"authorization": header}
    assert not card.auth.rejected(401)


def test_addresses() -> None:
    assert made(KIND, "w").base_url == "https://us-south.ml.cloud.ibm.com"
    assert made(KIND, "w", region="eu-de").base_url == "https://eu-de.ml.cloud.ibm.com"
    card = made(KIND, "w", base_url="https://cluster.example/", region="eu-de")
    assert card.base_url == "https://cluster.example"
    assert card.operations() == ["chat", "embed", "rerank"]
    assert card.url("/ml/v1/text/chat?version=2024-10-08", Target("w", "m")).endswith("/text/chat?version=2024-10-08")


def settings(environ: dict[str, str], **given: Any) -> Watsonx:
    return Watsonx.model_validate({"kind": "watsonx", **given}, context={"environ": environ})


def test_usual_variables() -> None:
    found = settings(ENVIRON | {"WATSONX_REGION": "jp-tok", "WATSONX_SPACE_ID": "s-1"})
    assert (found.api_key.reveal(), found.project_id, found.space_id, found.region) == ("key", "p-1", "s-1", "jp-tok")
    assert settings({"WX_API_KEY": "k", "WATSONX_URL": "https://x.example"}).base_url == "https://x.example"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (ENVIRON, {}),
        ({"WATSONX_TOKEN": "t", "WATSONX_DEPLOYMENT_SPACE_ID": "s"}, {}),
        ({"WATSONX_APIKEY": "key"}, None),
        ({"WATSONX_PROJECT_ID": "p"}, None),
        ({}, None),
    ],
)
def test_whether_it_is_set_up(environ: dict[str, str], expected: Any) -> None:
    assert KIND.usually(environ) == expected


@pytest.mark.parametrize(
    "given", [{}, {"api_key": "env:KEY", "api_version": "soon"}, {"api_key": "env:KEY", "region": "/"}]
)
def test_settings_that_make_no_sense(given: Any) -> None:
    with pytest.raises(ValidationError):
        settings({"KEY": "k"}, **given)
