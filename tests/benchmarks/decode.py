"""Decoding alone: what framing and decoder of each dialect take to make events of the contract suite's bytes."""

from __future__ import annotations

import functools
import gc
import time
from collections.abc import Iterator, Sequence
from importlib import import_module

from parley.fold import fold
from tests.benchmarks import dialects, prompt
from tests.benchmarks.processes import Failed
from tests.contract.case import Case
from tests.contract.cases import DIALECTS
from tests.contract.said import Said, Used

FLOOR = "openai_chat"
READS = {"one": 1, "several": 4}
"""Events that one read delivers: a provider writes each as it comes, and a busy gateway finds a few at a time."""

_THIRD_PARTY = frozenset({"acorn"})
_SAID = Said(text=prompt.answer(dialects.EVENTS * dialects.EVENT), used=Used(input=20, output=dialects.EVENTS))


@functools.cache
def _cases() -> dict[str, Case]:
    """All cases of the built-in dialects, by name."""
    modules = [import_module(f"tests.contract.cases.{name}") for name in DIALECTS if name not in _THIRD_PARTY]
    return {case.name: case for module in modules for case in module.CASES}


def names() -> list[str]:
    """Of the cases beside OpenAI's."""
    return [name for name in _cases() if name != FLOOR]


def key(name: str, kind: str = "") -> str:
    """Of the measure of a case in reads of a kind, or of all kinds, each for as many events."""
    return "-".join(filter(None, ("decode", name.replace(", ", "-"), kind)))


def costs(streams: int) -> Iterator[tuple[str, str, float]]:
    """Case, kind of read, and CPU time in microseconds an upstream event with text; of so many streams each.

    Raises Failed if what comes out is not what was said.
    """
    for kind, events in READS.items():
        for name, case in _cases().items():
            reads = _reads(case.stream(_SAID), events)
            if fold(case.heard(reads, _SAID)).message.parts[0].text != _SAID.text:
                raise Failed(f"decoding {name} does not give what was said")
            gc.collect()
            before = time.process_time()
            for _ in range(streams):
                _decode(case, reads)
            yield name, kind, (time.process_time() - before) * 1e6 / streams / dialects.EVENTS


def _reads(writes: Sequence[bytes], events: int) -> list[bytes]:
    return [b"".join(writes[start : start + events]) for start in range(0, len(writes), events)]


def _decode(case: Case, reads: Sequence[bytes]) -> None:
    framing, decoder = case.dialect.framing(), case.dialect.decoder(case.target)
    for read in reads:
        decoder.feed(framing.feed(read))
    decoder.feed(framing.finish())
    decoder.finish()
