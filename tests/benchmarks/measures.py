"""What is measured, against which budget, and how."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from tests.benchmarks import caching, decode, dialects, jobs, layers, servers, sink
from tests.benchmarks.first_text import Stopwatch
from tests.benchmarks.job import Job
from tests.benchmarks.jobs import EVENT, EVENTS, IN_FLIGHT
from tests.benchmarks.load import Drivers
from tests.benchmarks.peers.servers import peers
from tests.benchmarks.plan import Figures, Plan
from tests.benchmarks.processes import Failed, Process
from tests.benchmarks.repeated import Repeated
from tests.benchmarks.servers import WHOLE_LENGTH, Upstream

_PROMPTS = 500  # that are cached
_SETTLE = 5.0  # seconds that connections and spans have to come to rest


@dataclass(frozen=True)
class Measure:
    """One row of the table. `must` and `aim` are the most that the ratio to the floor, or else the figure, may be."""

    key: str
    title: str
    unit: str
    must: float | None = None
    aim: float | None = None
    is_ratio: bool = False


MEASURES = (
    Measure("unary", "Chat, CPU a request", "µs", 1.4, 1.15, is_ratio=True),
    Measure("stream", "StreamChat unpaced, CPU an upstream event", "µs", 1.5, 1.1, is_ratio=True),
    Measure("unary-known", "Chat by a caller with a key and two limits, CPU a request", "µs", 1.4, 1.15, is_ratio=True),
    Measure(
        "stream-known",
        "StreamChat unpaced by a caller with a key and two limits, CPU an upstream event",
        "µs",
        1.5,
        1.1,
        is_ratio=True,
    ),
    Measure("paced", "StreamChat 4 events per 10 ms, CPU an upstream event", "µs", 1.3, 1.1, is_ratio=True),
    Measure("first-p50", "time to first text added at 50 in flight, p50", "ms", 3.0, 1.0),
    Measure("first-p99", "time to first text added at 50 in flight, p99", "ms", 30.0, 8.0),
    Measure("peak", "peak memory, one worker, 50 streams", "MiB", 120.0, 90.0),
    Measure("soak", "memory growth over many requests", "%", 5.0),
    Measure("cancelled", "memory growth over many cancelled streams", "%", 5.0),
    Measure("left-over", "upstream answers that outlive their cancelled streams", "", 0.0),
    Measure("slow-reader", "memory for a 10 MB answer to a slow reader", "MiB", 16.0),
    *(
        Measure(
            f"dialect-{name}",
            f"StreamChat by {name}, CPU an upstream event (floor: OpenAI's)",
            "µs",
            1.2,
            is_ratio=True,
        )
        for name in dialects.names()
    ),
    *(
        Measure(
            decode.key(name),
            f"decoding {name} alone, CPU an upstream event (floor: OpenAI's)",
            "µs",
            1.2,
            1.1,
            is_ratio=True,
        )
        for name in decode.names()
    ),
    *(
        Measure(
            decode.key(name, kind),
            f"of that, {name}, {kind} a read",
            "µs",
            is_ratio=True,
        )
        for kind in decode.READS
        for name in decode.names()
    ),
    Measure("layers-unary", "added by the layers of reliability to a Chat (floor: without them), CPU", "µs", 60.0),
    Measure("layers-route", "added to that by a route over two targets and a race between them, CPU", "µs"),
    Measure("layers-stream", "added by the layers to an upstream event (floor: without them), CPU", "µs", 1.0),
    Measure("metrics-unary", "added by metrics to a Chat (floor: without them), CPU", "µs", 30.0),
    Measure("metrics-stream", "added by metrics to an upstream event (floor: without them), CPU", "µs", 1.0),
    Measure("cache-memory", "Chat from memory, CPU a request (floor: gRPC alone)", "µs", 1.4, 1.15, is_ratio=True),
    Measure("cache-redis", "Chat from Redis, CPU a request (floor: gRPC alone)", "µs", 2.0, 1.35, is_ratio=True),
    Measure(
        "cache-full",
        f"Chat from memory beside {caching.ENTRIES:,} answers, CPU a request (floor: beside a few)",
        "µs",
        1.1,
        is_ratio=True,
    ),
    Measure("constant", "gRPC alone, CPU a request (for reference)", "µs"),
)

GROUPS = {
    "unary": ("unary", "unary-known"),
    "stream": ("stream", "stream-known"),
    "paced": ("paced",),
    "first": ("first-p50", "first-p99"),
    "dialects": tuple(f"dialect-{name}" for name in dialects.names()),
    "decode": tuple(decode.key(name, kind) for kind in ("", *decode.READS) for name in decode.names()),
    "layers": ("layers-unary", "layers-route", "layers-stream"),
    "metrics": ("metrics-unary", "metrics-stream"),
    "cache": ("cache-memory", "cache-redis", "cache-full"),
    "constant": ("constant",),
    "peak": ("peak",),
    "soak": ("soak",),
    "cancelled": ("cancelled", "left-over"),
    "slow-reader": ("slow-reader",),
}
"""What `--only` takes, and the rows each gives."""

COMPARED = {"unary", "stream", "paced", "peak"}
"""Those of them in which other gateways take part."""


def measure(
    plan: Plan, groups: set[str], drivers: Drivers, folder: Path, *, with_peers: bool = False
) -> Iterator[Figures]:
    """Make the measurements; yields the figures so far after each step. Raises Failed.

    `with_peers`: LiteLLM and Portkey take turns with the gateway and the floor.
    """
    figures = Figures()
    if "decode" in groups:
        yield from _decode(plan, figures)
    if groups == {"decode"}:
        return
    with ExitStack() as stack:
        mock = stack.enter_context(servers.upstream(folder))
        collector = stack.enter_context(servers.sink(folder))
        if groups & {"unary", "stream", "paced", "first", "constant", "peak"}:
            with (
                servers.gateway(folder, servers.openai(mock), collector) as gateway,
                servers.gateway(folder, servers.openai(mock), collector, sections=servers.KNOWN) as known,
                servers.floor(folder, mock) as floor,
                servers.constant(folder) as constant,
                peers(folder, mock, jobs.MODELS if with_peers else ()) as others,
            ):
                targets = {"gateway": gateway, "floor": floor}
                stopwatch = Stopwatch(folder, length=EVENT, in_flight=IN_FLIGHT)
                repeated = Repeated(plan, drivers, stopwatch, mock, targets, known, others, constant, figures)
                yield from repeated.measure(groups)
            _see_telemetry(collector, figures)
        if "dialects" in groups:
            with (
                dialects.upstreams(folder) as (providers, variables),
                servers.gateway(folder, providers, collector, variables) as gateway,
            ):
                yield from _dialects(plan, drivers, gateway, figures)
        if "layers" in groups:
            with layers.gateways(folder, mock, collector, f"mock-u{WHOLE_LENGTH}") as gateways:
                yield from _layers(plan, drivers, gateways, figures)
        if "metrics" in groups:
            with layers.measured(folder, mock, collector) as gateways:
                yield from _metrics(plan, drivers, gateways, figures)
        if "cache" in groups:
            with caching.gateways(folder, mock, collector) as gateways, servers.constant(folder) as constant:
                yield from _cached(plan, drivers, mock, gateways, constant, figures)
        for group, endure in (("soak", _soak), ("cancelled", _cancelled), ("slow-reader", _slow_reader)):
            if group in groups:
                with servers.gateway(folder, servers.openai(mock), collector) as gateway:
                    endure(plan, drivers, mock, gateway, figures)
                yield figures


def _dialects(plan: Plan, drivers: Drivers, gateway: Process, figures: Figures) -> Iterator[Figures]:
    """What a stream costs that says the same in each dialect, OpenAI's in the place of the floor."""
    jobs = {name: dialects.job(gateway, name, plan.dialects, IN_FLIGHT) for name in (dialects.FLOOR, *dialects.names())}
    for job in jobs.values():
        drivers.run(job)  # warms up
    for _ in range(plan.repetitions):
        costs = {}
        for name, job in jobs.items():
            before = gateway.cpu()
            drivers.run(job)
            costs[name] = (gateway.cpu() - before) * 1e6 / job.requests / dialects.EVENTS
        for name in dialects.names():
            figures.add(f"dialect-{name}", "floor", costs[dialects.FLOOR])
            figures.add(f"dialect-{name}", "gateway", costs[name])
        yield figures


def _decode(plan: Plan, figures: Figures) -> Iterator[Figures]:
    """What decoding alone takes, in this process, OpenAI's in the place of the floor."""
    for _ in decode.costs(plan.decode):  # warms up
        pass
    for _ in range(2 * plan.repetitions + 1):
        taken = {(name, kind): cost for name, kind, cost in decode.costs(plan.decode)}
        for name, at in [(decode.FLOOR, "floor"), *((name, "gateway") for name in decode.names())]:
            each = {kind: taken[name, kind] for kind in decode.READS}
            together = {"": sum(each.values()) / len(each), **each}
            for kind, cost in together.items():
                for one in decode.names() if at == "floor" else [name]:
                    figures.add(decode.key(one, kind), at, cost)
        yield figures


def _taking_turns(
    plan: Plan, drivers: Drivers, gateways: Mapping[str, Process], figures: Figures
) -> tuple[Callable[..., float], Callable[[str, float, float], None]]:
    """What a call or an event costs one of two gateways, and how the difference between them is noted."""

    def cost(name: str, *, model: str = "", stream: bool = False, share: int = 1) -> float:
        target = gateways[name]
        if stream:
            job = jobs.stream(target, "gateway", plan.streams // share, IN_FLIGHT, pause=0)
        else:
            job = jobs.whole(target, "gateway", plan.whole // share, IN_FLIGHT)
        if model:
            job = replace(job, model=model)
        before = target.cpu()
        drivers.run(job)
        return (target.cpu() - before) * 1e6 / job.requests / (EVENTS if stream else 1)

    def add(key: str, without: float, with_it: float) -> None:
        figures.add(key, "floor", without)
        figures.add(key, "gateway", with_it - without)

    return cost, add


def _metrics(plan: Plan, drivers: Drivers, gateways: Mapping[str, Process], figures: Figures) -> Iterator[Figures]:
    """What metrics add, in the same way. It is little: who goes first changes, and there are more turns."""
    cost, add = _taking_turns(plan, drivers, gateways, figures)
    for name in gateways:
        cost(name, share=5)
        cost(name, stream=True, share=5)
    for turn in range(2 * plan.repetitions):
        names = ("floor", "gateway") if turn % 2 else ("gateway", "floor")
        whole = {name: cost(name) for name in names}
        stream = {name: cost(name, stream=True) for name in names}
        add("metrics-unary", whole["floor"], whole["gateway"])
        add("metrics-stream", stream["floor"], stream["gateway"])
        yield figures


def _layers(plan: Plan, drivers: Drivers, gateways: Mapping[str, Process], figures: Figures) -> Iterator[Figures]:
    """What the layers add: the difference between two gateways that take turns, one with and one without them."""
    cost, add = _taking_turns(plan, drivers, gateways, figures)
    for name in gateways:
        cost(name, share=5)
        cost(name, stream=True, share=5)
    cost("gateway", model=layers.ROUTE, share=5)
    for _ in range(plan.repetitions):
        whole = cost("gateway")
        add("layers-unary", cost("floor"), whole)
        add("layers-route", whole, cost("gateway", model=layers.ROUTE))
        add("layers-stream", cost("floor", stream=True), cost("gateway", stream=True))
        yield figures


def _cached(
    plan: Plan,
    drivers: Drivers,
    mock: Upstream,
    gateways: Mapping[str, Process],
    constant: Process,
    figures: Figures,
) -> Iterator[Figures]:
    """What hits cost. There are more prompts than calls in flight: none is joined with another one."""
    targets = {"constant": constant, **gateways}

    def cost(name: str) -> float:
        target = targets[name]
        job = replace(jobs.whole(target, "gateway", plan.whole, IN_FLIGHT), variety=_PROMPTS)
        before = target.cpu()
        drivers.run(job)
        return (target.cpu() - before) * 1e6 / job.requests

    for name in targets:
        cost(name)
    asked = mock.stats()["requests"]
    for _ in range(plan.repetitions):
        costs = {name: cost(name) for name in targets}
        for name, floor in (("memory", "constant"), ("redis", "constant"), ("full", "memory")):
            figures.add(f"cache-{name}", "floor", costs[floor])
            figures.add(f"cache-{name}", "gateway", costs[name])
        yield figures
    if mock.stats()["requests"] != asked:
        raise Failed(f"the upstream was asked {mock.stats()} {asked} for what is in the cache")


def _soak(plan: Plan, drivers: Drivers, _mock: Upstream, gateway: Process, figures: Figures) -> None:
    drivers.run(jobs.whole(gateway, "gateway", plan.soak // 10, IN_FLIGHT))
    warm = gateway.rss()
    drivers.run(jobs.whole(gateway, "gateway", plan.soak, IN_FLIGHT))
    figures.add("soak", "gateway", (gateway.rss() / warm - 1) * 100)
    figures.notes["requests of the memory test"] = plan.soak


def _cancelled(plan: Plan, drivers: Drivers, mock: Upstream, gateway: Process, figures: Figures) -> None:
    def cancel(number: int) -> None:
        model = f"mock-c{EVENTS}-s{EVENT}-k1-p20"
        drivers.run(Job("stream", gateway.address, f"openai/{model}", number, IN_FLIGHT, 0, cancel=True))

    cancel(plan.cancelled // 10)
    warm = gateway.rss()
    cancel(plan.cancelled)
    figures.add("cancelled", "gateway", (gateway.rss() / warm - 1) * 100)
    time.sleep(0.5)  # an answer that is not cut off goes on for two seconds
    stats = mock.stats()
    figures.add("left-over", "gateway", stats["running"])
    figures.notes["streams of the cancellation test"] = plan.cancelled
    figures.notes["upstream connections kept after it"] = stats["connections"]


def _slow_reader(_plan: Plan, drivers: Drivers, _mock: Upstream, gateway: Process, figures: Figures) -> None:
    drivers.run(jobs.whole(gateway, "gateway", 500, IN_FLIGHT))
    drivers.run(jobs.stream(gateway, "gateway", 100, 10, pause=0))
    idle = most = gateway.rss()

    def look() -> None:
        nonlocal most
        most = max(most, gateway.rss())

    job = Job("stream", gateway.address, "openai/mock-c10000-s1000-k4", 1, 1, 10_000_000, pause=2.0)
    drivers.run(job, meanwhile=look)
    figures.add("slow-reader", "gateway", most - idle)


def _see_telemetry(collector: Process, figures: Figures) -> None:
    """The budgets hold with traces and metrics on, so both must have come. The gateway has ended, and sent its last."""
    end = time.monotonic() + _SETTLE
    while not all(got := sink.told(collector.address)) and time.monotonic() < end:
        time.sleep(0.2)
    if not got.spans:
        raise Failed("the gateway sent no spans although one call in a hundred is traced")
    if not got.calls:
        raise Failed("the gateway sent no metrics of its calls")
    figures.notes["spans that the collector got"] = got.spans
    figures.notes["calls that the metrics tell of"] = got.calls
