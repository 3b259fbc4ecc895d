"""How the metrics leave: as instruments of OpenTelemetry's SDK, for its exporters.

What is looked up is read on the event loop, which owns it, though exporters run on threads of their own; while the loop
is blocked there is nothing to tell. What is counted as it happens is read wherever it is asked for.

Histograms are added to what the SDK has collected, since it has no instrument for those that are kept elsewhere; why
they are is told in decisions/0035.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Final

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.sdk.metrics import Histogram as SdkHistogram
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricsData,
    PeriodicExportingMetricReader,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.metrics.export import Histogram as HistogramPoints
from prometheus_client import CollectorRegistry

from parley_server.core.gauges import Gauges, Shown
from parley_server.core.instruments import Counter, Families, Family, Histogram, Instrument
from parley_server.metrics import OBSERVED, Observed

_PATIENCE = 1.0  # seconds that the event loop may take to answer
_FRESH = 0.1  # seconds in which all instruments of one export are read
_OVERFLOW: Final = {"otel.metric.overflow": True}
_CUMULATIVE, _DELTA = AggregationTemporality.CUMULATIVE, AggregationTemporality.DELTA

Attributes = Mapping[str, str | bool]


def observe(
    meter: Meter, gauges: Gauges, loop: asyncio.AbstractEventLoop, table: Sequence[Observed] = OBSERVED
) -> None:
    """Make the instruments of `table`, which show what `gauges` says on `loop`."""
    snapshot = _Snapshot(gauges, loop)
    for row in table:
        make = {
            "up_down_counter": meter.create_observable_up_down_counter,
            "counter": meter.create_observable_counter,
            "gauge": meter.create_observable_gauge,
        }[row.kind]
        make(row.name, [_looking(snapshot, row)], unit=row.unit, description=row.description)


def count(meter: Meter, families: Families) -> None:
    """Make the counters of `families`."""
    for family in families.counters.values():
        row = family.instrument
        meter.create_observable_counter(row.name, [_counting(family)], unit=row.unit, description=row.description)


def _looking(snapshot: _Snapshot, row: Observed) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def look(_options: CallbackOptions) -> Iterable[Observation]:
        match snapshot.read().get(row.gauge):
            case None:
                return []
            case float() | int() as value:
                return [Observation(value)]
            case values:
                return [Observation(value, _named(row.attributes, key)) for key, value in values.items()]

    return look


def _counting(family: Family[Counter]) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def look(_options: CallbackOptions) -> Iterable[Observation]:
        names = family.instrument.attributes
        return [Observation(cell.value, _named(names, values)) for values, cell in family.cells()]

    return look


def _named(names: Sequence[str], values: Sequence[str] | None) -> Attributes:
    """Attributes; those without a value are left out."""
    if values is None:
        return _OVERFLOW
    return {name: value for name, value in zip(names, values, strict=True) if value}


class Histograms:
    """The histograms of `families` as the SDK's data, for one reader. `delta`: each time what is new, not all of it."""

    def __init__(self, families: Families, *, delta: bool = False) -> None:
        self._families = families
        self._delta = delta
        self._since = time.time_ns()
        self._told: dict[tuple[str, Sequence[str] | None], tuple[list[int], float]] = {}

    def added_to(self, data: MetricsData) -> MetricsData:
        """`data` with these among the metrics of its first scope."""
        [resource, *resources] = data.resource_metrics
        [scope, *scopes] = resource.scope_metrics
        scope = ScopeMetrics(scope.scope, [*scope.metrics, *self._metrics()], scope.schema_url)
        resource = ResourceMetrics(resource.resource, [scope, *scopes], resource.schema_url)
        return MetricsData([resource, *resources])

    def _metrics(self) -> Iterable[Metric]:
        now = time.time_ns()
        for family in self._families.histograms.values():
            row = family.instrument
            cells = [(values, *self._new(row, values, cell)) for values, cell in family.cells()]
            points = [self._point(row, values, counts, total, now) for values, counts, total in cells if any(counts)]
            if points:
                data = HistogramPoints(points, _DELTA if self._delta else _CUMULATIVE)
                yield Metric(row.name, row.description, row.unit, data)
        if self._delta:
            self._since = now

    def _new(self, row: Instrument, values: Sequence[str] | None, cell: Histogram) -> tuple[list[int], float]:
        """What is to be told of a cell: all of it, or what has come since it was told last."""
        counts, total = cell.counts.copy(), cell.sum
        if not self._delta:
            return counts, total
        key = (row.name, values)
        before, total_before = self._told.get(key, ([0] * len(counts), 0.0))
        self._told[key] = (counts, total)
        return [new - old for new, old in zip(counts, before, strict=True)], total - total_before

    def _point(
        self, row: Instrument, values: Sequence[str] | None, counts: list[int], total: float, now: int
    ) -> HistogramDataPoint:
        attributes = _named(row.attributes, values)
        # The least and the greatest are not kept: over the life of a process they tell nothing.
        return HistogramDataPoint(
            attributes=attributes,
            start_time_unix_nano=self._since,
            time_unix_nano=now,
            count=sum(counts),
            sum=total,
            bucket_counts=counts,
            explicit_bounds=row.bounds,
            min=None,  # type: ignore[arg-type]  # may be missing in OTLP, and where this is exported to
            max=None,  # type: ignore[arg-type]
        )


class Sending(PeriodicExportingMetricReader):
    """Everything, sent at intervals."""

    def __init__(self, exporter: MetricExporter, families: Families) -> None:
        # What OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE says, which the exporter has read.
        temporality = (exporter._preferred_temporality or {}).get(SdkHistogram)
        self._histograms = Histograms(families, delta=temporality is _DELTA)
        super().__init__(exporter)

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> None:
        super()._receive_metrics(self._histograms.added_to(metrics_data), timeout_millis, **kwargs)


class Scraping(PrometheusMetricReader):
    """Everything, told to a registry of Prometheus' client whenever that is asked."""

    def __init__(self, families: Families, registry: CollectorRegistry) -> None:
        self._histograms = Histograms(families)
        super().__init__(scope_info_enabled=False, registry=registry)

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> None:
        super()._receive_metrics(self._histograms.added_to(metrics_data), timeout_millis, **kwargs)


class _Snapshot:
    """All gauges as they are at one moment, for the instruments that ask one after another on another thread."""

    def __init__(self, gauges: Gauges, loop: asyncio.AbstractEventLoop) -> None:
        self._gauges = gauges
        self._loop = loop
        self._lock = threading.Lock()  # an export on demand may meet the periodic one
        self._values: Mapping[str, Shown] = {}
        self._until = 0.0

    def read(self) -> Mapping[str, Shown]:
        """By name; empty if the event loop does not answer."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._values = self._asked()
                self._until = time.monotonic() + _FRESH
            return self._values

    def _asked(self) -> Mapping[str, Shown]:
        answer: Future[Mapping[str, Shown]] = Future()

        def look() -> None:
            if answer.set_running_or_notify_cancel():
                try:
                    answer.set_result(self._gauges.read_all())
                except Exception as error:  # told to whoever asks, and logged there
                    answer.set_exception(error)

        try:
            self._loop.call_soon_threadsafe(look)
        except RuntimeError:  # the loop is closed
            return {}
        try:
            return answer.result(_PATIENCE)
        except TimeoutError:
            answer.cancel()
            return {}
