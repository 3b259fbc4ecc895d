"""Groups in the memory of this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from parley_server.stores.groups import Member

_PIECE = 500


class MemoryGroups:
    """Groups. `clock` gives seconds and never goes back. What has expired goes when its group is read or added to."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._groups: dict[str, dict[bytes, tuple[bytes, float]]] = {}

    async def put(self, group: str, name: bytes, value: bytes, ttl: float) -> None:
        self._living(group)
        self._groups.setdefault(group, {})[name] = (value, self._clock() + ttl)

    async def remove(self, group: str, names: Sequence[bytes]) -> None:
        for name in names:
            self._groups.get(group, {}).pop(name, None)
        self._living(group)

    async def drop(self, prefix: str) -> None:
        self._groups = {group: values for group, values in self._groups.items() if not group.startswith(prefix)}

    async def read(self, group: str) -> AsyncIterator[Sequence[Member]]:
        members = self._living(group)
        for start in range(0, len(members), _PIECE):
            yield members[start : start + _PIECE]
            await asyncio.sleep(0)

    def _living(self, group: str) -> list[Member]:
        now = self._clock()
        values = self._groups.get(group, {})
        living = {name: (value, expires) for name, (value, expires) in values.items() if expires > now}
        if living:
            self._groups[group] = living
        else:
            self._groups.pop(group, None)
        return [Member(name, value, expires - now) for name, (value, expires) in living.items()]
