"""`python -m tests.benchmarks.soak`: endure, print the verdict, draw it; status 1 if something does not hold."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import uvloop

from tests.benchmarks import report
from tests.benchmarks.processes import Failed
from tests.benchmarks.soak import verdict
from tests.benchmarks.soak.calls import KINDS, work
from tests.benchmarks.soak.samples import Sample, Watch
from tests.benchmarks.soak.scene import Scene, scene
from tests.benchmarks.soak.verdict import Phases

_ROOT = Path(__file__).resolve().parents[3]
_PLOT = Path(__file__).with_name("plot.py")
_SAMPLES = 900  # of a soak, though at most two a second
_REST = 120.0  # seconds that it may take to come to rest: idle connections are kept for 50 to 100


@dataclass(frozen=True)
class Soaked:
    """What came of it."""

    watch: Watch
    phases: Phases
    outcomes: verdict.Outcomes
    reloads: int
    refused: int


def main() -> int:
    """Exit status: 0 it has endured, 1 something does not hold, 2 it could not be done."""
    options = _options()
    circumstances = report.circumstances()
    soaked = None
    try:
        if not options.drawn_by.exists():
            raise Failed(f"{options.drawn_by} is missing: `make soak` installs what draws")
        with tempfile.TemporaryDirectory(prefix="parley-soak-") as folder:
            soaked = uvloop.run(_soak(options.minutes * 60, Path(folder)))
    except* (Failed, AssertionError) as failures:  # the latter where the gateway does not end as it should
        print(f"the soak failed: {failures.exceptions[0]}", file=sys.stderr)
    return 2 if soaked is None else _told(soaked, circumstances, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.soak", description="Endure.")
    parser.add_argument("--minutes", type=float, default=30, help="of load (%(default)g); some more to come to rest")
    parser.add_argument("--out", type=Path, default=_ROOT / "build/soak", help="write here, and add .json and .png")
    parser.add_argument("--drawn-by", type=Path, default=_ROOT / ".venv-soak/bin/python", help="Python with matplotlib")
    return parser.parse_args()


async def _soak(seconds: float, folder: Path) -> Soaked:
    async with scene(folder) as running:
        watch = Watch(running)
        first = await watch.take()
        async with running.caller() as caller:
            loop = asyncio.get_running_loop()
            begun = watch.now
            phases = Phases(begun + min(300, seconds / 5), begun + seconds)
            until = loop.time() + seconds
            async with asyncio.TaskGroup() as group:
                workers = [group.create_task(work(kind, caller, until)) for kind in KINDS for _ in range(kind.workers)]
                trouble = group.create_task(_trouble(running, min(30, seconds / 12)))
                await _watched(watch, workers, max(0.5, seconds / _SAMPLES))
                trouble.cancel()
        await _at_rest(watch, first)
        print(f"tasks at rest: {dict(watch.tasks)}", file=sys.stderr)
    watch.read_log()  # what it said at its end
    return Soaked(watch, phases, caller.outcomes, running.reloads, running.refused)


async def _trouble(running: Scene, pause: float) -> None:
    while True:
        await asyncio.sleep(pause)
        await running.reload()


async def _watched(watch: Watch, workers: Collection[asyncio.Task[None]], pause: float) -> None:
    """Take samples until the last call has ended."""
    told = 0.0
    while not all(worker.done() for worker in workers):
        sample = await watch.take()
        if sample.at >= told:
            print(f"{sample.at / 60:5.1f} min {sample}", file=sys.stderr, flush=True)
            told += 60
        await asyncio.sleep(pause)


async def _at_rest(watch: Watch, first: Sample) -> None:
    """Take samples until all is as it was before, or there is no more time for it."""
    end = watch.now + _REST
    while True:
        now = await watch.take()
        back = now.tasks <= first.tasks and now.files <= first.files and not now.calls and not now.answering
        if back or watch.now > end:
            return
        await asyncio.sleep(1)


def _told(soaked: Soaked, circumstances: Mapping[str, str], options: argparse.Namespace) -> int:
    """Print the verdict and write the files; gives the exit status."""
    watch = soaked.watch
    mistaken = abs(soaked.reloads - watch.samples[-1].reloads) + abs(soaked.refused - watch.refused)
    made = list(
        verdict.rows(
            watch.samples,
            soaked.phases,
            KINDS,
            soaked.outcomes,
            mistaken_reloads=mistaken,
            errors=len(watch.errors),
        )
    )
    calls = sum(sum(one.values()) for one in soaked.outcomes.values())
    warm, late = verdict.under_load(watch.samples, soaked.phases)
    title = (
        f"{options.minutes:g} minutes, {calls:,} calls, {soaked.reloads} reloads, "
        f"{soaked.refused} refused ones: {warm:.0f} MiB once warm, {late:.0f} MiB at the end"
    )
    print(", ".join(f"{name} {value}" for name, value in circumstances.items()))
    print(title, "", *verdict.table(made), "", *verdict.calls(KINDS, soaked.outcomes), sep="\n")
    for kind, outcome, number in verdict.unexpected(KINDS, soaked.outcomes):
        print(f"unexpected: {kind}: {outcome} ({number})")
    for line in watch.errors[:20]:
        print(f"the gateway's log: {line}")
    document = {
        "circumstances": circumstances,
        "title": title,
        "phases": asdict(soaked.phases),
        "samples": [asdict(sample) for sample in watch.samples],
        "outcomes": soaked.outcomes,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    figures, picture = options.out.with_suffix(".json"), options.out.with_suffix(".png")
    figures.write_text(json.dumps(document))
    drawn = subprocess.run([options.drawn_by, _PLOT, figures, picture], env={}, check=False)
    if drawn.returncode:
        print(f"{figures} could not be drawn", file=sys.stderr)
        return 2
    print(f"drawn: {picture}")
    return 0 if all(row.within for row in made) else 1


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit(2)
