"""A TCP proxy on loopback that delays, swallows or cuts what passes: networks that misbehave, in a test."""

from __future__ import annotations

import asyncio
import contextlib
import ssl


class Proxy:
    """In front of the server at `port`. `port` of the proxy is where to connect; `tls`: it ends TLS."""

    def __init__(self, server: int, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.delay = 0.0
        """Seconds that everything from the server is late."""
        self.swallow = False
        """Nothing passes in either direction, and nobody is told."""
        self.port = 0
        self.accepted = 0
        self._server_port = server
        self._tls = tls
        self._host = host
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._accept, self._host, 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        await self.cut()

    async def cut(self) -> None:
        """Close all connections that are open."""
        tasks = list(self._open)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        self.accepted += 1
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._server_port)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pass(reader, back, late=False))
                    group.create_task(self._pass(there, writer, late=True))
            finally:
                back.close()
        except (OSError, ExceptionGroup, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self._open.discard(task)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, late: bool) -> None:
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        sending = asyncio.create_task(self._send(waiting, writer))
        loop = asyncio.get_running_loop()
        try:
            while data := await reader.read(65536):
                if not self.swallow:
                    waiting.put_nowait((loop.time() + (self.delay if late else 0), data))
        finally:
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sending
        raise ConnectionError("closed")  # ends the other direction too

    async def _send(self, waiting: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        while True:
            when, data = await waiting.get()
            await asyncio.sleep(max(when - asyncio.get_running_loop().time(), 0))
            if not self.swallow:
                writer.write(data)
                await writer.drain()
