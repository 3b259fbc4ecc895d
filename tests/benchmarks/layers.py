"""What layers and metrics add: the same gateway with all of them at work, and with those left out that can be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.benchmarks import servers
from tests.benchmarks.processes import Process
from tests.benchmarks.servers import Upstream

ROUTE = "either"
"""A name for two targets, of which the second is asked as well when the first is slow: it never is."""

_ON: Mapping[str, Any] = {
    "breaker": {"enabled": True},
    "bulkhead": {"concurrency": 1000},
    "hedging": {"enabled": True, "delay": 60, "whole_delay": 60},
}
_OFF: Mapping[str, Any] = {
    "breaker": {"enabled": False},
    "bulkhead": {"concurrency": 0},
    "hedging": {"enabled": False},
    "timeouts": {"least": 0},
    "join": {"enabled": False},
}


@contextmanager
def gateways(folder: Path, mock: Upstream, collector: Process, model: str) -> Iterator[dict[str, Process]]:
    """Two gateways before the mock upstream: `gateway` with all layers, and where `ROUTE` is `model` at two providers;
    `floor` without them.
    """
    [(_, settings)] = servers.openai(mock).items()
    limits = {"requests_per_minute": servers.MUCH, "tokens_per_minute": servers.MUCH}
    two = {"openai": settings, "second": {**settings, "kind": "openai"}}
    limited = {name: {**one, "limits": limits} for name, one in two.items()}
    targets = [{"model": f"{provider}/{model}"} for provider in two]
    routes = {ROUTE: {"targets": targets, "strategy": "latency"}}
    with (
        servers.gateway(folder, limited, collector, sections={**_ON, "routes": routes}) as on,
        servers.gateway(folder, two, collector, sections=_OFF) as off,
    ):
        yield {"gateway": on, "floor": off}


@contextmanager
def measured(folder: Path, mock: Upstream, collector: Process) -> Iterator[dict[str, Process]]:
    """Two gateways before the mock upstream: `gateway` sends metrics and has them scraped, `floor` has none."""
    scraped = {"admin": {"address": "127.0.0.1:0", "metrics_address": "127.0.0.1:0"}}
    providers = servers.openai(mock)
    with (
        servers.gateway(folder, providers, collector, sections=scraped) as on,
        servers.gateway(folder, providers, collector, {"OTEL_METRICS_EXPORTER": "none"}) as off,
    ):
        yield {"gateway": on, "floor": off}
