"""Stores are tested on fake time. One that is another process needs a loop of its own kind, and says so here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from tests.fakes import FakeTimeLoop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"fake_time": FakeTimeLoop}
