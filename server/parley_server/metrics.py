"""Metrics over OTLP: every instrument that the gateway has, in one table.

Names follow OpenTelemetry's conventions and begin with `parley.`: what goes up and down is an up-down counter, what
cannot be added up a gauge, units are UCUM's. No instrument has attributes yet: one gateway, one number.

What is held at a moment is looked up when it is exported (`core/gauges.py`), which happens on a thread of its own. The
looking is done on the event loop, which owns what is looked at; while the loop is blocked there is nothing to tell.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from parley_server.core.gauges import Gauges

_PATIENCE = 1.0  # seconds that the event loop may take to answer
_FRESH = 0.1  # seconds in which all instruments of one export are read


@dataclass(frozen=True, slots=True)
class Observed:
    """An instrument whose value is looked up. `gauge`: which of the gateway's gauges it shows."""

    name: str
    kind: Literal["up_down_counter", "counter", "gauge"]
    unit: str
    description: str
    gauge: str


OBSERVED = (
    Observed("parley.server.active_calls", "up_down_counter", "{call}", "Calls under way.", "calls"),
    Observed(
        "parley.server.shared_calls",
        "up_down_counter",
        "{call}",
        "Calls under way that several callers may follow, by idempotency key or for being equal.",
        "shared_calls",
    ),
    Observed(
        "parley.server.remembered_answers.size",
        "up_down_counter",
        "By",
        "What is kept of answers for their idempotency keys.",
        "remembered_bytes",
    ),
    Observed(
        "parley.upstream.open_streams",
        "up_down_counter",
        "{stream}",
        "Answers of providers that have not been closed.",
        "open_upstream_streams",
    ),
    Observed(
        "parley.upstream.queued_calls",
        "up_down_counter",
        "{call}",
        "Calls that wait for a place at a target, or for its limits to have room.",
        "queued",
    ),
    Observed(
        "parley.upstream.open_circuits",
        "up_down_counter",
        "{target}",
        "Targets that are left alone for having failed too often.",
        "open_circuits",
    ),
    Observed(
        "parley.upstream.keys_set_aside",
        "up_down_counter",
        "{key}",
        "Keys of providers with several that are refused, or whose accounts have no money.",
        "keys_set_aside",
    ),
    Observed("parley.cache.answers", "up_down_counter", "{answer}", "Answers cached in memory.", "cached_answers"),
    Observed("parley.cache.size", "up_down_counter", "By", "What these take.", "cached_bytes"),
    Observed(
        "parley.cache.similar.questions",
        "up_down_counter",
        "{question}",
        "Questions in the index of similar ones, in memory.",
        "similar_questions",
    ),
    Observed(
        "parley.cache.similar.lookups",
        "counter",
        "{lookup}",
        "Times that a similar question was looked for.",
        "similar_lookups",
    ),
    Observed(
        "parley.cache.similar.vetoes",
        "counter",
        "{question}",
        "Questions with similar vectors that differ in their words.",
        "similar_vetoed",
    ),
    Observed(
        "parley.cache.similar.late", "counter", "{lookup}", "Lookups that took too long, and found nothing.",
        "similar_late",
    ),
    Observed(
        "parley.cache.similar.not_embedded",
        "counter",
        "{question}",
        "Questions that the embedder made no vector of.",
        "similar_not_embedded",
    ),
    Observed("parley.store.unavailable", "up_down_counter", "{store}", "Stores that do not answer.", "stores_down"),
    Observed("parley.store.failures", "counter", "{failure}", "Failures of stores since the start.", "store_failures"),
    Observed("parley.config.revision", "gauge", "1", "How often another configuration was taken.", "config_revision"),
    Observed(
        "parley.config.refused", "gauge", "1", "1 while the newest configuration is no good and is not in use; else 0.",
        "config_refused",
    ),
)  # fmt: skip


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
        make(row.name, [_looking(snapshot, row.gauge)], unit=row.unit, description=row.description)


def _looking(snapshot: _Snapshot, gauge: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def look(_options: CallbackOptions) -> Iterable[Observation]:
        values = snapshot.read()
        return [Observation(values[gauge])] if gauge in values else []

    return look


class _Snapshot:
    """All gauges as they are at one moment, for the instruments that ask one after another on another thread."""

    def __init__(self, gauges: Gauges, loop: asyncio.AbstractEventLoop) -> None:
        self._gauges = gauges
        self._loop = loop
        self._lock = threading.Lock()  # an export on demand may meet the periodic one
        self._values: Mapping[str, float] = {}
        self._until = 0.0

    def read(self) -> Mapping[str, float]:
        """By name; empty if the event loop does not answer."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._values = self._asked()
                self._until = time.monotonic() + _FRESH
            return self._values

    def _asked(self) -> Mapping[str, float]:
        answer: Future[Mapping[str, float]] = Future()

        def look() -> None:
            if answer.set_running_or_notify_cancel():
                try:
                    answer.set_result(self._gauges.read())
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
