"""Messages through Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator

from parley_server.stores.redis.connection import Redis


class RedisMessages:
    """Messages to all gateways that share the server."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def publish(self, channel: str, message: bytes) -> None:
        await self._redis.publish(self._redis.key(channel), message)

    def listen(self, channel: str) -> AsyncIterator[bytes | None]:
        return self._redis.listen(self._redis.key(channel))
