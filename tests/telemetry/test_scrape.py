"""What Prometheus is told by the real gateway: asked over HTTP, read with the parser of Prometheus' own client."""

from __future__ import annotations

import asyncio
import gzip
import socket
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families

from parley import v1
from parley_server.metrics import OBSERVED, RECORDED
from parley_server.scrape import ScrapeServer
from tests.gateway.process import Gateway, ask, config, gateway, stream
from tests.telemetry.collectors import Collected, grpc_collector
from tests.tools.metrics import label, prometheus

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY = "sk-parley-ann-0123456789abcdef"
PRICES = {"providers": {"mock": {"echo": {"prices": {"input": "3", "output": "5"}}}}}
METHOD = "parley.v1.GatewayService/"


@dataclass
class Scene:
    server: Gateway
    collected: Collected
    usage: v1.Usage = field(default_factory=v1.Usage)
    """Of the stream."""

    def url(self, path: str = "/metrics") -> str:
        [port] = [line["metrics_port"] for line in self.server.log if line["event"] == "serving"]
        return f"http://127.0.0.1:{port}{path}"

    async def scrape(self) -> dict[str, Metric]:
        """The families, by name."""
        text = (await asyncio.to_thread(_get, self.url()))[1].decode()
        return {family.name: family for family in text_string_to_metric_families(text)}

    async def values(self, name: str, **labels: str) -> list[tuple[dict[str, str], float]]:
        """The samples of that name with those labels: the others, and the value."""
        families = await self.scrape()
        samples = [sample for family in families.values() for sample in family.samples if sample.name == name]
        return [
            ({key: value for key, value in sample.labels.items() if key not in labels and value}, sample.value)
            for sample in samples
            if labels.items() <= sample.labels.items()
        ]

    async def shows(self, name: str, value: float, **labels: str) -> None:
        """Wait until samples come to `value`. What is looked up, one scrape may have from the one before; a call is
        over only a moment after its caller has the answer.
        """
        async with asyncio.timeout(10):
            while True:
                if value == sum(found for _, found in await self.values(name, **labels)):
                    return
                await asyncio.sleep(0.02)

    async def call(self, request: v1.ChatRequest) -> str:
        """The name of the status it ends with."""
        try:
            await self.server.stub.Chat(request, metadata=(("authorization", f"Bearer {KEY}"),))
        except grpc.aio.AioRpcError as error:
            return error.code().name
        return "OK"


def _get(url: str, headers: Mapping[str, str] | None = None) -> tuple[Any, bytes]:
    with urllib.request.urlopen(urllib.request.Request(url, headers=dict(headers or {})), timeout=10) as response:
        return response.headers, response.read()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    models = {
        "flaky": {"errors": [{"status": 500}, {"status": 503}] * 20},
        "slow": {"first_token_delay": 0.5},
    }
    limits = {"limits": [{"requests": 1, "per": "1h", "models": ["mock/rare"]}, {"tokens": 10_000_000, "per": "1h"}]}
    settings = config(
        admin={"address": "127.0.0.1:0", "metrics_address": "127.0.0.1:0"},
        providers={"mock": {"models": {**models, "rare": {}}}, "other": {"kind": "mock"}},
        callers={"ann": {"key": "env:ANN", **limits}},
        catalog={"overlay": PRICES},
        cache={"max_temperature": 2},
        bulkhead={"concurrency": 1},
        retry={"base": 0.001, "attempts_per_target": 2},
        telemetry={"by_caller": True},
    )
    with grpc_collector() as (endpoint, collected):
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_METRIC_EXPORT_INTERVAL": "100",
            "ANN": KEY,
        }
        async with gateway(settings, tmp_path_factory.mktemp("gateway"), environ) as server:
            scene = Scene(server, collected)
            await happen(scene)
            yield scene


async def happen(scene: Scene) -> None:
    """All that the tests look at: every worker sees the same, whichever of them it runs."""
    assert await scene.call(ask("mock/echo", "one two three")) == "OK"
    request = ask("mock/flaky", "four")
    request.routing.fallbacks.add(model="other/echo")
    assert await scene.call(request) == "OK"
    assert await scene.call(ask("nobody/knows")) == "NOT_FOUND"
    reading = scene.server.stub.StreamChat(stream("mock/echo", "five six"), metadata=(("x-api-key", KEY),))
    heard = [event async for event in reading]
    scene.usage.CopyFrom(heard[-1].completed.usage)
    for number in range(20):
        assert await scene.call(ask(f"mock/made-up-{number}", "x")) == "NOT_FOUND"
    assert [await scene.call(ask("mock/rare", text)) for text in ("a", "b")] == ["OK", "RESOURCE_EXHAUSTED"]
    cached = v1.ResponseCacheOptions(mode=v1.ResponseCacheOptions.MODE_READ_WRITE)
    assert [await scene.call(ask("mock/echo", "again", response_cache=cached)) for _ in range(2)] == ["OK", "OK"]
    busy = [asyncio.ensure_future(scene.call(ask("mock/slow", text))) for text in ("a", "b")]
    await scene.shows("parley_upstream_active_attempts", 1, gen_ai_request_model="slow")
    assert await asyncio.gather(*busy) == ["OK", "OK"]
    await scene.shows("rpc_server_call_duration_seconds_count", 30)


async def test_calls_and_attempts_are_counted(scene: Scene) -> None:
    calls = await scene.values("rpc_server_call_duration_seconds_count", rpc_system_name="grpc")
    assert {tuple(labels.values()): value for labels, value in calls} == {
        (f"{METHOD}Chat", "OK"): 7,
        ("MODEL_NOT_FOUND", f"{METHOD}Chat", "NOT_FOUND"): 21,
        ("RATE_LIMITED", f"{METHOD}Chat", "RESOURCE_EXHAUSTED"): 1,
        (f"{METHOD}StreamChat", "OK"): 1,
    }
    attempts = await scene.values("parley_upstream_attempts_total")
    assert {tuple(sorted(labels.items())): value for labels, value in attempts} == {
        _attempt("mock", "echo", "first"): 3,
        _attempt("mock", "rare", "first"): 1,
        _attempt("mock", "slow", "first"): 2,
        _attempt("mock", "_OTHER", "first", "MODEL_NOT_FOUND"): 20,
        _attempt("mock", "flaky", "first", "PROVIDER_UNAVAILABLE"): 1,
        _attempt("mock", "flaky", "retry", "PROVIDER_OVERLOADED"): 1,
        _attempt("other", "echo", "fallback"): 1,
    }
    of_echo = {"gen_ai_operation_name": "chat", "parley_provider": "mock", "gen_ai_request_model": "echo"}
    [(named, operations)] = await scene.values("gen_ai_client_operation_duration_seconds_count", **of_echo)
    assert (named, operations) == ({"gen_ai_provider_name": "mock"}, 3)
    [(_, streams)] = await scene.values("gen_ai_client_operation_time_to_first_chunk_seconds_count", **of_echo)
    assert streams == 1
    tokens = await scene.values("gen_ai_client_token_usage_sum", **of_echo)
    used = {labels["gen_ai_token_type"]: value for labels, value in tokens}
    assert used["output"] > scene.usage.output_tokens > 0
    [(_, cost)] = await scene.values(
        "parley_upstream_cost_nano_usd_total", parley_provider="mock", gen_ai_request_model="echo"
    )
    assert cost == used["input"] * 3000 + used["output"] * 5000
    [(_, spent)] = await scene.values("parley_caller_cost_nano_usd_total", parley_caller="ann")
    assert spent == cost


def _attempt(provider: str, model: str, kind: str, error: str = "") -> tuple[tuple[str, str], ...]:
    labels = {"parley_provider": provider, "gen_ai_request_model": model, "parley_attempt_kind": kind}
    return tuple(sorted({**labels, **({"error_type": error} if error else {})}.items()))


async def test_what_callers_make_up_is_no_label(scene: Scene) -> None:
    text = (await asyncio.to_thread(_get, scene.url()))[1].decode()
    assert "made-up" not in text
    assert "_OTHER" in text
    assert KEY not in text


async def test_limits_waits_cache_and_circuits_are_told(scene: Scene) -> None:
    refused = await scene.values("parley_limits_calls_total", parley_limits_result="refused")
    assert refused == [({"parley_limits_owner": "caller", "parley_limits_of": "requests"}, 1)]

    await scene.shows("parley_cache_lookups_total", 1, parley_cache_result="memory_hit")
    await scene.shows("parley_cache_events_total", 1, parley_cache_event="write")

    [(_, waited)] = await scene.values("parley_upstream_queue_duration_seconds_count", parley_queue="bulkhead")
    [(_, seconds)] = await scene.values("parley_upstream_queue_duration_seconds_sum", parley_queue="bulkhead")
    assert waited == 1
    assert 0.2 < seconds < 5
    states = await scene.values("parley_upstream_circuit_state", gen_ai_request_model="echo")
    assert [value for _, value in states] == [0, 0]
    assert (await scene.values("parley_event_loop_delay_seconds_count"))[0][1] > 1


async def test_names_types_units_and_labels_are_those_of_the_table(scene: Scene) -> None:
    families = await scene.scrape()
    of = {"histogram": "histogram", "counter": "counter", "gauge": "gauge", "up_down_counter": "gauge"}
    for row in (*RECORDED, *OBSERVED):
        family = families.pop(prometheus(row).removesuffix("_total"))
        assert family.type == of[row.kind], row.name
        assert family.documentation == row.description
        labels = {name for sample in family.samples for name in sample.labels} - {"le"}
        assert labels <= {label(name) for name in row.attributes}, row.name
        if row.kind == "histogram":
            bounds = {float(sample.labels["le"]) for sample in family.samples if sample.name.endswith("_bucket")}
            assert bounds == {*row.bounds, float("inf")}
    assert {name for name in families if not name.startswith("process_")} == {"target_info"}
    assert families["target_info"].samples[0].labels["service_name"] == "parley"
    assert families["process_resident_memory_bytes"].samples[0].value > 1_000_000


async def test_a_collector_is_told_the_same(scene: Scene) -> None:
    calls = sum(value for _, value in await scene.values("rpc_server_call_duration_seconds_count"))
    async with asyncio.timeout(10):
        while True:
            metric = scene.collected.metrics.get("rpc.server.call.duration")
            if metric is not None and sum(point.count for point in metric.histogram.data_points) == calls:
                return
            await asyncio.sleep(0.02)


async def test_formats_and_paths(scene: Scene) -> None:
    headers, body = await asyncio.to_thread(
        _get, scene.url(), {"Accept": "application/openmetrics-text;version=1.0.0", "Accept-Encoding": "gzip"}
    )
    assert headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    families = open_metrics(gzip.decompress(body).decode())  # type: ignore[no-untyped-call]
    names = {family.name for family in families}
    assert "gen_ai_client_operation_duration_seconds" in names
    for path, status in (("/", 404), ("/metrics/x", 404)):
        with pytest.raises(urllib.error.HTTPError) as raised:
            await asyncio.to_thread(_get, scene.url(path))
        assert raised.value.code == status
        assert b"/metrics" in raised.value.read()
        raised.value.close()
    posted = urllib.request.Request(scene.url(), data=b"x")
    with pytest.raises(urllib.error.HTTPError) as raised:
        await asyncio.to_thread(urllib.request.urlopen, posted, None, 10)
    assert raised.value.code == 405
    raised.value.close()


async def test_clients_that_say_nothing_keep_nobody_waiting_and_are_few(scene: Scene) -> None:
    address = ("127.0.0.1", int(scene.url().split(":")[2].split("/")[0]))
    silent = [socket.create_connection(address, 5) for _ in range(7)]
    try:
        begun = time.monotonic()
        assert (await scene.scrape())["parley_config_revision"].samples[0].value == 1
        assert time.monotonic() - begun < 5
        silent += [socket.create_connection(address, 5) for _ in range(2)]
        silent[-1].settimeout(5)
        assert await asyncio.to_thread(silent[-1].recv, 1) == b"", "one more than there may be is sent away"
    finally:
        for one in silent:
            one.close()


async def test_an_error_is_logged_and_told_without_its_text(capfd: pytest.CaptureFixture[str]) -> None:
    class Broken:
        def collect(self) -> Any:
            raise RuntimeError("nobody else's business")

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Broken())
    server = ScrapeServer(registry, "[::1]:0")
    server.start()
    try:
        with pytest.raises(urllib.error.HTTPError) as raised:
            await asyncio.to_thread(_get, f"http://[::1]:{server.port}/metrics")
        assert (raised.value.code, raised.value.read()) == (500, b"the log says why\n")
        raised.value.close()
    finally:
        server.stop()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("::1", server.port), 5)
