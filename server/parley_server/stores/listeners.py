"""Who listens to which channel within this process, and what waits for each of them. For stores of messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

_BEHIND = 1000  # messages that a listener may be behind; more, and it is told that it has missed some


@dataclass(slots=True, eq=False)
class _Listener:
    messages: list[bytes | None] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, message: bytes | None) -> None:
        if message is None or len(self.messages) >= _BEHIND:
            self.messages[:] = [None]  # whatever they said must be looked up anyway
        else:
            self.messages.append(message)
        self.arrived.set()


class Listeners:
    """Listeners by channel.

    `on_change` is called with a channel that has its first listener, or none any more; `ready` tells whether all that
    is said on a channel comes here, so that a new listener gets None at once.
    """

    def __init__(
        self,
        on_change: Callable[[str], None] = lambda channel: None,
        ready: Callable[[str], bool] = lambda channel: True,
    ) -> None:
        self._listeners: dict[str, set[_Listener]] = {}
        self._on_change = on_change
        self._ready = ready

    @property
    def channels(self) -> set[str]:
        """Those with listeners."""
        return set(self._listeners)

    def tell(self, channel: str, message: bytes | None) -> None:
        """A message for all who listen to `channel`; None: they may have missed some."""
        for listener in self._listeners.get(channel, ()):
            listener.add(message)

    async def listen(self, channel: str) -> AsyncIterator[bytes | None]:
        """What is told to `channel` from now on."""
        listener = _Listener()
        if self._ready(channel):
            listener.add(None)
        first = channel not in self._listeners
        self._listeners.setdefault(channel, set()).add(listener)
        try:
            if first:
                self._on_change(channel)
            while True:
                await listener.arrived.wait()
                listener.arrived.clear()
                waiting, listener.messages = listener.messages, []
                for message in waiting:
                    yield message
        finally:
            listeners = self._listeners[channel]
            listeners.discard(listener)
            if not listeners:
                del self._listeners[channel]
                self._on_change(channel)
