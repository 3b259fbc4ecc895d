"""`python -m tests.benchmarks`: measure, print the table, end with status 1 if a budget is not kept. See README.md."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from types import FrameType

from tests.benchmarks import report
from tests.benchmarks.load import drivers
from tests.benchmarks.measures import COMPARED, GROUPS, measure
from tests.benchmarks.peers import report as peers
from tests.benchmarks.peers.servers import versions
from tests.benchmarks.plan import FULL, QUICK, Figures, Plan
from tests.benchmarks.processes import Failed


def main() -> int:
    """Exit status: 0 all within budget, 1 something over it, 2 it could not be measured."""
    options = _options()
    plan = QUICK if options.quick else FULL
    if options.reps:
        plan = replace(plan, repetitions=options.reps)
    signal.signal(signal.SIGTERM, _leave)  # so that no server is left running
    try:
        figures, circumstances = _measured(plan, options.only, with_peers=options.peers)
    except Failed as failure:
        print(f"could not measure: {failure}", file=sys.stderr)
        return 2
    rows, against = report.rows(figures), peers.rows(figures.samples)
    print("\n".join(report.table(rows)))
    if against:
        print("", *peers.table(against), sep="\n")
    for note, value in figures.notes.items():
        print(f"{note}: {value:g}")
    if options.json:
        document = {"circumstances": circumstances, "rows": rows, "peers": against, "notes": figures.notes}
        options.json.write_text(json.dumps(document, indent=1))
    return 0 if all(row["within"] for row in (*rows, *against)) else 1


def _measured(plan: Plan, groups: set[str], *, with_peers: bool) -> tuple[Figures, dict[str, str]]:
    """The figures, and with what they were made. Raises Failed."""
    circumstances = report.circumstances() | (versions() if with_peers else {})
    print(", ".join(f"{name} {value}" for name, value in circumstances.items()), flush=True)
    figures = Figures()
    with tempfile.TemporaryDirectory(prefix="parley-bench-") as folder, drivers() as load:
        for step, figures in enumerate(measure(plan, groups, load, Path(folder), with_peers=with_peers), 1):  # noqa: B007  # the last
            print(f"step {step} done", file=sys.stderr, flush=True)
    return figures, circumstances


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="Measure against the budgets.")
    parser.add_argument("--quick", action="store_true", help="fewer requests and repetitions: a minute or two")
    parser.add_argument("--peers", action="store_true", help="LiteLLM and Portkey too, in what they can be compared in")
    parser.add_argument("--only", type=_groups, metavar="A,B", help=f"of {', '.join(GROUPS)}")
    parser.add_argument("--reps", type=int, help="repetitions of what is repeated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure to FILE too")
    options = parser.parse_args()
    if options.only is None:
        options.only = COMPARED if options.peers else set(GROUPS)
    elif options.peers and not options.only <= COMPARED:
        parser.error(f"--peers: compared are {', '.join(sorted(COMPARED))}")
    return options


def _groups(text: str) -> set[str]:
    names = set(text.split(","))
    if unknown := names - set(GROUPS):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: known are {', '.join(GROUPS)}")
    return names


def _leave(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(2)


if __name__ == "__main__":
    sys.exit(main())
