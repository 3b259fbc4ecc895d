"""The servers of the shared table of scenarios: one set for the clients of all languages."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from tests.clients.scene import scene


@pytest.fixture(scope="session")
def addresses() -> Iterator[dict[str, str]]:
    """The servers, in a thread of their own: their addresses by name."""
    found: dict[str, str] = {}
    there, over = threading.Event(), threading.Event()

    async def serve() -> None:
        async with scene() as at:
            found.update(at)
            there.set()
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert there.wait(30), "the scene has not begun within 30 s"
    yield found
    over.set()
    thread.join(30)
