"""What a collector is told of the gateway's state, over real sockets."""

from __future__ import annotations

import asyncio
import json
import re
import time
from itertools import count
from pathlib import Path

import pytest
import yaml
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

from parley_server import telemetry
from parley_server.app import Gateway
from parley_server.config import load
from parley_server.core.gauges import Gauges
from parley_server.metrics import OBSERVED
from tests.gateway.process import ask, config, gateway, stream
from tests.gateway.wire import openai_answer, openai_chunk, openai_fails, sse
from tests.telemetry.collectors import Collected, attributes, grpc_collector, http_collector
from tests.telemetry.traced import Settings, finish
from tests.upstream import Exchange, scripted

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text("utf-8")
NAME = re.compile(r"parley(\.[a-z]+(_[a-z]+)*){2,3}")
KEYS = {"KEY_A": "sk-aaaaaaaaaaaaaaaaaaaaaaaa", "KEY_B": "sk-bbbbbbbbbbbbbbbbbbbbbbbb"}


async def arrives(collected: Collected, **expected: float) -> None:
    """Wait until the collector has been told these values, by the names of the gauges."""
    names = {row.gauge: row.name for row in OBSERVED}
    try:
        async with asyncio.timeout(15):
            while True:
                numbers = collected.numbers
                if all(numbers.get(names[gauge]) == value for gauge, value in expected.items()):
                    return
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"{expected} expected, {collected.numbers} told") from None


def test_the_page_lists_them() -> None:
    [block] = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert load(block, {}).telemetry.metrics
    listed = re.findall(r"^\| `([a-z._]+)` \| ([a-z -]+) \| `([^`]+)` \| (.+) \|$", PAGE, re.MULTILINE)
    kinds = {"up_down_counter": "up-down counter", "counter": "counter", "gauge": "gauge"}
    assert listed == [(row.name, kinds[row.kind], row.unit, row.description.rstrip(".")) for row in OBSERVED]


def test_the_table_shows_every_gauge_under_a_name_of_its_own() -> None:
    gauges = Gateway(load("providers: {mock: {}}", {})).gauges.read()
    assert {row.gauge for row in OBSERVED} == gauges.keys()
    assert len({row.name for row in OBSERVED}) == len(OBSERVED)
    for row in OBSERVED:
        assert NAME.fullmatch(row.name), row.name
        assert row.description.endswith(".")


async def test_a_collector_is_told_what_the_gateway_holds(tmp_path: Path) -> None:
    go_on = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        request = exchange.request
        if request.method == "GET":
            await exchange.answer(200, {"data": []}, {"connection": "close"})
            await exchange.hang_up()
        elif request.headers["authorization"].endswith(KEYS["KEY_A"]):
            await openai_fails(401, "no such key", code="invalid_api_key")(exchange)
        elif request.json["model"] == "ill":
            await openai_fails(500, "broken")(exchange)
        elif request.json.get("stream"):
            await exchange.head(200, {"content-type": "text/event-stream"})
            await exchange.chunk(sse(openai_chunk({"content": "well"})))
            await go_on.wait()
            await exchange.chunk(sse(openai_chunk({"content": "!"}, "stop"), "[DONE]"))
            await exchange.end()
        else:
            await exchange.answer(200, json.dumps(openai_answer("ok")))

    with grpc_collector() as (endpoint, collected):
        async with scripted(script) as upstream:
            url = f"{upstream.base_url}/v1"
            acme = {"kind": "openai-compatible", "base_url": url, "api_keys": ["env:KEY_A", "env:KEY_B"]}
            settings = config(
                providers={"acme": acme},
                bulkhead={"concurrency": 1},
                breaker={"failures": 1, "max_wait": 0, "cool": 600},
                reload={"interval": 0.1},
                retry={"attempts_per_target": 1},
                idempotency={"window": 600},
            )
            environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_METRIC_EXPORT_INTERVAL": "50", **KEYS}
            async with gateway(settings, tmp_path, environ) as server:
                await arrives(collected, calls=0, open_upstream_streams=0, queued=0, open_circuits=0, keys_set_aside=0)
                await arrives(collected, shared_calls=0, config_revision=1, config_refused=0, stores_down=0)

                reading = server.stub.StreamChat(stream("acme/well"))
                await anext(aiter(reading))
                waiting = server.stub.Chat(ask("acme/well", idempotency_key="k"))
                await arrives(collected, calls=2, open_upstream_streams=1, queued=1, shared_calls=1, keys_set_aside=1)

                await server.stub.Chat(ask("acme/ill")).code()
                await arrives(collected, open_circuits=1)

                (tmp_path / "parley.yaml").write_text(yaml.safe_dump({**settings, "refresh_models": 301}))
                await arrives(collected, config_revision=2, config_refused=0)
                (tmp_path / "parley.yaml").write_text("nonsense: true")
                await arrives(collected, config_revision=2, config_refused=1)

                go_on.set()
                assert (await waiting).message.parts[0].text == "ok"
                async for _ in reading:
                    pass
                await arrives(collected, calls=0, open_upstream_streams=0, queued=0, shared_calls=0)
                assert collected.numbers["parley.server.remembered_answers.size"] > 0

    streams = collected.metrics["parley.upstream.open_streams"]
    assert (streams.unit, streams.sum.is_monotonic) == ("{stream}", False)
    assert streams.sum.aggregation_temporality == AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    assert collected.metrics["parley.store.failures"].sum.is_monotonic
    assert collected.metrics["parley.config.revision"].HasField("gauge")
    assert not any(point.attributes for metric in collected.metrics.values() for point in metric.sum.data_points)
    resource = attributes(collected.measured[0].resource_metrics[0].resource.attributes)
    assert (resource["service.name"], bool(resource["service.version"])) == ("parley", True)
    assert {row.name for row in OBSERVED} == collected.metrics.keys()


async def test_over_http_and_once_more_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async with http_collector() as (endpoint, collected):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        telling = telemetry.start(Settings(protocol="http/protobuf", traces=False, metrics=True))
        gauges = Gauges()
        gauges.add("calls", lambda: 3)
        telling.observe(gauges)
        await finish(telling)
    assert collected.numbers == {"parley.server.active_calls": 3}
    assert telling.tracer is None
    assert not collected.spans


async def test_while_the_event_loop_is_blocked_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with grpc_collector() as (endpoint, collected):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "50")
        telling = telemetry.start(Settings(traces=False, metrics=True))
        gauges, looks = Gauges(), count(1)
        gauges.add("calls", lambda: next(looks))
        telling.observe(gauges)
        await arrives(collected, calls=2)
        time.sleep(0.2)  # noqa: ASYNC251  # a loop that is blocked
        told = len(collected.measured)
        time.sleep(1.5)  # noqa: ASYNC251
        assert len(collected.measured) <= told + 1, "one may have been on its way"
        await finish(telling)
    assert collected.numbers["parley.server.active_calls"] == next(looks) - 1, (
        "what was asked for and came too late is not"
    )


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
async def test_a_collector_that_is_not_there_costs_nothing_but_the_numbers(
    monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    with grpc_collector(stalled=True) as (endpoint, _):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        telling = telemetry.start(Settings(protocol=protocol, metrics=True))  # type: ignore[arg-type]
        gauges = Gauges()
        gauges.add("calls", lambda: 1)
        telling.observe(gauges)
        begun = time.monotonic()
        await asyncio.to_thread(telling.shutdown, 0.3)
        assert time.monotonic() - begun < 3


def test_what_is_switched_off_is_not_there() -> None:
    telling = telemetry.start(Settings(traces=False, metrics=False))
    assert telling.tracer is None
    telling.shutdown(1)
