"""Sets up OpenTelemetry and logging; everything else gets a tracer handed in, and logs through structlog.

Endpoint, headers, certificates, sampler, queue sizes, intervals and further resource attributes come from the standard
OTEL_* variables, which the SDK reads itself. Spans leave on a thread of their own, from a bounded queue: while no
collector can be reached, calls go on as ever and the newest spans win. Metrics are those of `metrics.py`: sent,
scraped (`scrape.py`), or both.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, Literal, Protocol, TextIO

import structlog
from opentelemetry.context import Context as TraceContext
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetrics
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetrics
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Tracer, format_span_id, format_trace_id, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import CollectorRegistry, ProcessCollector

from parley_server import __version__, metrics_export
from parley_server.core.context import current
from parley_server.core.gauges import Gauges
from parley_server.core.scrub import scrub
from parley_server.measures import Measures
from parley_server.pipeline.sampling import TraceIds, span_context

_SCOPE = "parley"
_W3C = TraceContextTextMapPropagator()
_STOP = 1.0  # seconds for the exporting thread to notice that its time is up
_LIBRARIES = ("grpc", "asyncio", "opentelemetry", "urllib3")  # loud below WARNING, and not about us

log = structlog.get_logger(_SCOPE)


class Settings(Protocol):
    """What `start` needs to know."""

    @property
    def enabled(self) -> bool: ...
    @property
    def traces(self) -> bool: ...
    @property
    def metrics(self) -> bool: ...
    @property
    def by_caller(self) -> bool: ...
    @property
    def protocol(self) -> Literal["grpc", "http/protobuf"]: ...
    @property
    def service_name(self) -> str: ...


class _Exporter(SpanExporter):
    """An exporter that may be shut down from two sides: by the processor that feeds it, and when time is up."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self._over = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return self._inner.export(spans)

    def shutdown(self) -> None:
        if not self._over:
            self._over = True
            self._inner.shutdown()  # ends the waits between tries, too


class _Traces:
    """Spans on their way out."""

    def __init__(self, resource: Resource, protocol: str) -> None:
        self._exporter = _Exporter(GrpcExporter() if protocol == "grpc" else HttpExporter())
        self.provider = TracerProvider(
            resource=resource,
            shutdown_on_exit=False,  # its own exit hook has no limit
            id_generator=TraceIds(),
        )
        self.provider.add_span_processor(BatchSpanProcessor(self._exporter))

    def shutdown(self, timeout: float) -> None:
        """Send what is queued, for at most `timeout` seconds, and stop."""
        flushing = threading.Thread(target=self.provider.shutdown, name="telemetry-shutdown", daemon=True)
        flushing.start()
        flushing.join(timeout)
        if flushing.is_alive():
            self._exporter.shutdown()
            flushing.join(_STOP)
            log.warning("spans were lost: the collector did not take them", seconds=timeout)


class _Metrics:
    """Numbers that are sent at intervals, or asked for, or both."""

    def __init__(self, resource: Resource, readers: Sequence[MetricReader]) -> None:
        self.provider = MeterProvider(readers, resource=resource, shutdown_on_exit=False)

    def shutdown(self, timeout: float) -> None:
        """Look and send once more, for at most `timeout` seconds, and stop."""
        try:
            self.provider.shutdown(timeout * 1000.0)
        except Exception as error:  # the SDK has one class for all that may go wrong there
            log.warning("the last metrics were lost", error=scrub(str(error)))


class Telemetry:
    """`tracer` and `measures` are None while tracing and metrics are off: nothing is built then that needs them.

    `registry`: where Prometheus' client finds the metrics, if they are to be had there.
    """

    def __init__(
        self,
        traces: _Traces | None = None,
        metrics: _Metrics | None = None,
        measures: Measures | None = None,
        registry: CollectorRegistry | None = None,
    ) -> None:
        self._traces = traces
        self._metrics = metrics
        self.measures = measures
        self.registry = registry
        self.tracer: Tracer | None = None if traces is None else traces.provider.get_tracer(_SCOPE, __version__)

    def observe(self, gauges: Gauges) -> None:
        """Export what is counted, and what `gauges` says as seen by the running event loop."""
        if self._metrics is not None and self.measures is not None:
            meter = self._metrics.provider.get_meter(_SCOPE, __version__)
            metrics_export.observe(meter, gauges, asyncio.get_running_loop())
            metrics_export.count(meter, self.measures.families)

    def shutdown(self, timeout: float) -> None:
        """Send what is there, for at most `timeout` seconds, and stop. Blocks; what is not sent by then is lost."""
        parts = [part for part in (self._traces, self._metrics) if part is not None]
        self._traces = self._metrics = None
        ends = [threading.Thread(target=part.shutdown, args=(timeout,), daemon=True) for part in parts]
        for end in ends:
            end.start()
        for end in ends:
            end.join(timeout + 2 * _STOP)


def start(settings: Settings, *, scraped: bool = False) -> Telemetry:
    """Traces and metrics as configured. Never waits for a collector. `scraped`: metrics are asked for as well."""
    grpc = settings.protocol == "grpc"
    sent = settings.enabled and settings.metrics
    resource = Resource.create({"service.name": settings.service_name, "service.version": __version__})
    traces = _Traces(resource, settings.protocol) if settings.enabled and settings.traces else None
    if not (sent or scraped):
        return Telemetry(traces)
    measures, readers = Measures(by_caller=settings.by_caller), list[MetricReader]()
    registry = CollectorRegistry() if scraped else None
    if sent:
        readers.append(metrics_export.Sending(GrpcMetrics() if grpc else HttpMetrics(), measures.families))
    if registry is not None:
        readers.append(metrics_export.Scraping(measures.families, registry))
        ProcessCollector(registry=registry)
    return Telemetry(traces, _Metrics(resource, readers), measures, registry)


def log_to_stderr(level: str, format: Literal["console", "json"]) -> None:
    """Send every log line, ours and those of libraries, to standard error."""
    log_to(sys.stderr, level, format)


def log_to(stream: TextIO, level: str, format: Literal["console", "json"]) -> None:
    """One line per event: for people, or one JSON object each. Lines of a call have its request and trace IDs.

    Whatever looks like a credential is taken out, and so are the secrets of the configuration.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _say_whose,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.PositionalArgumentsFormatter(),
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    renderer: structlog.typing.Processor = structlog.processors.JSONRenderer()
    if format == "console":
        renderer = structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _scrub_event,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _LIBRARIES:
        logging.getLogger(name).setLevel(max(root.level, logging.WARNING))


def _say_whose(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add the call that a line is written for, and its trace: the caller's own where this gateway traces nothing."""
    ctx = current()
    if ctx is None:
        return event
    event.setdefault("request_id", ctx.request_id)
    span = span_context(ctx.trace)
    if not span.is_valid:
        span = get_current_span(_W3C.extract(ctx.headers, TraceContext())).get_span_context()
    if span.is_valid:
        event.setdefault("trace_id", format_trace_id(span.trace_id))
        event.setdefault("span_id", format_span_id(span.span_id))
    return event


def _scrub_event(_logger: object, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    return {key: _scrubbed(value) for key, value in event.items()}


def _scrubbed(value: object) -> object:
    match value:
        case str():
            return scrub(value)
        case bool() | int() | float() | None:
            return value
        case Mapping():
            return {str(key): _scrubbed(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_scrubbed(item) for item in value]
        case _:  # messages, exceptions, paths: whatever their repr shows
            return scrub(repr(value))
