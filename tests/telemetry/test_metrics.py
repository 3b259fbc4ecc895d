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
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics, rpc_metrics

from parley_server import telemetry
from parley_server.app import Gateway
from parley_server.config import load
from parley_server.core.gauges import Gauges
from parley_server.core.instruments import Instrument
from parley_server.metrics import OBSERVED, RECORDED, Observed
from tests.gateway.process import ask, config, gateway, stream
from tests.gateway.wire import openai_answer, openai_chunk, openai_fails, sse
from tests.telemetry.collectors import Collected, attributes, grpc_collector, http_collector
from tests.telemetry.traced import Settings, finish
from tests.tools.metrics import rewritten
from tests.upstream import Exchange, scripted

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text("utf-8")
NAME = re.compile(r"parley(\.[a-z]+(_[a-z]+)*){2,3}")
CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
DELTA = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
KEYS = {"KEY_A": "sk-aaaaaaaaaaaaaaaaaaaaaaaa", "KEY_B": "sk-bbbbbbbbbbbbbbbbbbbbbbbb"}


class Meant:
    """A meter that remembers what it is asked for."""

    def create_histogram(self, name: str, description: str, unit: str) -> None:
        self.name, self.unit = name, unit


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


def rewrite(path: Path, text: str) -> None:
    """All at once: whoever looks meanwhile must not find an empty file."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.rename(path)


async def told(collected: Collected, *, more: int) -> None:
    """Wait until the collector has been told so many more times."""
    until = len(collected.measured) + more
    async with asyncio.timeout(10):
        while True:
            if len(collected.measured) >= until:
                return
            await asyncio.sleep(0.01)


def test_the_page_lists_them() -> None:
    first, *others = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert load(first, {}).admin.metrics_address == "127.0.0.1:9464"
    assert [load(block, {}).telemetry.metrics for block in others] == [True, True]
    assert rewritten(PAGE) == PAGE


def test_names_of_ours_have_no_attribute_that_is_not_told_of() -> None:
    [table] = re.findall(r"^\| attribute \| what \|\n\|---\|---\|\n(.*?)^<!--", PAGE, re.MULTILINE | re.DOTALL)
    told = dict(re.findall(r"^\| `([^`]+)` \| (.+) \|$", table, re.MULTILINE))
    assert told.keys() == {name for row in (*OBSERVED, *RECORDED) for name in row.attributes}
    assert all(told.values())


def test_the_table_shows_every_gauge_under_a_name_of_its_own() -> None:
    gateway = Gateway(load("providers: {mock: {}}", {}))
    alone, several = gateway.gauges.read().keys(), {row.gauge for row in OBSERVED if row.attributes}
    assert {row.gauge for row in OBSERVED} == alone | several
    assert alone & several == set()
    rows: list[Instrument | Observed] = [*OBSERVED, *RECORDED]
    assert len({row.name for row in rows}) == len(rows)
    for row in rows:
        assert NAME.fullmatch(row.name) or row.name.startswith(("gen_ai.client.", "rpc.server.")), row.name
        assert row.description.endswith(".")
        assert (row.kind == "histogram") == (isinstance(row, Instrument) and bool(row.bounds))


def test_names_units_and_buckets_are_those_of_the_conventions() -> None:
    rows = {row.name: row for row in RECORDED}
    known = {
        gen_ai_metrics.create_gen_ai_client_operation_duration,
        gen_ai_metrics.create_gen_ai_client_operation_time_to_first_chunk,
        gen_ai_metrics.create_gen_ai_client_token_usage,
        rpc_metrics.create_rpc_server_call_duration,
    }
    for create in known:
        made = Meant()
        create(made)  # type: ignore[arg-type]  # all it is asked for
        row = rows.pop(made.name)
        assert (row.kind, row.unit) == ("histogram", made.unit)
    assert all(name.startswith("parley.") for name in rows)


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

                rewrite(tmp_path / "parley.yaml", yaml.safe_dump({**settings, "refresh_models": 301}))
                await arrives(collected, config_revision=2, config_refused=0)
                rewrite(tmp_path / "parley.yaml", "nonsense: true")
                await arrives(collected, config_revision=2, config_refused=1)

                go_on.set()
                assert (await waiting).message.parts[0].text == "ok"
                async for _ in reading:
                    pass
                await arrives(collected, calls=0, open_upstream_streams=0, queued=0, shared_calls=0)
                assert collected.numbers["parley.server.remembered_answers.size"] > 0

    streams = collected.metrics["parley.upstream.open_streams"]
    assert (streams.unit, streams.sum.is_monotonic) == ("{stream}", False)
    assert streams.sum.aggregation_temporality == CUMULATIVE
    assert collected.metrics["parley.store.failures"].sum.is_monotonic
    assert collected.metrics["parley.config.revision"].HasField("gauge")
    attempts = {
        tuple(attributes(point.attributes).items()): point.as_int
        for point in collected.metrics["parley.upstream.attempts"].sum.data_points
    }
    ill = (("parley.provider", "acme"), ("gen_ai.request.model", "_OTHER"))
    assert attempts == {
        (*ill, ("parley.attempt.kind", "first")): 2,
        (*ill, ("parley.attempt.kind", "first"), ("error.type", "PROVIDER_UNAVAILABLE")): 1,
    }
    durations = collected.metrics["gen_ai.client.operation.duration"]
    assert (durations.unit, durations.histogram.aggregation_temporality) == ("s", CUMULATIVE)
    assert sorted(point.count for point in durations.histogram.data_points) == [1, 2]
    for point in durations.histogram.data_points:
        assert list(point.explicit_bounds) == [0.01 * 2**n for n in range(14)]
        assert sum(point.bucket_counts) == point.count
        assert point.sum > 0
    resource = attributes(collected.measured[0].resource_metrics[0].resource.attributes)
    assert (resource["service.name"], bool(resource["service.version"])) == ("parley", True)
    empty = {row.name for row in RECORDED if row.name not in collected.metrics}
    assert {row.name for row in (*OBSERVED, *RECORDED)} - empty == collected.metrics.keys()
    assert empty == {"parley.caller.calls", "parley.caller.tokens", "parley.caller.cost_nano_usd"}


async def test_over_http_and_once_more_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async with http_collector() as (endpoint, collected):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        telling = telemetry.start(Settings(protocol="http/protobuf", traces=False, metrics=True))
        gauges = Gauges()
        gauges.add("calls", lambda: 3)
        telling.observe(gauges)
        await finish(telling)
    assert collected.numbers["parley.server.active_calls"] == 3
    assert collected.numbers["parley.limits.calls"] == 0
    assert telling.tracer is None
    assert not collected.spans


async def test_differences_for_those_who_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    with grpc_collector() as (endpoint, collected):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "50")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta")
        telling = telemetry.start(Settings(traces=False, metrics=True))
        telling.observe(Gauges())
        assert telling.measures is not None
        cell = telling.measures.families.histograms["parley.event_loop.delay"].of()
        for value in (0.25, 0.5):
            cell.record(value)
            await told(collected, more=2)
        await finish(telling)
    came = [
        metric.histogram
        for request in collected.measured
        for metric in request.resource_metrics[0].scope_metrics[0].metrics
        if metric.name == "parley.event_loop.delay"
    ]
    assert [(one.aggregation_temporality, one.data_points[0].count, one.data_points[0].sum) for one in came] == [
        (DELTA, 1, 0.25),
        (DELTA, 1, 0.5),
    ]
    first, second = (one.data_points[0] for one in came)
    assert first.start_time_unix_nano < first.time_unix_nano <= second.start_time_unix_nano < second.time_unix_nano


async def test_while_the_event_loop_is_blocked_only_what_is_counted_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with grpc_collector() as (endpoint, collected):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "50")
        telling = telemetry.start(Settings(traces=False, metrics=True))
        gauges, looks = Gauges(), count(1)
        gauges.add("calls", lambda: next(looks))
        telling.observe(gauges)
        await arrives(collected, calls=2)
        time.sleep(0.2)  # noqa: ASYNC251  # a loop that is blocked
        looked, came = next(looks), len(collected.measured)
        time.sleep(2.5)  # noqa: ASYNC251
        assert next(looks) == looked + 1
        assert len(collected.measured) > came + 1
        metrics = collected.measured[-1].resource_metrics[0].scope_metrics[0].metrics
        assert "parley.server.active_calls" not in {metric.name for metric in metrics}
        assert "parley.limits.calls" in {metric.name for metric in metrics}
        await finish(telling)


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
