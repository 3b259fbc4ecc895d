"""Commands to a cluster: to the node that has the key, after its slot.

Which node has which slots is asked once, and again when a node says that it has lost one, or does not answer.
"""

from __future__ import annotations

import asyncio
import random
from binascii import crc_hqx
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from redis.exceptions import AskError, ClusterDownError, MovedError, RedisError, ResponseError

from parley_server.stores.redis.lanes import Argument, Command, Lanes
from parley_server.stores.redis.opening import Address

_SLOTS = 16384
_REDIRECTS = 3  # rounds for keys that move while they are looked for
_ASKED = 4  # nodes, beside the seeds, that are asked how the cluster stands
_KEYLESS = frozenset({"PING", "TIME"})  # not PUBLISH: messages to a channel stay in order over one node


def slot_of(command: Command) -> int | None:
    """The slot of a command's keys, None if it has none: any node does."""
    match command:
        case ["EVAL" | "EVALSHA", _, 0 | "0", *_]:
            return None
        case ["EVAL" | "EVALSHA", _, _, key, *_]:
            return slot(key)
        case ["XREAD" | "XREADGROUP", *rest]:
            return slot(rest[rest.index("STREAMS") + 1])
        case [name, key, *_] if name not in _KEYLESS:
            return slot(key)
        case _:
            return None


def slot(key: Argument) -> int:
    """The slot of a key: of the part in its first braces, if there is something in them."""
    data = key if isinstance(key, bytes) else str(key).encode()
    start = data.find(b"{")
    if start >= 0:
        end = data.find(b"}", start + 1)
        if end > start + 1:
            data = data[start + 1 : end]
    return crc_hqx(data, 0) % _SLOTS


class Cluster:
    """The nodes of a cluster. `lanes` makes those to the node at an address; `seeds` are some that may be there."""

    def __init__(self, seeds: Sequence[Address], lanes: Callable[[Address], Lanes]) -> None:
        self._seeds = seeds
        self._make = lanes
        self._lanes: dict[Address, Lanes] = {}
        self._slots: list[Address] = []
        self._primaries: list[Address] = []
        self._looking: asyncio.Task[None] | None = None
        self._leaving: set[asyncio.Task[None]] = set()

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """The answers to `commands`, error replies among them as ResponseErrors. Those to one node are in order."""
        if not self._primaries:
            await self._look()
        answers: list[Any] = [None] * len(commands)
        left = list(range(len(commands)))
        for _ in range(_REDIRECTS):
            await self._round(commands, answers, left)
            left = [index for index in left if isinstance(answers[index], MovedError)]
            if not left:
                break
        return answers

    async def ask_all(self, command: Command) -> list[Any]:
        """The answers of all primaries."""
        if not self._primaries:
            await self._look()
        answers: list[Any] = [None] * len(self._primaries)
        commands = [command] * len(answers)
        asking = [self._part(address, commands, answers, [i]) for i, address in enumerate(self._primaries)]
        for outcome in await asyncio.gather(*asking, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
        return answers

    async def nodes(self) -> Sequence[Lanes]:
        """The primaries: each has keys of its own."""
        if not self._primaries:
            await self._look()
        return [self._at(address) for address in self._primaries]

    async def any(self) -> Address:
        """A node; all of them know of all messages."""
        if not self._primaries:
            await self._look()
        return random.choice(self._primaries)

    async def aclose(self) -> None:
        """Close all connections."""
        tasks = [*self._leaving, *([] if self._looking is None else [self._looking])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(lanes.aclose() for lanes in self._lanes.values()))

    async def _round(self, commands: Sequence[Command], answers: list[Any], left: Sequence[int]) -> None:
        """Ask each node for what it should have, of what is left."""
        groups: dict[Address, list[int]] = defaultdict(list)
        for index in left:
            there = slot_of(commands[index])
            groups[random.choice(self._primaries) if there is None else self._slots[there]].append(index)
        parts = [self._part(address, commands, answers, indices) for address, indices in groups.items()]
        if len(parts) == 1:
            await parts[0]
            return
        for outcome in await asyncio.gather(*parts, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def _part(
        self, address: Address, commands: Sequence[Command], answers: list[Any], indices: Sequence[int]
    ) -> None:
        try:
            got = await self._at(address).ask([commands[index] for index in indices])
        except (RedisError, OSError, TimeoutError):
            self._look_again()
            raise
        for index, answer in zip(indices, got, strict=True):
            if isinstance(answer, MovedError):
                self._slots[answer.slot_id] = (answer.host or address[0], answer.port)
                self._look_again()
            elif isinstance(answer, AskError):  # the slot is on its way, and this key is there already
                _, answer = await self._at((answer.host or address[0], answer.port)).ask([("ASKING",), commands[index]])
            elif isinstance(answer, ClusterDownError):
                self._look_again()
            answers[index] = answer

    def _at(self, address: Address) -> Lanes:
        lanes = self._lanes.get(address)
        if lanes is None:
            lanes = self._lanes[address] = self._make(address)
        return lanes

    def _look_again(self) -> None:
        """Callers go on with what is known meanwhile."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._find())

    async def _look(self) -> None:
        self._look_again()
        if self._looking is not None:
            await asyncio.shield(self._looking)
        if not self._primaries:
            raise ConnectionError("no node answers")

    async def _find(self) -> None:
        """Ask some nodes how the cluster stands; the first that knows it whole is believed."""
        known = random.sample(self._primaries, min(len(self._primaries), _ASKED))
        asking = [asyncio.create_task(self._stand(address)) for address in dict.fromkeys([*known, *self._seeds])]
        try:
            for answer in asyncio.as_completed(asking):
                address, rows = await answer
                if rows is not None and self._learn(address, rows):
                    return
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)

    async def _stand(self, address: Address) -> tuple[Address, Sequence[Any] | None]:
        try:
            [rows] = await self._at(address).ask([("CLUSTER", "SLOTS")])
        except (RedisError, OSError, TimeoutError):
            return address, None
        return address, None if isinstance(rows, ResponseError) else rows

    def _learn(self, asked: Address, rows: Sequence[Any]) -> bool:
        slots: list[Address | None] = [None] * _SLOTS
        for first, last, (host, port, *_), *_ in rows:
            address = (host.decode() if host else asked[0], port)  # a node need not know what others call it
            slots[first : last + 1] = [address] * (last + 1 - first)
        complete = [address for address in slots if address is not None]
        if len(complete) < _SLOTS:
            return False
        self._slots, self._primaries = complete, list(dict.fromkeys(complete))
        for gone in self._lanes.keys() - set(self._primaries):
            task = asyncio.create_task(self._lanes.pop(gone).aclose())
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
        return True
