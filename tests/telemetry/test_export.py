"""Where spans go, and what it costs when nobody takes them."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from typing import Literal

import pytest

from parley_server import telemetry
from tests.fakes import Upstream, answering, chat, completed, context, drain
from tests.telemetry.collectors import grpc_collector, http_collector
from tests.telemetry.traced import CLIENT, FIRST, SERVER, Settings, finish, traced


async def test_over_http(monkeypatch: pytest.MonkeyPatch) -> None:
    async with http_collector() as (endpoint, collected):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-team=search")
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
        tracing = telemetry.start(Settings(protocol="http/protobuf", service_name="gateway-7"))
        await drain(traced(tracing, answering("hi")), chat(), context(attempts=3))
        await finish(tracing)
    assert {span.name for span in collected.spans} == {SERVER, CLIENT}
    assert collected.resource["service.name"] == "gateway-7"
    assert collected.resource["service.version"]
    assert collected.resource["deployment.environment.name"] == "test"
    assert collected.headers[0]["x-team"] == "search"


def test_off_means_no_tracer() -> None:
    assert telemetry.start(Settings(enabled=False)).tracer is None


@pytest.fixture
def dead_port() -> Iterator[int]:
    """A port on which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
async def test_unreachable_collector_costs_calls_nothing(
    monkeypatch: pytest.MonkeyPatch, dead_port: int, protocol: Literal["grpc", "http/protobuf"]
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{dead_port}")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "32")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8")
    tracing = telemetry.start(Settings(protocol=protocol))
    service = traced(tracing, Upstream(FIRST, [completed()]))
    start = time.monotonic()
    for _ in range(200):
        await drain(service, chat(), context(attempts=3))
    assert time.monotonic() - start < 2
    start = time.monotonic()
    await asyncio.to_thread(tracing.shutdown, 0.3)
    assert time.monotonic() - start < 1


async def test_collector_that_never_answers_does_not_hold_up_the_exit(monkeypatch: pytest.MonkeyPatch) -> None:
    with grpc_collector(stalled=True) as (endpoint, _):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        tracing = telemetry.start(Settings())
        await drain(traced(tracing, Upstream(FIRST, [completed()])), chat(), context(attempts=3))
        start = time.monotonic()
        await asyncio.to_thread(tracing.shutdown, 0.3)
        assert time.monotonic() - start < 1


async def test_shutting_down_twice_is_harmless() -> None:
    tracing = telemetry.start(Settings(enabled=False))
    tracing.shutdown(1)
    tracing.shutdown(1)
