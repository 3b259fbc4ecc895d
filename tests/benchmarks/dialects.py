"""The same stream in every dialect: its bytes are those of the contract suite, its upstream the C program's recital.

Dialects whose turns take several calls (Replicate) are left out: the recital has one answer, and what their turns cost
is the calls, some hundred microseconds each, not the events, which is what is compared here.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from parley_server.dialects.steps import SteppedChat
from tests.benchmarks import prompt, servers
from tests.benchmarks.job import Job
from tests.benchmarks.processes import Process
from tests.contract.case import Case
from tests.contract.cases import DIALECTS
from tests.contract.said import Said

FLOOR = "openai_chat"
EVENTS = 100
"""Of a stream, those with text."""
EVENT = 3
"""Characters of one, as the cases cut texts."""


@functools.cache
def _cases() -> dict[str, Case]:
    """A case for each built-in dialect that answers one call with one stream."""
    found: dict[str, Case] = {}
    for name in DIALECTS:
        if find_spec(f"parley_server.dialects.{name}") is not None:
            case = import_module(f"tests.contract.cases.{name}").CASES[0]
            if not isinstance(case.dialect, SteppedChat):
                found[name] = case
    return found


def names() -> list[str]:
    """Of the dialects beside OpenAI's."""
    return [name for name in _cases() if name != FLOOR]


@contextmanager
def upstreams(folder: Path) -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
    """An upstream for each dialect; gives the settings of the providers, and the variables that these refer to."""
    said = Said(text=prompt.answer(EVENTS * EVENT))
    providers: dict[str, Any] = {}
    variables: dict[str, str] = {}
    with ExitStack() as stack:
        for name, case in _cases().items():
            upstream = stack.enter_context(servers.recital(folder, name, case.stream(said), case.content_type))
            providers[name] = case.provider(f"http://{upstream.address}")
            variables |= case.environ
        yield providers, variables


def job(gateway: Process, name: str, requests: int, in_flight: int) -> Job:
    """Streams of one dialect."""
    return Job("stream", gateway.address, f"{name}/{_cases()[name].model}", requests, in_flight, EVENTS * EVENT)
