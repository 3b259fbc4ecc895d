"""The admin port: health, channelz and the cache of answers, on threads of its own: health answers while the event loop
is blocked.

Liveness means "a restart would help": it is NOT_SERVING once the event loop has not beaten for a while, and nothing
else makes it so. "stores" says whether shared state can be reached, and "stores.cache" and the like whether it can be
for one purpose; nothing else follows from them. All other names follow what the gateway reports.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_channelz.v1 import channelz
from grpc_channelz.v1.channelz_pb2 import DESCRIPTOR as CHANNELZ
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from parley.admin.v1.cache_service_pb2_grpc import add_CacheServiceServicer_to_server
from parley_server.api.cache import SERVICE as CACHE_SERVICE
from parley_server.api.cache import CacheAdmin
from parley_server.api.health import NAMES, NOT_SERVING, SERVING

_THREADS = 8  # a Watch holds one each; Check and channelz need one free


class _Health(health.HealthServicer):
    """The library's servicer with a List."""

    def List(self, request: health_pb2.HealthListRequest, context: Any) -> health_pb2.HealthListResponse:
        with self._lock:
            statuses = {
                name: health_pb2.HealthCheckResponse(status=value) for name, value in self._server_status.items()
            }
        return health_pb2.HealthListResponse(statuses=statuses)


class AdminServer:
    """A synchronous gRPC server beside the asynchronous one. Methods may be called from any thread.

    `stores`: the purposes of stores whose health is told. `cache`: serves the cache of answers, if there is one.
    """

    def __init__(self, *, stalled_after: float, stores: Collection[str] = (), cache: CacheAdmin | None = None) -> None:
        self._health = _Health(experimental_non_blocking=True, experimental_thread_pool=ThreadPoolExecutor(1))
        for name in NAMES:
            self._health.set(name, NOT_SERVING)
        self._stores = {f"stores.{purpose}": purpose for purpose in stores}
        self._down: frozenset[str] | None = None
        self.show_stores(())
        self._stalled_after = stalled_after
        self._last_beat = time.monotonic()
        self._stopped = threading.Event()
        self._server = grpc.server(
            ThreadPoolExecutor(_THREADS, thread_name_prefix="admin"),
            options=[("grpc.so_reuseport", 0), ("grpc.enable_channelz", 1)],
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        channelz.add_channelz_servicer(self._server)
        services = [health.SERVICE_NAME, CHANNELZ.services_by_name["Channelz"].full_name, reflection.SERVICE_NAME]
        if cache is not None:
            add_CacheServiceServicer_to_server(cache, self._server)
            services.append(CACHE_SERVICE)
        reflection.enable_server_reflection(services, self._server)
        self._watcher = threading.Thread(target=self._watch, name="liveness", daemon=True)

    def bind(self, address: str) -> int:
        """Take `address`; gives the port. Raises RuntimeError if it cannot be had."""
        port: int = self._server.add_insecure_port(address)
        return port

    def start(self) -> None:
        """Answer from now on."""
        self._health.set("liveness", SERVING)
        self._server.start()
        self._watcher.start()

    def beat(self) -> None:
        """The event loop is alive."""
        self._last_beat = time.monotonic()

    def serve(self, serving: bool) -> None:
        """Report all names but liveness as SERVING or not."""
        for name in NAMES:
            if name != "liveness":
                self._health.set(name, SERVING if serving else NOT_SERVING)

    def show_stores(self, down: Collection[str]) -> None:
        """Report the stores for the purposes of `down` as NOT_SERVING, the others as SERVING."""
        if self._down == frozenset(down):
            return  # who watches hears of changes only
        self._down = frozenset(down)
        self._health.set("stores", NOT_SERVING if down else SERVING)
        for name, purpose in self._stores.items():
            self._health.set(name, NOT_SERVING if purpose in down else SERVING)

    def stop(self) -> None:
        """Stop answering. Returns once the port is closed."""
        self._stopped.set()
        self._watcher.join()
        self._server.stop(0).wait()

    def _watch(self) -> None:
        while not self._stopped.wait(self._stalled_after / 5):
            alive = time.monotonic() - self._last_beat < self._stalled_after
            self._health.set("liveness", SERVING if alive else NOT_SERVING)
