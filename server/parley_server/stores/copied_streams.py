"""Streams in the memory of this process, copied behind their writers' backs to where other gateways read them.

Nobody who writes waits for a copy: what is not copied yet is what the memory still holds, so there is no queue that
could grow, and a store that was away gets all there is once it is back, a server that was emptied too. Who reads here
what is written here is served from memory; everything else comes from the copies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

from parley_server.stores.keyvalue import StoreUnavailable
from parley_server.stores.memory.streams import MemoryStreams
from parley_server.stores.streams import (
    UNTOUCHED,
    Change,
    Copied,
    Ending,
    Event,
    Slice,
    State,
    StreamCopies,
    StreamExpired,
    StreamUnknown,
)

_PAUSE = 0.02  # seconds between two rounds of copying: a stream of single words is not copied word by word
_RETRY = 0.5  # the same after one that failed
_LOOK = 0.1  # seconds between two looks at readers elsewhere, while a writer waits for its readers
_STREAM, _ROUND = 256 * 1024, 1024 * 1024  # bytes of one stream, and of all, that are copied in one round
_APPEARS, _AGAIN = 0.5, 0.03  # seconds within which a stream that another gateway has begun is there, between two looks
_SHARING = 1.0  # seconds that `is_shared` takes at most
_LAST = 2.0  # the same of `aclose`
_ELSEWHERE = "elsewhere"  # the reader who stands for all of them

log = structlog.get_logger("parley.stores")


@dataclass(slots=True)
class _Copy:
    """How far the copy of a stream has come: the newest sequence it holds, and whether there is one at all."""

    sent: int = 0
    begun: bool = False


class CopiedStreams:
    """A StreamStore. `failing`: whether the last round of copying came to nothing. `uncopied`: streams not copied yet.

    `lost`: streams that had to be forgotten before they were copied.
    """

    def __init__(self, here: MemoryStreams, copies: StreamCopies) -> None:
        self.failing = False
        self.lost = 0
        self._here = here
        self._copies = copies
        self._copying: dict[str, _Copy] = {}  # streams that run, or whose endings are not copied
        self._changed: dict[str, None] = {}
        self._forgotten: list[str] = []
        self._due = asyncio.Event()
        self._round = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        here.on_forget = self._forget

    @property
    def uncopied(self) -> int:
        return len(self._changed)

    async def create(self, key: str) -> None:
        await self._here.create(key)
        self._copying[key] = _Copy()
        self._mark(key)
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def append(self, key: str, events: Sequence[Event]) -> None:
        await self._here.append(key, events)
        self._mark(key)

    async def finish(self, key: str, ending: Ending) -> None:
        await self._here.finish(key, ending)
        self._mark(key)

    async def paced(self, key: str, ahead: int, within: float | None = None) -> bool:
        try:
            async with asyncio.timeout(within):
                while not await self._here.paced(key, ahead, within=_LOOK):
                    self._mark(key)  # to hear from readers elsewhere
        except TimeoutError:
            return False
        return True

    async def state(self, key: str) -> State:
        try:
            return await self._here.state(key)
        except StreamUnknown:
            return await self._appearing(key)
        except StreamExpired as expired:
            try:
                return await self._copies.state(key)
            except (StreamUnknown, StoreUnavailable):
                raise expired from None

    async def _appearing(self, key: str) -> State:
        """Whoever was sent its first event may be here sooner than the copy is."""
        loop = asyncio.get_running_loop()
        latest = loop.time() + _APPEARS
        while True:
            try:
                return await self._copies.state(key)
            except StreamUnknown:
                if loop.time() >= latest:
                    raise
            await asyncio.sleep(_AGAIN)

    async def read(self, key: str, after: int, most: int, reader: str = "") -> Slice:
        try:
            return await self._here.read(key, after, most, reader)
        except StreamUnknown:
            return await self._copies.read(key, after, most, reader)
        except StreamExpired as expired:
            try:
                return await self._copies.read(key, after, most, reader)
            except (StreamUnknown, StoreUnavailable):
                raise expired from None

    async def leave(self, key: str, reader: str) -> None:
        await self._here.leave(key, reader)
        if key not in self._copying:
            await self._copies.leave(key, reader)

    async def is_shared(self, key: str) -> bool:
        try:
            async with asyncio.timeout(_SHARING):
                while key in self._changed:
                    await self._copy()
        except (StoreUnavailable, TimeoutError):
            return False
        if (copy := self._copying.get(key)) is not None:
            return copy.begun and not self.failing
        try:
            await self._copies.state(key)
        except (StreamUnknown, StreamExpired, StoreUnavailable):
            return False
        return True

    async def aclose(self) -> None:
        """Copy what there is to copy, within a moment, and let go."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        try:
            async with asyncio.timeout(_LAST):
                while self._changed:
                    await self._copy()
        except (StoreUnavailable, TimeoutError):
            self.lost += len(self._changed)
        if self.lost:
            log.warning("streams_not_copied", count=self.lost, note="other gateways cannot tell how they ended")
        await self._here.aclose()
        await self._copies.aclose()

    def _mark(self, key: str) -> None:
        self._changed[key] = None
        self._due.set()

    def _forget(self, key: str) -> None:
        if key in self._changed:
            self.lost += 1
            del self._changed[key]
        self._copying.pop(key, None)
        self._forgotten.append(key)
        self._due.set()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        touched = loop.time()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(UNTOUCHED / 2):
                    await self._due.wait()
            self._due.clear()
            if loop.time() - touched >= UNTOUCHED / 2:
                touched = loop.time()
                self._changed |= dict.fromkeys(self._copying)
            try:
                await self._copy()
            except StoreUnavailable:
                pause = _RETRY
            except Exception as error:  # streams go on whatever becomes of their copies
                log.error("bug", exc_info=error)
                pause = _RETRY
            else:
                pause = _PAUSE
            await asyncio.sleep(pause)
            if self._changed or self._forgotten:
                self._due.set()

    async def _copy(self) -> None:
        """One round. Raises StoreUnavailable if all of it came to nothing."""
        async with self._round:
            forgotten, self._forgotten = self._forgotten, []
            changes = self._changes()
            try:
                if forgotten:
                    await self._copies.forget(forgotten)
                done = await self._copies.write(changes) if changes else []
            except BaseException as error:
                self._forgotten = forgotten + self._forgotten
                for change in changes:
                    self._failed(change.key)
                self.failing = isinstance(error, StoreUnavailable) or self.failing
                raise
            errors = [one for one in done if isinstance(one, StoreUnavailable)]
            for change, one in zip(changes, done, strict=True):
                if isinstance(one, StoreUnavailable):
                    self._failed(change.key)
                else:
                    self._note(change, one)
            if changes or forgotten:
                self.failing = bool(changes) and len(errors) == len(changes)
        if errors and self.failing:
            raise errors[0]

    def _changes(self) -> list[Change]:
        changes: list[Change] = []
        room = _ROUND
        for key in list(self._changed):
            if room <= 0:
                break
            del self._changed[key]
            copy = self._copying[key]
            try:
                dropped, part = self._here.kept(key, copy.sent, min(room, _STREAM))
            except (StreamUnknown, StreamExpired):
                del self._copying[key]
                self.lost += 1
                continue
            changes.append(Change(key, part.events, dropped, part.ending, whole=not copy.begun))
            room -= sum(len(event.data) for event in part.events)
        return changes

    def _note(self, change: Change, copied: Copied) -> None:
        copy = self._copying.get(change.key)
        if copy is None:  # forgotten meanwhile
            return
        if copied.missing:
            self._copying[change.key] = _Copy()
            self._mark(change.key)
            return
        self._here.reads_elsewhere(change.key, _ELSEWHERE, copied.taken)
        copy.begun = True
        if change.events:
            copy.sent = change.events[-1].sequence
        if change.ending is not None:
            del self._copying[change.key]
            self._changed.pop(change.key, None)
        elif change.events:
            self._more(change.key, copy.sent)

    def _more(self, key: str, sent: int) -> None:
        """Go on with a stream of which one round did not copy all there was."""
        try:
            _, rest = self._here.kept(key, sent, 1)
        except StreamExpired:
            return
        if rest.events or rest.ending is not None:
            self._mark(key)

    def _failed(self, key: str) -> None:
        if key in self._copying:
            self._here.reads_elsewhere(key, _ELSEWHERE, None)  # nobody waits for readers that cannot be asked
            self._mark(key)
