"""The listing of an Ollama server, over a real socket: details are asked for once, and never at the start."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from parley import v1
from parley_server.catalog import Catalog
from parley_server.core.errors import ProtocolError, Unavailable
from parley_server.core.target import Target
from parley_server.dialects.ollama import OllamaChat, OllamaEmbed
from parley_server.providers.base import Provider
from parley_server.providers.directory import Directory, list_models, probe
from parley_server.providers.ollama import KIND
from parley_server.transports.http import HttpTransport
from tests.providers.cards import made
from tests.upstream import Exchange, Upstream, scripted

SHOWN = {"capabilities": ["completion"], "model_info": {"general.architecture": "l", "l.context_length": 8192}}


@dataclass
class Server:
    """An Ollama server with some models, one of them loaded."""

    models: int = 3
    body: bytes = b""
    """Goes out in place of the list."""
    upstream: Upstream = field(init=False)

    async def __call__(self, exchange: Exchange) -> None:
        match exchange.request.path:
            case "/api/tags" if self.body:
                await exchange.answer(200, self.body)
            case "/api/tags":
                rows = [{"name": f"m{n}", "model": f"m{n}", "digest": f"d{n}"} for n in range(self.models)]
                await exchange.answer(200, {"models": rows})
            case "/api/ps":
                await exchange.answer(200, {"models": [{"name": "m0", "model": "m0", "context_length": 4096}]})
            case "/api/show":
                await exchange.answer(200, SHOWN)
            case path:
                raise AssertionError(path)

    @property
    def asked(self) -> list[str]:
        return [request.path for request in self.upstream.requests]


@asynccontextmanager
async def scene(server: Server) -> AsyncIterator[tuple[Provider, HttpTransport]]:
    transport = HttpTransport()
    async with scripted(server) as upstream:
        server.upstream = upstream
        yield made(KIND, "home", base_url=upstream.base_url), transport
        await transport.aclose()


async def test_details_are_asked_for_once() -> None:
    server = Server(models=9)
    async with scene(server) as (provider, transport):
        models = await list_models(provider, transport)
        assert len(models) == 9
        assert {model.limits.context_tokens for model in models} == {8192}
        assert [model.limits.max_input_tokens for model in models] == [4096, *[0] * 8]
        assert {tuple(model.operations) for model in models} == {("chat",)}
        assert server.asked.count("/api/show") == 9
        assert len(server.upstream.connections) <= 4
        assert await list_models(provider, transport) == models
        assert server.asked.count("/api/show") == 9


async def test_the_directory_merges_them() -> None:
    server = Server()
    async with scene(server) as (provider, transport):
        directory = Directory({"home": provider}, Catalog.load(), transport, on_change=lambda: None)
        await directory.refresh()
        model = directory.get("home/m0")
        assert model is not None
        assert (model.limits.context_tokens, model.limits.max_input_tokens) == (8192, 4096)
        assert model.state == v1.Model.STATE_ACTIVE


async def test_whether_it_is_there_is_one_question() -> None:
    server = Server()
    async with scene(server) as (provider, transport):
        await probe(provider, transport)
        assert server.asked == ["/api/tags"]


@pytest.mark.parametrize("body", [b"hello", b'{"object":"list"}'])
async def test_another_server_at_its_port_is_not_taken_for_it(body: bytes) -> None:
    async with scene(Server(body=body)) as (provider, transport):
        with pytest.raises(ProtocolError):
            await probe(provider, transport)


async def test_nobody_there() -> None:
    transport = HttpTransport()
    async with scripted(Server()) as upstream:
        pass
    with pytest.raises(Unavailable):
        await probe(made(KIND, "home", base_url=upstream.base_url), transport)
    await transport.aclose()


TARGET = Target("home", "m")


def kept(provider: Provider, options: str = "") -> list[Any]:
    """What chat and embeddings say of how long the model is kept."""
    assert isinstance(provider.chat, OllamaChat)
    assert isinstance(provider.embed, OllamaEmbed)
    message = v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text="hi")])
    chat, embed = v1.ChatRequest(messages=[message]), v1.EmbedRequest(inputs=[v1.EmbedInput(text="hi")])
    for request in (chat, embed):
        if options:
            request.provider_options_json["home"] = options
    calls = (provider.chat.encode(chat, TARGET, stream=False), provider.embed.encode(embed, TARGET))
    return [json.loads(call.body).get("keep_alive") for call in calls]


@pytest.mark.parametrize(
    ("setting", "sent"), [(None, None), ("10m", "10m"), ("1h30m", "1h30m"), ("-1", -1), ("0", 0), ("-1m", "-1m")]
)
def test_how_long_models_are_kept(setting: str | None, sent: Any) -> None:
    provider = made(KIND, "home", keep_alive=setting)
    assert kept(provider) == [sent, sent]
    assert kept(provider, '{"keep_alive":"5s"}') == ["5s", "5s"]


@pytest.mark.parametrize("setting", ["soon", "", "10", "5 m", "m"])
def test_durations(setting: str) -> None:
    if setting == "10":
        assert kept(made(KIND, "home", keep_alive=setting)) == [10, 10]
        return
    with pytest.raises(ValueError, match="keep_alive"):
        made(KIND, "home", keep_alive=setting)
