"""All asynchronous tests of the edge run on fake time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from tests.fakes import FakeTimeLoop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"fake_time": FakeTimeLoop}
