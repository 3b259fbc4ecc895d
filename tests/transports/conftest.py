"""The HTTP transport is held to its word on both event loops: they close sockets in their own ways."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import trustme
import uvloop

from parley_server.transports.http import HttpTransport

_ASYNCIO = {"asyncio": asyncio.new_event_loop}
_BOTH = {**_ASYNCIO, "uvloop": uvloop.new_event_loop}


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return _BOTH if item.path.name.startswith("test_http_") else _ASYNCIO


@pytest.fixture(scope="session")
def tls() -> ssl.SSLContext:
    return ssl.create_default_context()  # loading the authorities takes its time: once for all


@pytest.fixture
async def transport(tls: ssl.SSLContext) -> AsyncIterator[HttpTransport]:
    made = HttpTransport(tls=tls)
    yield made
    assert made.open == 0, "a test left a response open"
    await made.aclose()


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()
