"""When a circuit opens at one gateway, the others are warned of its target.

They do not leave the target alone on hearsay: it may be the one gateway that is cut off. A warned circuit stays closed,
and one failure of its own is enough to open it. Nobody waits for a hint, and one that is not heard costs nothing but
the failures that it would have spared.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing

import orjson
import structlog

from parley_server.stores.keyvalue import Messages, StoreUnavailable

_CHANNEL = "circuits"
log = structlog.get_logger("parley.calls")


class CircuitHints:
    """Hints to and from other gateways; this one is called `gateway`. `run()` sends and receives them."""

    def __init__(self, messages: Messages, gateway: str) -> None:
        self._messages = messages
        self._gateway = gateway
        self._opened: dict[str, float] = {}  # targets and seconds that others have not been told yet
        self._due = asyncio.Event()

    def opened(self, target: str, seconds: float) -> None:
        """The circuit of a target (provider/model) has opened here, for so long."""
        self._opened[target] = seconds
        self._due.set()

    async def run(self, warn: Callable[[str, float], None]) -> None:
        """Tell others, and call `warn` with what they tell: a target, and for how many seconds. Until cancelled."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._tell())
            both.create_task(self._listen(warn))

    async def _tell(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            opened, self._opened = self._opened, {}
            for target, seconds in opened.items():
                hint = {"gateway": self._gateway, "target": target, "seconds": seconds}
                try:
                    await self._messages.publish(_CHANNEL, orjson.dumps(hint))
                except StoreUnavailable:
                    break  # it would be old news by the time that the store is back

    async def _listen(self, warn: Callable[[str, float], None]) -> None:
        async with aclosing(self._messages.listen(_CHANNEL)) as messages:  # type: ignore[type-var]
            async for message in messages:
                match _read(message):
                    case {"gateway": str(other), "target": str(target), "seconds": float() | int() as seconds} if (
                        other != self._gateway
                    ):
                        log.info("circuit_warned", target=target, seconds=seconds)
                        warn(target, seconds)


def _read(message: bytes | None) -> object:
    """The hint; None for what is none, such as one of another version."""
    try:
        return None if message is None else orjson.loads(message)
    except ValueError:
        return None
