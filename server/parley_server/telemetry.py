"""Sets up OpenTelemetry and logging; everything else gets a tracer handed in, and logs through structlog.

Endpoint, headers, certificates, sampler, queue sizes and further resource attributes come from the standard OTEL_*
variables, which the SDK reads itself. Spans leave on a thread of their own, from a bounded queue: while no collector
can be reached, calls go on as ever and the newest spans win.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, Literal, Protocol, TextIO

import structlog
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Tracer

from parley_server import __version__
from parley_server.core.scrub import scrub

_SCOPE = "parley"
_STOP = 1.0  # seconds for the exporting thread to notice that its time is up
_LIBRARIES = ("grpc", "asyncio", "opentelemetry", "urllib3")  # loud below WARNING, and not about us


class Settings(Protocol):
    """What `start` needs to know."""

    @property
    def enabled(self) -> bool: ...
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


class Telemetry:
    """`tracer` is None while tracing is off: then no layer that traces is built at all."""

    def __init__(self, provider: TracerProvider | None, exporter: SpanExporter | None = None) -> None:
        self._provider = provider
        self._exporter = exporter
        self.tracer: Tracer | None = None if provider is None else provider.get_tracer(_SCOPE, __version__)

    def shutdown(self, timeout: float) -> None:
        """Send what is queued, for at most `timeout` seconds, and stop. Blocks; what is not sent by then is lost."""
        if self._provider is None or self._exporter is None:
            return
        flushing = threading.Thread(target=self._provider.shutdown, name="telemetry-shutdown", daemon=True)
        flushing.start()
        flushing.join(timeout)
        if flushing.is_alive():
            self._exporter.shutdown()
            flushing.join(_STOP)
            structlog.get_logger(_SCOPE).warning("spans were lost: the collector did not take them", seconds=timeout)
        self._provider = None


def start(settings: Settings) -> Telemetry:
    """Tracing as configured. Never waits for a collector."""
    if not settings.enabled:
        return Telemetry(None)
    exporter = _Exporter(GrpcExporter() if settings.protocol == "grpc" else HttpExporter())
    resource = Resource.create({"service.name": settings.service_name, "service.version": __version__})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)  # its own exit hook would wait without limit
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Telemetry(provider, exporter)


def log_to_stderr(level: str, format: Literal["console", "json"]) -> None:
    """Send every log line, ours and those of libraries, to standard error."""
    log_to(sys.stderr, level, format)


def log_to(stream: TextIO, level: str, format: Literal["console", "json"]) -> None:
    """One line per event: for people, or one JSON object each. Whatever looks like a credential is taken out."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
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
