"""A peer to talk to, and both clients behind one face."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

import parley
from tests.clients.python.peer import Blocking, Peer


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    peer.start()
    yield peer
    peer.stop()


@pytest.fixture(params=["sync", "async"])
def client(request: pytest.FixtureRequest, peer: Peer) -> Iterator[Any]:
    """A client of `peer`: one time the synchronous one, one time the asynchronous one with a synchronous face."""
    if request.param == "sync":
        with parley.Client(peer.address) as client:
            yield client
        return
    with asyncio.Runner() as runner, Blocking(parley.AsyncClient(peer.address), runner) as client:
        yield client
