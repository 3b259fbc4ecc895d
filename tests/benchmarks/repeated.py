"""What a call and an event cost: the gateway beside the floor, and beside its peers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from tests.benchmarks import jobs, servers
from tests.benchmarks.first_text import Stopwatch, percentile
from tests.benchmarks.job import Job
from tests.benchmarks.jobs import EVENT, EVENTS, IN_FLIGHT
from tests.benchmarks.load import Drivers
from tests.benchmarks.peers.servers import Peer
from tests.benchmarks.plan import Figures, Plan
from tests.benchmarks.processes import Failed, Process
from tests.benchmarks.servers import Upstream


@dataclass
class Repeated:
    """What is measured for every target in turn, again and again: whatever else the machine does hits all alike."""

    plan: Plan
    drivers: Drivers
    stopwatch: Stopwatch
    mock: Upstream
    targets: Mapping[str, Process]
    known: Process
    """A gateway whose callers have keys and limits: `servers.KEYED` goes with each call."""
    peers: Mapping[str, Peer]
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
            for name, target in self._all():
                self.figures.add("peak", name, target.peak_rss())

    def _all(self) -> Iterator[tuple[str, Process]]:
        """By name, in the order in which they take turns."""
        yield from self.targets.items()
        yield from ((name, peer.process) for name, peer in self.peers.items())

    @staticmethod
    def _streams(target: Process, name: str, number: int) -> Job:
        return jobs.stream(target, name, number, IN_FLIGHT, pause=0)

    def _asked(self, name: str, job: Job) -> Job:
        """The job as the target of that name is to be asked."""
        return self.peers[name].asked(job) if name in self.peers else job

    def _warm_up(self) -> None:
        for name, target in self._all():
            job = self._asked(name, jobs.whole(target, name, 300, IN_FLIGHT))
            before = self.mock.stats()
            self.drivers.run(job)
            after = self.mock.stats()
            asked = after["requests"] - before["requests"]
            if asked != job.requests:
                raise Failed(f"{name} asked the upstream {asked} times for {job.requests} requests")
            self.figures.notes[f"{name}: bytes of a request to the upstream"] = (
                after["body_bytes"] - before["body_bytes"]
            ) / asked
            streams = self._asked(name, self._streams(target, name, 100))
            self.drivers.run(streams)
            for _ in range(1, self.peers[name].rounds if name in self.peers else 1):
                self.drivers.run(job)
                self.drivers.run(streams)
        self.drivers.run(jobs.whole(self.constant, "constant", 300, IN_FLIGHT))
        for job in (jobs.whole(self.known, "gateway", 300, IN_FLIGHT), self._streams(self.known, "gateway", 100)):
            self.drivers.run(replace(job, headers=servers.KEYED))

    def _unary(self) -> None:
        for name, target in self._all():
            self._spent("unary", name, target, jobs.whole(target, name, self.plan.whole, IN_FLIGHT))
        self._spent_by_callers("unary", jobs.whole(self.known, "gateway", self.plan.whole, IN_FLIGHT))

    def _constant(self) -> None:
        cpu = self._cpu(self.constant, jobs.whole(self.constant, "constant", self.plan.whole, IN_FLIGHT))
        self.figures.add("constant", "gateway", cpu / self.plan.whole)

    def _stream(self) -> None:
        for name, target in self._all():
            self._spent("stream", name, target, self._streams(target, name, self.plan.streams), EVENTS)
        self._spent_by_callers("stream", self._streams(self.known, "gateway", self.plan.streams), EVENTS)

    def _paced(self) -> None:
        for name, target in self._all():
            self._spent("paced", name, target, jobs.stream(target, name, self.plan.paced, 20, pause=10), EVENTS)

    def _spent(self, key: str, name: str, target: Process, job: Job, events: int = 1) -> None:
        """Add what `target` spends on each of the `events` of each request."""
        job = self._asked(name, job)
        self.figures.add(key, name, self._cpu(target, job) / job.requests / events)

    def _spent_by_callers(self, key: str, job: Job, events: int = 1) -> None:
        """The same of the gateway that knows its callers, beside what the floor has just spent."""
        cpu = self._cpu(self.known, replace(job, headers=servers.KEYED))
        self.figures.add(f"{key}-known", "gateway", cpu / job.requests / events)
        self.figures.add(f"{key}-known", "floor", self.figures.samples[key]["floor"][-1])

    def _cpu(self, target: Process, job: Job) -> float:
        """Microseconds of CPU time that `target` spends on `job`."""
        before = target.cpu()
        self.drivers.run(job)
        return (target.cpu() - before) * 1e6

    def _first(self) -> None:
        model, number = f"mock-c1-s{EVENT}-d100", self.plan.first
        bare = self.stopwatch.bare(self.mock.process, model, number)
        for name, target in self.targets.items():
            took = self.stopwatch.through(target, jobs.named(name, model), number)
            for percent in (50, 99):
                self.figures.add(f"first-p{percent}", name, percentile(took, percent) - percentile(bare, percent))
