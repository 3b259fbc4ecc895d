"""The contract of stores is asked of all of them, those in other processes included."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping

import pytest
import structlog
import uvloop

from tests.fakes import FakeTimeLoop
from tests.stores.servers import REDIS, VALKEY, ClusterOfThree, Sentinels, Server

_FAKE_TIME = {"test_memory_streams.py", "test_copied_streams.py"}  # nothing in another process


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"fake_time": FakeTimeLoop} if item.path.name in _FAKE_TIME else {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def valkey() -> Iterator[Server]:
    """A server for all tests of the session, which must leave it as it was."""
    server = Server(VALKEY).start()
    yield server
    server.close()


@pytest.fixture(scope="session")
def debian_redis() -> Iterator[Server]:
    """The same of the distribution's Redis."""
    if REDIS is None:
        pytest.skip("no redis-server on the PATH (Debian: apt install redis-server)")
    server = Server(REDIS).start()
    yield server
    server.close()


@pytest.fixture(scope="session")
def sentinels() -> Iterator[Sentinels]:
    """A primary, a replica and three Sentinels."""
    servers = Sentinels().start()
    yield servers
    servers.close()


@pytest.fixture(scope="session")
def cluster() -> Iterator[ClusterOfThree]:
    """A cluster of three."""
    servers = ClusterOfThree().start()
    yield servers
    servers.close()


@pytest.fixture(autouse=True)
def every_line_is_logged() -> None:
    """Whatever a test before has told the log to leave out: what stores say of outages is looked at."""
    structlog.reset_defaults()
