"""Collectors on real sockets: they take OTLP and keep the spans and the metrics."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent import futures
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import grpc
from aiohttp import web
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collected:
    """What has arrived so far."""

    def __init__(self) -> None:
        self.requests: list[trace_service_pb2.ExportTraceServiceRequest] = []
        self.headers: list[dict[str, str]] = []
        """Of the requests with spans."""
        self.paths: list[str] = []
        """Of these where they came over HTTP."""
        self.measured: list[metrics_service_pb2.ExportMetricsServiceRequest] = []

    @property
    def metrics(self) -> dict[str, Metric]:
        """By name, the last that came of each."""
        resources = [resource for request in self.measured for resource in request.resource_metrics]
        return {one.name: one for resource in resources for scope in resource.scope_metrics for one in scope.metrics}

    @property
    def numbers(self) -> dict[str, float]:
        """The values of all that are one number each."""
        found = {name: _numbers(metric) for name, metric in self.metrics.items()}
        return {name: numbers[0] for name, numbers in found.items() if len(numbers) == 1}

    @property
    def spans(self) -> list[Span]:
        return [s for r in self.requests for rs in r.resource_spans for ss in rs.scope_spans for s in ss.spans]

    def span(self, name: str) -> Span:
        [found] = [span for span in self.spans if span.name == name]
        return found

    @property
    def resource(self) -> dict[str, Any]:
        return attributes(self.requests[0].resource_spans[0].resource.attributes)


def attributes(pairs: Any) -> dict[str, Any]:
    """Attributes of a span or resource as plain values."""
    return {pair.key: _value(pair.value) for pair in pairs if isinstance(pair, KeyValue)}


def _value(value: AnyValue) -> Any:
    match value.WhichOneof("value"):
        case "array_value":
            return [_value(item) for item in value.array_value.values]
        case str(kind):
            return getattr(value, kind)
        case _:
            return None


def _numbers(metric: Metric) -> list[float]:
    points = (metric.gauge if metric.HasField("gauge") else metric.sum).data_points
    return [float(p.as_int if p.WhichOneof("value") == "as_int" else p.as_double) for p in points]


class _MetricsServicer(metrics_service_pb2_grpc.MetricsServiceServicer):
    def __init__(self, collected: Collected, stall: threading.Event | None) -> None:
        self._collected = collected
        self._stall = stall

    def Export(
        self, request: metrics_service_pb2.ExportMetricsServiceRequest, context: grpc.ServicerContext
    ) -> metrics_service_pb2.ExportMetricsServiceResponse:
        if self._stall is not None:
            self._stall.wait(30)
        self._collected.measured.append(request)
        return metrics_service_pb2.ExportMetricsServiceResponse()


class _Servicer(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, collected: Collected, stall: threading.Event | None) -> None:
        self._collected = collected
        self._stall = stall

    def Export(
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        if self._stall is not None:
            self._stall.wait(30)
        self._collected.requests.append(request)
        self._collected.headers.append({key: str(value) for key, value in context.invocation_metadata()})
        return trace_service_pb2.ExportTraceServiceResponse()


@contextmanager
def grpc_collector(*, stalled: bool = False) -> Iterator[tuple[str, Collected]]:
    """An OTLP/gRPC collector: its endpoint, and what it got. `stalled`: takes connections and answers nothing."""
    collected = Collected()
    stall = threading.Event() if stalled else None
    server = grpc.server(futures.ThreadPoolExecutor(2))
    add_servicer: Any = trace_service_pb2_grpc.add_TraceServiceServicer_to_server  # untyped
    add_servicer(_Servicer(collected, stall), server)
    add_servicer = metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server
    add_servicer(_MetricsServicer(collected, stall), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"http://127.0.0.1:{port}", collected
    finally:
        if stall is not None:
            stall.set()
        server.stop(0).wait(5)


@asynccontextmanager
async def http_collector() -> AsyncIterator[tuple[str, Collected]]:
    """An OTLP/HTTP collector that takes protobuf bodies."""
    collected = Collected()

    async def export(request: web.Request) -> web.Response:
        assert request.content_type == "application/x-protobuf"
        collected.requests.append(trace_service_pb2.ExportTraceServiceRequest.FromString(await request.read()))
        collected.headers.append(dict(request.headers))
        collected.paths.append(request.path)
        body = trace_service_pb2.ExportTraceServiceResponse().SerializeToString()
        return web.Response(body=body, content_type="application/x-protobuf")

    async def measure(request: web.Request) -> web.Response:
        assert request.content_type == "application/x-protobuf"
        body = await request.read()
        collected.measured.append(metrics_service_pb2.ExportMetricsServiceRequest.FromString(body))
        return web.Response(body=b"", content_type="application/x-protobuf")

    app = web.Application()
    app.router.add_post("/{where:.*}v1/traces", export)
    app.router.add_post("/{where:.*}v1/metrics", measure)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield f"http://127.0.0.1:{port}", collected
    finally:
        await runner.cleanup()
        await asyncio.sleep(0)
