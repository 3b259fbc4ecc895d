"""The servers of a run: the mock upstream, the floor, gRPC alone, the collector of spans, and the gateway itself."""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.compiled import compiled
from tests.benchmarks.processes import Process, free_port, python, running

WHOLE_LENGTH = 400
"""Characters of an unary answer."""

_KEY = "sk-bench-0123456789abcdef0123456789abcdef"
KEYED = {"authorization": f"Bearer {_KEY}"}
"""What goes with the calls to a gateway that knows its callers."""
MUCH = 1_000_000_000
"""A limit that is never reached."""
LIMITS = tuple({kind: MUCH, "per": "1m"} for kind in ("requests", "tokens"))
KNOWN: Mapping[str, Any] = {"callers": {"bench": {"key": "env:BENCH_KEY", "limits": LIMITS}}}
"""Sections of its configuration: a caller with a key, and limits that are never reached."""

_SOURCE = Path(__file__).with_name("mock_upstream.c")


@dataclass(frozen=True)
class Upstream:
    """The mock upstream."""

    process: Process

    def stats(self) -> dict[str, int]:
        """Its counts; see mock_upstream.c."""
        with urllib.request.urlopen(f"http://{self.process.address}/stats", timeout=5) as response:
            counts: dict[str, int] = json.load(response)
        return counts


@contextmanager
def upstream(folder: Path) -> Iterator[Upstream]:
    """Compile and run the mock upstream. Raises Failed where there is no C compiler."""
    binary = compiled(_SOURCE, folder)
    port = free_port()
    with running("mock upstream", [str(binary), str(port)], port, folder / "upstream.log") as process:
        yield Upstream(process)


@contextmanager
def recital(folder: Path, name: str, events: Sequence[bytes], content_type: str) -> Iterator[Process]:
    """An upstream that answers every request with the same stream."""
    binary = compiled(_SOURCE, folder)
    script = folder / f"{name}.stream"
    script.write_bytes(b"".join(len(event).to_bytes(4, "little") + event for event in events))
    port = free_port()
    command = [str(binary), str(port), str(script), content_type]
    with running(f"upstream of {name}", command, port, folder / f"{name}.log") as process:
        yield process


@contextmanager
def floor(folder: Path, mock: Upstream) -> Iterator[Process]:
    """The bare forwarder."""
    port = free_port()
    with running("floor", python("forwarder", port, mock.process.port), port, folder / "floor.log") as process:
        yield process


@contextmanager
def constant(folder: Path) -> Iterator[Process]:
    """gRPC alone."""
    port = free_port()
    with running("constant", python("constant", port, WHOLE_LENGTH), port, folder / "constant.log") as process:
        yield process


@contextmanager
def sink(folder: Path) -> Iterator[Process]:
    """The collector of spans."""
    port = free_port()
    with running("sink", python("sink", port), port, folder / "sink.log") as process:
        yield process


def openai(mock: Upstream) -> dict[str, Any]:
    """The providers of a gateway before the mock upstream."""
    return {"openai": {"base_url": f"http://{mock.process.address}/v1", "api_key": "env:BENCH_API_KEY"}}


@contextmanager
def gateway(
    folder: Path,
    providers: Mapping[str, Any],
    collector: Process,
    variables: Mapping[str, str] | None = None,
    sections: Mapping[str, Any] | None = None,
) -> Iterator[Process]:
    """The gateway as a service would run it, everything on; one call in a hundred is traced.

    `sections`: further ones of its configuration.
    """
    port, admin_port = free_port(), free_port()
    config = folder / f"gateway-{port}.json"  # which is YAML too
    settings = {
        "server": {"address": f"127.0.0.1:{port}"},
        "admin": {"address": f"127.0.0.1:{admin_port}"},
        "providers": dict(providers),
        "log": {"format": "json"},
        **(sections or {}),
    }
    config.write_text(json.dumps(settings))
    environ = {
        **(variables or {}),
        "BENCH_API_KEY": "sk-0123456789abcdef0123456789abcdef",
        "BENCH_KEY": _KEY,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{collector.address}",
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.01",
    }
    command = [sys.executable, "-m", "parley_server", "serve", "--config", str(config)]
    with running("gateway", command, port, folder / f"gateway-{port}.log", environ) as process:
        yield process
