"""A collector that takes what the gateway sends and counts the spans. `sink PORT`

`/parley.bench.Sink/Spans` answers how many have come, as decimal digits.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

SPANS = "/parley.bench.Sink/Spans"
_TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


class Sink(grpc.GenericRpcHandler):
    """Answers every method."""

    def __init__(self) -> None:
        self._spans = 0

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        handlers = {SPANS: self._tell, _TRACES: self._take}
        return grpc.unary_unary_rpc_method_handler(handlers.get(details.method, _pass))

    def _take(self, body: bytes, _context: grpc.ServicerContext) -> bytes:
        export = ExportTraceServiceRequest.FromString(body)
        self._spans += sum(len(scope.spans) for resource in export.resource_spans for scope in resource.scope_spans)
        return b""  # an empty response, serialised

    def _tell(self, _body: bytes, _context: grpc.ServicerContext) -> bytes:
        return b"%d" % self._spans


def _pass(_body: bytes, _context: grpc.ServicerContext) -> bytes:
    return b""  # metrics


def spans(address: str) -> int:
    """How many spans the sink at `address` has got."""
    with grpc.insecure_channel(address) as channel:
        ask: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(SPANS)
        told = ask(b"", timeout=5)
    return int(told)


if __name__ == "__main__":
    server = grpc.server(ThreadPoolExecutor(1), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((Sink(),))
    server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
    server.start()
    server.wait_for_termination()
