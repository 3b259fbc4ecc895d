"""A TCP proxy on 127.0.0.1 that cuts every connection once the server has said so many bytes on it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

_PIECE = 1024


@dataclass
class Cutting:
    """The proxy: where it listens, and how many connections it has cut."""

    port: int = 0
    cut: int = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


@asynccontextmanager
async def cutting(port: int, after: int) -> AsyncIterator[Cutting]:
    """Stand before the server at `port` until the block ends."""
    proxy = Cutting()
    running: set[asyncio.Task[None]] = set()

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            with contextlib.suppress(OSError):
                await _between(reader, writer)
        finally:
            writer.transport.abort()  # a reset, not a goodbye
            running.discard(task)

    async def _between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", port)
        up = asyncio.create_task(_pass(reader, to_server))
        try:
            proxy.cut += not await _pass(from_server, writer, after)
        finally:
            to_server.transport.abort()
            up.cancel()
            await asyncio.gather(up, return_exceptions=True)

    server = await asyncio.start_server(meet, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for task in [*running]:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await server.wait_closed()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, most: int | None = None) -> bool:
    """Pass bytes on until there are no more, or `most` have passed; whether there were no more."""
    passed = 0
    while data := await reader.read(_PIECE):
        passed += len(data)
        writer.write(data)
        await writer.drain()
        if most is not None and passed >= most:
            return False
    return True
