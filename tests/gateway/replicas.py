"""Several gateways that share one Redis-compatible server, in front of one scripted provider."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.gateway.process import Gateway, config, gateway
from tests.gateway.wire import by_model
from tests.stores.servers import VALKEY, Server
from tests.upstream import Script, Upstream, scripted

MODULE = "tests.gateway.inspected"


@dataclass
class Replicas:
    """`one` and `other` are there all the while; `more()` makes another one."""

    server: Server
    upstream: Upstream
    folder: Path
    settings: dict[str, Any]
    opened: AsyncExitStack
    gateways: list[Gateway] = field(default_factory=list)

    @property
    def one(self) -> Gateway:
        return self.gateways[0]

    @property
    def other(self) -> Gateway:
        return self.gateways[1]

    async def more(self, **sections: Any) -> Gateway:
        """Another gateway, with `sections` different from those of the rest."""
        folder = self.folder / uuid.uuid4().hex
        folder.mkdir()
        settings = {**self.settings, **sections}
        return await self.opened.enter_async_context(gateway(settings, folder, module=MODULE))

    @property
    def asked(self) -> int:
        """How often the provider has been asked for an answer."""
        return sum(request.method == "POST" for request in self.upstream.requests)


@asynccontextmanager
async def replicas(
    plays: Mapping[str, Script],
    folder: Path,
    count: int = 2,
    up: Mapping[str, Any] | None = None,
    **sections: Any,
) -> AsyncIterator[Replicas]:
    """`count` gateways and a server of their own. `up`: further settings of the provider."""
    server = await asyncio.to_thread(Server(VALKEY).start)
    try:
        async with scripted(by_model(plays)) as upstream, AsyncExitStack() as opened:
            providers = {"up": {"kind": "openai-compatible", "base_url": f"{upstream.base_url}/v1", **(up or {})}}
            redis = {"url": server.url, **sections.pop("redis", {})}
            settings = config(providers=providers, redis=redis, **sections)
            there = Replicas(server, upstream, folder, settings, opened)
            there.gateways += await asyncio.gather(*(there.more() for _ in range(count)))
            yield there
    finally:
        await asyncio.to_thread(server.close)
