"""`parley.admin.v1.CacheService`: what operators see and do of the cache of answers.

The admin port answers on threads of its own; the cache lives in the event loop, which is asked from there, and not for
longer than a few seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, Protocol, TypeVar

import grpc

from parley.admin import v1 as admin
from parley.admin.v1.cache_service_pb2_grpc import CacheServiceServicer
from parley_server.api.checks import seconds
from parley_server.stores.keyvalue import StoreUnavailable

SERVICE = "parley.admin.v1.CacheService"
_PATIENCE = 5.0
_KEY_BYTES = 20

T = TypeVar("T")


class Cached(Protocol):
    """The cache, as operators see it. Called in the event loop."""

    async def stats(self) -> admin.GetCacheStatsResponse:
        """What it has done."""
        ...

    async def purge(self, request: admin.PurgeCacheRequest) -> admin.PurgeCacheResponse:
        """Forget answers. Raises StoreUnavailable."""
        ...


class CacheAdmin(CacheServiceServicer):
    """Serves the cache of the event loop that it is made in."""

    def __init__(self, cache: Cached, loop: asyncio.AbstractEventLoop) -> None:
        self._cache = cache
        self._loop = loop

    def GetCacheStats(
        self, request: admin.GetCacheStatsRequest, context: grpc.ServicerContext
    ) -> admin.GetCacheStatsResponse:
        return self._asked(self._cache.stats, context)

    def PurgeCache(self, request: admin.PurgeCacheRequest, context: grpc.ServicerContext) -> admin.PurgeCacheResponse:
        if problem := _problem(request):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, problem)
        try:
            return self._asked(lambda: self._cache.purge(request), context)
        except StoreUnavailable:
            message = "the shared store cannot be asked: this gateway has forgotten the answers, others have not"
            _unavailable(context, message)

    def _asked(self, work: Callable[[], Coroutine[Any, Any, T]], context: grpc.ServicerContext) -> T:
        if not self._loop.is_running():
            _unavailable(context, "the gateway is stopping")
        coming = asyncio.run_coroutine_threadsafe(work(), self._loop)
        try:
            return coming.result(_PATIENCE)
        except TimeoutError:
            coming.cancel()
            _unavailable(context, f"the gateway has not answered within {_PATIENCE:g} s")


def _problem(request: admin.PurgeCacheRequest) -> str:
    """What is wrong with a request; empty if nothing is."""
    if not request.ListFields():
        return "say what is to be purged: tenant, model, namespace, key, min_age, or all"
    if request.all and len(request.ListFields()) > 1:
        return "all: leave it out to purge what meets the other conditions"
    if request.key:
        try:
            key = bytes.fromhex(request.key)
        except ValueError:
            key = b""
        if len(key) != _KEY_BYTES:
            return f"key: is not one that CacheInfo gives, {2 * _KEY_BYTES} hexadecimal digits"
    if request.HasField("min_age") and seconds(request.min_age) < 0:
        return "min_age: must be 0 or more"
    return ""


def _unavailable(context: grpc.ServicerContext, message: str) -> NoReturn:
    context.abort(grpc.StatusCode.UNAVAILABLE, message)
    raise AssertionError("abort raises")
