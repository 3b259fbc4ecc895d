"""What is measured, against which budget, and how."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.benchmarks import caching, decode, dialects, layers, servers, sink
from tests.benchmarks.driver import Job
from tests.benchmarks.first_text import Stopwatch, percentile
from tests.benchmarks.load import Drivers
from tests.benchmarks.processes import Failed, Process
from tests.benchmarks.servers import WHOLE_LENGTH, Upstream

_IN_FLIGHT = 50
_PROMPTS = 500  # that are cached
_EVENTS = 100  # of a stream
_EVENT = 20  # characters of one
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
    Measure("metrics-unary", "added by metrics to a Chat (floor: without them), CPU", "µs", 15.0),
    Measure("metrics-stream", "added by metrics to an upstream event (floor: without them), CPU", "µs", 0.3),
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
    "unary": ("unary",),
    "stream": ("stream",),
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


@dataclass(frozen=True)
class Plan:
    """How often: numbers of requests for each repetition, and for the tests of endurance."""

    repetitions: int
    whole: int = 3000
    streams: int = 500
    paced: int = 150
    first: int = 1000
    dialects: int = 300
    decode: int = 60
    soak: int = 100_000
    cancelled: int = 20_000


QUICK = Plan(
    repetitions=3, whole=1500, streams=250, paced=100, first=400, dialects=150, decode=30, soak=10_000, cancelled=2_000
)
FULL = Plan(repetitions=5)


@dataclass
class Figures:
    """By measure and target, one number for each repetition; and remarks on the run."""

    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    notes: dict[str, float] = field(default_factory=dict)

    def add(self, key: str, target: str, value: float) -> None:
        """One more repetition."""
        self.samples.setdefault(key, {}).setdefault(target, []).append(value)


def measure(plan: Plan, groups: set[str], drivers: Drivers, folder: Path) -> Iterator[Figures]:
    """Make the measurements; yields the figures so far after each step. Raises Failed."""
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
                servers.floor(folder, mock) as floor,
                servers.constant(folder) as constant,
            ):
                targets = {"gateway": gateway, "floor": floor}
                stopwatch = Stopwatch(folder, length=_EVENT, in_flight=_IN_FLIGHT)
                yield from Repeated(plan, drivers, stopwatch, mock, targets, constant, figures).measure(groups)
            _see_spans(collector, figures)
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


@dataclass
class Repeated:
    """What is measured for every target in turn, again and again: whatever else the machine does hits all alike."""

    plan: Plan
    drivers: Drivers
    stopwatch: Stopwatch
    mock: Upstream
    targets: Mapping[str, Process]
    constant: Process
    figures: Figures

    def measure(self, groups: set[str]) -> Iterator[Figures]:
        """All that `groups` ask for; yields after each repetition."""
        steps = {
            "unary": self._unary,
            "stream": self._stream,
            "paced": self._paced,
            "first": self._first,
            "constant": self._constant,
        }
        wanted = [step for group, step in steps.items() if group in groups or (group == "stream" and "peak" in groups)]
        self._warm_up()
        for _ in range(self.plan.repetitions):
            for step in wanted:
                step()
            yield self.figures
        if "peak" in groups:
            self.figures.add("peak", "gateway", self.targets["gateway"].peak_rss())
            self.figures.add("peak", "floor", self.targets["floor"].peak_rss())

    def _warm_up(self) -> None:
        for name, target in self.targets.items():
            before = self.mock.stats()
            self.drivers.run(_whole(target, name, 300, _IN_FLIGHT))
            after = self.mock.stats()
            asked = after["requests"] - before["requests"]
            if asked != 300:
                raise Failed(f"{name} asked the upstream {asked} times for 300 requests")
            self.figures.notes[f"{name}: bytes of a request to the upstream"] = (
                after["body_bytes"] - before["body_bytes"]
            ) / asked
            self.drivers.run(_stream(target, name, 100, _IN_FLIGHT, pause=0))
        self.drivers.run(_whole(self.constant, "constant", 300, _IN_FLIGHT))

    def _unary(self) -> None:
        for name, target in self.targets.items():
            cpu = self._cpu(target, _whole(target, name, self.plan.whole, _IN_FLIGHT))
            self.figures.add("unary", name, cpu / self.plan.whole)

    def _constant(self) -> None:
        cpu = self._cpu(self.constant, _whole(self.constant, "constant", self.plan.whole, _IN_FLIGHT))
        self.figures.add("constant", "gateway", cpu / self.plan.whole)

    def _stream(self) -> None:
        for name, target in self.targets.items():
            cpu = self._cpu(target, _stream(target, name, self.plan.streams, _IN_FLIGHT, pause=0))
            self.figures.add("stream", name, cpu / self.plan.streams / _EVENTS)

    def _paced(self) -> None:
        for name, target in self.targets.items():
            cpu = self._cpu(target, _stream(target, name, self.plan.paced, 20, pause=10))
            self.figures.add("paced", name, cpu / self.plan.paced / _EVENTS)

    def _cpu(self, target: Process, job: Job) -> float:
        """Microseconds of CPU time that `target` spends on `job`."""
        before = target.cpu()
        self.drivers.run(job)
        return (target.cpu() - before) * 1e6

    def _first(self) -> None:
        model, number = f"mock-c1-s{_EVENT}-d100", self.plan.first
        bare = self.stopwatch.bare(self.mock.process, model, number)
        for name, target in self.targets.items():
            took = self.stopwatch.through(target, _named(name, model), number)
            for percent in (50, 99):
                self.figures.add(f"first-p{percent}", name, percentile(took, percent) - percentile(bare, percent))


def _dialects(plan: Plan, drivers: Drivers, gateway: Process, figures: Figures) -> Iterator[Figures]:
    """What a stream costs that says the same in each dialect, OpenAI's in the place of the floor."""
    jobs = {
        name: dialects.job(gateway, name, plan.dialects, _IN_FLIGHT) for name in (dialects.FLOOR, *dialects.names())
    }
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
            job = _stream(target, "gateway", plan.streams // share, _IN_FLIGHT, pause=0)
        else:
            job = _whole(target, "gateway", plan.whole // share, _IN_FLIGHT)
        if model:
            job = replace(job, model=model)
        before = target.cpu()
        drivers.run(job)
        return (target.cpu() - before) * 1e6 / job.requests / (_EVENTS if stream else 1)

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
        job = replace(_whole(target, "gateway", plan.whole, _IN_FLIGHT), variety=_PROMPTS)
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
    drivers.run(_whole(gateway, "gateway", plan.soak // 10, _IN_FLIGHT))
    warm = gateway.rss()
    drivers.run(_whole(gateway, "gateway", plan.soak, _IN_FLIGHT))
    figures.add("soak", "gateway", (gateway.rss() / warm - 1) * 100)
    figures.notes["requests of the memory test"] = plan.soak


def _cancelled(plan: Plan, drivers: Drivers, mock: Upstream, gateway: Process, figures: Figures) -> None:
    def cancel(number: int) -> None:
        model = f"mock-c{_EVENTS}-s{_EVENT}-k1-p20"
        drivers.run(Job("stream", gateway.address, f"openai/{model}", number, _IN_FLIGHT, 0, cancel=True))

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
    drivers.run(_whole(gateway, "gateway", 500, _IN_FLIGHT))
    drivers.run(_stream(gateway, "gateway", 100, 10, pause=0))
    idle = most = gateway.rss()

    def look() -> None:
        nonlocal most
        most = max(most, gateway.rss())

    job = Job("stream", gateway.address, "openai/mock-c10000-s1000-k4", 1, 1, 10_000_000, pause=2.0)
    drivers.run(job, meanwhile=look)
    figures.add("slow-reader", "gateway", most - idle)


def _see_spans(collector: Process, figures: Figures) -> None:
    """The budgets hold with tracing on, so spans must have come."""
    end = time.monotonic() + _SETTLE
    while not (spans := sink.spans(collector.address)) and time.monotonic() < end:
        time.sleep(0.2)
    if not spans:
        raise Failed("the gateway sent no spans although one call in a hundred is traced")
    figures.notes["spans that the collector got"] = spans


def _whole(target: Process, name: str, requests: int, in_flight: int) -> Job:
    return Job("chat", target.address, _named(name, f"mock-u{WHOLE_LENGTH}"), requests, in_flight, WHOLE_LENGTH)


def _stream(target: Process, name: str, requests: int, in_flight: int, *, pause: int) -> Job:
    model = _named(name, f"mock-c{_EVENTS}-s{_EVENT}-k4-p{pause}")
    return Job("stream", target.address, model, requests, in_flight, _EVENTS * _EVENT)


def _named(target: str, model: str) -> str:
    return f"openai/{model}" if target == "gateway" else model
