"""What one configuration hands on to the next, seen from inside a gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc
import pytest
import yaml

from parley.v1.gateway_service_pb2_grpc import GatewayServiceStub
from parley_server import app, assembly
from parley_server.config import Config, load
from parley_server.providers.base import Provider
from parley_server.providers.kind import Shared
from parley_server.providers.kinds import known
from tests.gateway.process import ask


def settings(**sections: Any) -> Config:
    base = {"server": {"address": "127.0.0.1:0"}, "admin": {"enabled": False}, "providers": {"mock": {}}}
    return load(yaml.safe_dump({**base, **sections}), {})


@asynccontextmanager
async def serving(config: Config) -> AsyncIterator[tuple[app.Gateway, Any]]:
    gateway = app.Gateway(config)
    await gateway.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
            yield gateway, GatewayServiceStub(channel)
    finally:
        await gateway.stop(drain=0)


def lab(port: int = 9, **fields: Any) -> dict[str, Any]:
    return {"kind": "openai-compatible", "base_url": f"http://127.0.0.1:{port}/v1", "models": ["m"], **fields}


async def test_providers_with_the_same_settings_are_the_same() -> None:
    async with serving(settings(providers={"mock": {}, "a": lab(), "b": lab()})) as (gateway, _):
        before = dict(gateway._assembly.members)
        await gateway.reload(settings(providers={"mock": {}, "b": lab(headers={"x": "1"}), "a": lab(), "c": lab()}))
        after = gateway._assembly.members
        assert (after["a"], after["mock"]) == (before["a"], before["mock"])
        assert after["b"] is not before["b"]
        await asyncio.gather(*gateway._retiring)
        assert [before[name].users for name in ("a", "mock", "b")] == [1, 1, 0]


async def test_a_provider_that_cannot_be_made_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = dict(known())

    def fails(_name: str, _settings: Any, _shared: Shared) -> Provider:
        raise RuntimeError("no such region")

    async with serving(settings()) as (gateway, stub):
        before = gateway._assembly
        kinds["openai-compatible"] = replace(kinds["openai-compatible"], card=fails)
        monkeypatch.setattr(assembly, "known", lambda: kinds)
        with pytest.raises(RuntimeError, match="no such region"):
            await gateway.reload(settings(providers={"mock": {}, "lab": lab()}))
        assert gateway._assembly is before
        assert gateway.gauges.read()["config_revision"] == 1
        assert [member.users for member in before.members.values()] == [1]
        assert (await stub.Chat(ask("mock/echo"))).message.parts[0].text == "hello"


@pytest.mark.parametrize(
    ("sections", "kept"),
    [
        ({"unsupported_policy": "error"}, {"retries", "circuit", "places"}),
        ({"breaker": {"failures": 9}}, {"retries", "places"}),
        ({"retry": {"base": 1}}, {"circuit", "places"}),
        ({"bulkhead": {"concurrency": 7}}, {"retries", "circuit"}),
        ({"providers": {"mock": {"models": {"other": {}}}}}, set()),
    ],
)
async def test_what_is_remembered_of_a_target_depends_on_its_settings(sections: Any, kept: set[str]) -> None:
    bulkhead = {"bulkhead": {"concurrency": 5}}
    async with serving(settings(**bulkhead)) as (gateway, stub):
        await stub.Chat(ask("mock/echo"))
        before = gateway._assembly._health("mock/echo")
        await gateway.reload(settings(**{**bulkhead, **sections}))
        after = gateway._assembly._health("mock/echo")
        names = ("retries", "circuit", "places")
        assert {name for name in names if getattr(after, name) is getattr(before, name)} == kept
        assert (after.standing is before.standing) == bool(kept), "no policy changes how fast a target is"


async def test_a_gateway_that_stops_takes_no_more() -> None:
    async with serving(settings()) as (gateway, _):
        stopping = asyncio.create_task(gateway.stop(drain=0))
        await asyncio.sleep(0)
        await gateway.reload(settings(unsupported_policy="error"))
        assert gateway.gauges.read()["config_revision"] == 1
        await stopping
