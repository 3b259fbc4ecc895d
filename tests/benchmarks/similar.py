"""What finding a similar question costs, and how good the graph is: `python -m tests.benchmarks.similar`.

Sizes take turns, so that what else the machine does falls on all of them; only the ratios mean something. Takes a few
minutes, most of them to make the graph.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import statistics
import time
from collections.abc import Callable, Coroutine, Mapping

import numpy as np
from threadpoolctl import threadpool_limits

from parley_server.core.context import Context
from parley_server.embedders.base import Vector
from parley_server.embedders.installed import minilm_folder
from parley_server.embedders.minilm import load
from parley_server.embedders.ngrams import HashedNgrams
from parley_server.pipeline.cache.wording import same, wording
from parley_server.stores.vectors.index import VectorIndex
from parley_server.stores.vectors.partition import Partition
from tests.stores.vectors.near import clustered

WIDTH = 384
SIZES = (1_000, 10_000, 50_000)
LARGE = 60_000
TURNS = 60
ASKED = 500
SHORT = "How do I change the email address of my account?"
LONG = "I have moved to another city and would like to know what I have to do about my contract. " * 8


def filled(rows: Vector, *, graph: bool = False) -> Partition:
    """A partition with these vectors."""
    partition = Partition(WIDTH, len(rows) + 1, LARGE - 1 if graph else 10**9)
    for index, row in enumerate(rows):
        partition.add(b"%d" % index, row, b"", 1e12, 0)
    while graph and partition.grow(0):
        pass
    return partition


def in_turn(works: Mapping[str, Callable[[int], object]]) -> dict[str, float]:
    """Median microseconds of each work, while they take turns."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(TURNS):
        for name, work in works.items():
            begun = time.perf_counter()
            work(turn)
            taken[name].append(1e6 * (time.perf_counter() - begun))
    return {name: statistics.median(some) for name, some in taken.items()}


def near(rows: Vector, count: int) -> Vector:
    """Vectors that are close to some of `rows`, as paraphrases are."""
    noise = np.random.default_rng(9).normal(size=(count, WIDTH)) / np.sqrt(WIDTH)
    asked = rows[:: len(rows) // count][:count] + 0.5 * noise.astype(np.float32)
    found: Vector = asked / np.linalg.norm(asked, axis=1, keepdims=True)
    return found


async def held(count: int) -> float:
    """Kilobytes that a question takes in an index, each in a partition of its own."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    index = VectorIndex(count, time.monotonic)
    row = clustered(1, WIDTH, seed=1)[0]
    for number in range(count):
        await index.add(b"%020d" % number, b"%020d" % number, row, SHORT.encode(), 1e9)
    await index.aclose()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / count


def main() -> None:
    threadpool_limits(1, user_api="blas")
    print(f"memory for a question in a partition of its own: {asyncio.run(held(20_000)):.1f} KiB")

    rows = clustered(LARGE, WIDTH, seed=5, spread=0.7)
    asked = near(rows, ASKED)
    partitions = {f"{size:,}": filled(rows[:size]) for size in SIZES}
    begun = time.perf_counter()
    partitions[f"{LARGE:,}, graph"] = graph = filled(rows, graph=True)
    built = time.perf_counter() - begun
    costs = in_turn(
        {
            name: (lambda turn, partition=partition: partition.find(asked[turn % ASKED], 0.8, 8, 0))  # type: ignore[misc]
            for name, partition in partitions.items()
        }
    )
    least = costs[f"{SIZES[0]:,}"]
    print("\n| vectors | µs a lookup | ratio |\n|---|---|---|")
    for name, cost in costs.items():
        print(f"| {name} | {cost:.0f} | {cost / least:.1f} |")
    exact = np.argmax(asked @ rows.T, axis=1)
    found = [graph.find(one, 0, 1, 0) for one in asked]
    hit = np.mean([bool(some) and int(some[0].id) == int(best) for some, best in zip(found, exact, strict=True)])
    print(f"\nrecall@1 of the graph: {hit:.3f} of {ASKED}; {1e6 * built / LARGE:.0f} µs a vector to make")

    folder = minilm_folder()
    assert folder is not None
    model, ngrams = load(folder), HashedNgrams()
    ctx = Context("chat", False, "request", "response")
    one, other = wording(SHORT), wording(SHORT.replace("How do I", "How can I"))
    costs = in_turn(
        {
            "words of a question": lambda _: wording(SHORT),
            "compare the words of two": lambda _: same(one, other),
            "ngrams, 49 characters": lambda _: at_once(ngrams.embed(SHORT, ctx)),
            "minilm, 12 tokens": lambda _: model(SHORT),
            "minilm, 162 tokens": lambda _: model(LONG),
        }
    )
    print("\n| work | µs |\n|---|---|")
    for name, cost in costs.items():
        print(f"| {name} | {cost:.0f} |")


def at_once(work: Coroutine[object, object, object]) -> None:
    """Do what never waits, without a loop."""
    with contextlib.suppress(StopIteration):
        work.send(None)


if __name__ == "__main__":
    main()
