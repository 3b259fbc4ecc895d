"""A real gateway inside your tests: offline, deterministic, gone when the test ends.

    pytest_plugins = ["parley.testing"]          # in conftest.py

    def test_greeting(parley_gateway):
        with parley_gateway.client() as client:
            assert client.chat("mock/echo", "hello").text == "hello"

Models that answer something else are described as in the gateway's configuration below `providers.mock.models`:

    with Gateway({"weather": {"reply": "sunny"}, "busy": {"errors": [{"status": 429, "retry_after": 1}]}}) as gateway:
        ...

Needs the extra `testing`, which brings the gateway itself.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Coroutine, Iterator, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Self, TypeVar

import pytest

from parley._async.client import AsyncClient
from parley._sync.client import Client

if TYPE_CHECKING:
    from parley_server import app
    from parley_server.transports.mock import Captured

T = TypeVar("T")

Models = Mapping[str, Mapping[str, Any]]

_START = 30.0
_STOP = 30.0


class Gateway:
    """A gateway on 127.0.0.1, in a thread with an event loop of its own, for as long as the `with` block runs.

    `models` are mock models by name, beside mock/echo; sections in `config` replace those that this class writes.
    """

    def __init__(self, models: Models | None = None, *, config: Mapping[str, Any] | None = None) -> None:
        self._config = {
            "server": {"address": "127.0.0.1:0"},
            "admin": {"enabled": False},
            "providers": {"mock": {"models": {name: dict(model) for name, model in (models or {}).items()}}},
            **(config or {}),
        }
        self._gateway: app.Gateway | None = None

    @property
    def address(self) -> str:
        """host:port to call."""
        return f"127.0.0.1:{self._running().port}"

    @property
    def requests(self) -> list[Captured]:
        """What the mock provider was asked, oldest first: `path`, `headers`, `body` (parsed JSON) of each request."""
        gateway = self._running()

        async def snapshot() -> list[Captured]:  # in the gateway's loop, which may be adding to it
            return [request for mock in gateway.mocks.values() for request in mock.requests]

        return self._run(snapshot(), _START)

    def client(self, **arguments: Any) -> Client:
        """A client of this gateway. Close it, or use it as a context manager."""
        return Client(self.address, **{"token": "", **arguments})

    def async_client(self, **arguments: Any) -> AsyncClient:
        """The same for asyncio."""
        return AsyncClient(self.address, **{"token": "", **arguments})

    def start(self) -> None:
        """Serve. Raises what the gateway raises, such as ConfigError."""
        gateway = _build(self._config)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="parley-gateway", daemon=True)
        self._thread.start()
        try:
            self._run(gateway.start(), _START)
        except BaseException:
            self._end()
            raise
        self._gateway = gateway

    def stop(self) -> None:
        """Cut running calls and stop."""
        gateway, self._gateway = self._gateway, None
        if gateway is not None:
            try:
                self._run(gateway.stop(drain=0), _STOP)
            finally:
                self._end()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _running(self) -> app.Gateway:
        if self._gateway is None:
            raise RuntimeError("the gateway is not running")
        return self._gateway

    def _run(self, work: Coroutine[Any, Any, T], timeout: float) -> T:
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result(timeout)

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_STOP)
        self._loop.close()


def _build(settings: Mapping[str, Any]) -> app.Gateway:
    try:
        import structlog
        import yaml

        from parley_server import app, config
    except ModuleNotFoundError as error:
        if error.name != "parley_server":
            raise
        raise ImportError("parley.testing runs a gateway: pip install 'parley-client[testing]'") from error
    if not structlog.is_configured():  # unconfigured it prints everything to standard output, in among the tests'
        structlog.configure(
            wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
            logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        )
    text = yaml.safe_dump(dict(settings), allow_unicode=True)
    return app.Gateway(config.load(text, environ={}))  # what this machine is set up for must not leak into a test


@pytest.fixture
def parley_models() -> Models:
    """Mock models of `parley_gateway`, beside mock/echo. Override it to have some."""
    return {}


@pytest.fixture
def parley_gateway(parley_models: Models) -> Iterator[Gateway]:
    """A running gateway, fresh for each test."""
    with Gateway(parley_models) as gateway:
        yield gateway
