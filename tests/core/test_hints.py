"""What gateways tell each other of targets that fail."""

from __future__ import annotations

import asyncio

import orjson

from parley_server.hints import CircuitHints
from parley_server.stores.keyvalue import StoreUnavailable
from parley_server.stores.memory.keyvalue import MemoryMessages


class Messages(MemoryMessages):
    """Messages that can be away."""

    away = False

    async def publish(self, channel: str, message: bytes) -> None:
        if self.away:
            raise StoreUnavailable("away")
        await super().publish(channel, message)


async def test_the_others_are_told_and_nobody_else() -> None:
    messages = Messages()
    hints = {name: CircuitHints(messages, name) for name in ("one", "two", "three")}
    heard: list[tuple[str, str, float]] = []

    def hears(name: str) -> asyncio.Task[None]:
        return asyncio.create_task(hints[name].run(lambda target, seconds: heard.append((name, target, seconds))))

    tasks = [hears(name) for name in hints]
    await asyncio.sleep(1)
    hints["one"].opened("openai/m", 5.0)
    await asyncio.sleep(1)
    assert sorted(heard) == [("three", "openai/m", 5.0), ("two", "openai/m", 5.0)]
    heard.clear()
    messages.away = True
    hints["one"].opened("openai/m", 5.0)
    await asyncio.sleep(1)
    messages.away = False
    await asyncio.sleep(100)
    assert heard == [], "old news is no news"
    hints["two"].opened("openai/n", 10)
    await asyncio.sleep(1)
    assert sorted(heard) == [("one", "openai/n", 10.0), ("three", "openai/n", 10.0)]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_what_is_no_hint_is_passed_over() -> None:
    messages, heard = Messages(), list[object]()
    task = asyncio.create_task(CircuitHints(messages, "one").run(lambda *hint: heard.append(hint)))
    await asyncio.sleep(1)
    for nonsense in (b"", b"{", b"[]", orjson.dumps({"gateway": "two", "target": "a/b", "seconds": "soon"})):
        await messages.publish("circuits", nonsense)
    await messages.publish("circuits", orjson.dumps({"gateway": "two", "target": "a/b", "seconds": 1.5, "more": 1}))
    await asyncio.sleep(1)
    assert heard == [("a/b", 1.5)]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
