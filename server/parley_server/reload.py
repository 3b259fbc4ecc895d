"""Keeps a running gateway's configuration that of its files: on SIGHUP, and whenever a file changes.

A configuration that cannot be used changes nothing but the log and `config_refused` of GetServerInfo.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import structlog

from parley_server.config import Config
from parley_server.config_sources import ConfigError
from parley_server.config_watch import Source

_SETTLE = 0.1  # seconds without a change after which a file counts as written
_LOOKS = 50

log = structlog.get_logger("parley.config")


class Reloads(Protocol):
    """What can be given another configuration."""

    settings: Config

    async def reload(self, settings: Config) -> None: ...
    def refuse(self) -> None: ...


class Reloader:
    """Watches `source` on behalf of `gateway`, every `reload.interval` seconds."""

    def __init__(self, source: Source, gateway: Reloads, settle: float = _SETTLE) -> None:
        self._source = source
        self._gateway = gateway
        self._settle = settle
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Somebody wants the files to be read now."""
        self._asked.set()

    async def run(self) -> None:
        """Reload when asked and when files change, until cancelled."""
        while True:
            asked = await self._asked_within(self._gateway.settings.reload.interval)
            if asked and self._source.path is None:
                log.info("config_asked", note="no file: variables are those of the start, only secrets are read again")
            if asked or await asyncio.to_thread(self._source.changed):
                await self._settled()
                await self._reload()

    async def _asked_within(self, seconds: float) -> bool:
        """Whether somebody asked, waiting for at most `seconds`, for ever if 0."""
        try:
            async with asyncio.timeout(seconds or None):
                await self._asked.wait()
        except TimeoutError:
            return False
        self._asked.clear()
        return True

    async def _settled(self) -> None:
        """Wait until the files stay as they are: an editor may be half-way through one."""
        seen = await asyncio.to_thread(self._source.look)
        for _ in range(_LOOKS):
            await asyncio.sleep(self._settle)
            before, seen = seen, await asyncio.to_thread(self._source.look)
            if before == seen:
                return

    async def _reload(self) -> None:
        try:
            settings = await asyncio.to_thread(self._source.read)
            await self._gateway.reload(settings)
        except ConfigError as error:
            log.error("config_refused", file=str(self._source.path or ""), problems=error.problems)
            self._gateway.refuse()
        except Exception as error:  # whatever providers think of their settings, the gateway goes on as it was
            log.error("config_refused", file=str(self._source.path or ""), problems=[str(error)], exc_info=error)
            self._gateway.refuse()
