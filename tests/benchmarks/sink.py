"""A collector that takes what the gateway sends and counts. `sink PORT`

`/parley.bench.Sink/Tell` answers what has come, as JSON.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import grpc
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

_TELL = "/parley.bench.Sink/Tell"
_TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_METRICS = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
_CALLS = "rpc.server.call.duration"


class Told(NamedTuple):
    """What has come: spans, and of how many calls the latest metrics tell."""

    spans: int
    calls: int


class Sink(grpc.GenericRpcHandler):
    """Answers every method."""

    def __init__(self) -> None:
        self._spans = 0
        self._calls = 0

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        handlers = {_TELL: self._tell, _TRACES: self._take_spans, _METRICS: self._take_metrics}
        return grpc.unary_unary_rpc_method_handler(handlers[details.method])

    def _take_spans(self, body: bytes, _context: grpc.ServicerContext) -> bytes:
        export = ExportTraceServiceRequest.FromString(body)
        self._spans += sum(len(scope.spans) for resource in export.resource_spans for scope in resource.scope_spans)
        return b""  # an empty response, serialised

    def _take_metrics(self, body: bytes, _context: grpc.ServicerContext) -> bytes:
        export = ExportMetricsServiceRequest.FromString(body)
        scopes = [scope for resource in export.resource_metrics for scope in resource.scope_metrics]
        found = [metric.histogram for scope in scopes for metric in scope.metrics if metric.name == _CALLS]
        self._calls = sum(point.count for histogram in found for point in histogram.data_points)  # since the start
        return b""

    def _tell(self, _body: bytes, _context: grpc.ServicerContext) -> bytes:
        return json.dumps([self._spans, self._calls]).encode()


def told(address: str) -> Told:
    """What the sink at `address` has got."""
    with grpc.insecure_channel(address) as channel:
        ask: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_TELL)
        return Told(*json.loads(ask(b"", timeout=5)))


if __name__ == "__main__":
    server = grpc.server(ThreadPoolExecutor(1), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((Sink(),))
    server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
    server.start()
    server.wait_for_termination()
