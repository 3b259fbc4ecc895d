"""Copies of streams in an SQLite file: for gateways of one machine, and for what comes after a restart.

Times are of the machine's clock. Who waits for a stream that another process writes looks again from time to time.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence

from parley_server.stores.keyvalue import StoreUnavailable
from parley_server.stores.packed_events import packed, packed_ending, unpacked, unpacked_ending
from parley_server.stores.presence import Presence
from parley_server.stores.sealing import Seals
from parley_server.stores.sqlite.database import Table
from parley_server.stores.streams import (
    READER,
    REMEMBERED,
    UNTOUCHED,
    Change,
    Copied,
    Slice,
    State,
    StreamExpired,
    StreamUnknown,
)

STEPS = (
    "create table streams (key text primary key, owner text not null, last integer not null, dropped integer not null, "
    "status blob, usage blob, expires real not null) strict, without rowid",
    "create index streams_by_expiry on streams (expires)",
    "create table stream_events (key text not null, sequence integer not null, size integer not null, "
    "data blob not null, primary key (key, sequence)) strict, without rowid",
    "create table stream_readers (key text not null, reader text not null, taken integer not null, "
    "expires real not null, primary key (key, reader)) strict, without rowid",
)

_PIECE = 16 * 1024  # bytes of a row of events, about
_LOOK = 0.1  # seconds between two looks at a stream that another process writes
_SURE = 10  # looks without news after which it is asked whether that process is there
_SWEEP = 60.0  # seconds between two rounds of removing what has expired


class SqliteStreams:
    """A StreamCopies. `presence`: who is there, and what this gateway is called. `window`: seconds.

    `database.register("streams", STEPS)` comes first.
    """

    def __init__(
        self,
        table: Table,
        presence: Presence,
        seals: Seals,
        *,
        window: float,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._table = table
        self._presence = presence
        self._seals = seals
        self._window = window
        self._wall = wall
        self._swept = 0.0

    async def write(self, changes: Sequence[Change]) -> list[Copied | StoreUnavailable]:
        now, seals = self._wall(), self._seals
        if now - self._swept >= _SWEEP:
            self._swept = now
            await self._table.write(lambda db: _sweep(db, now))
        # Sealed here, not on the database's threads: seals belong to one.
        pieces = [list(packed(seals, one.key, one.events, _PIECE)) for one in changes]
        endings = [None if one.ending is None else packed_ending(seals, one.key, one.ending) for one in changes]
        work = list(zip(changes, pieces, endings, strict=True))
        return await self._table.write(lambda db: [self._write(db, *one, now) for one in work])

    def _write(
        self,
        db: sqlite3.Connection,
        change: Change,
        pieces: Sequence[tuple[int, int, bytes]],
        ending: tuple[bytes, bytes] | None,
        now: float,
    ) -> Copied | StoreUnavailable:
        key = change.key
        row = db.execute("select last from streams where key = ?", (key,)).fetchone()
        if row is None:
            if not change.whole:
                return Copied(missing=True)
            values = (key, self._presence.gateway)
            db.execute("insert into streams (key, owner, last, dropped, expires) values (?, ?, 0, 0, 0)", values)
        last = 0 if row is None else row[0]
        fresh = [(key, *piece) for piece in pieces if piece[0] > last]
        db.executemany("insert into stream_events values (?, ?, ?, ?)", fresh)
        if fresh:
            last = fresh[-1][1]
        expires = now + self._window + (UNTOUCHED if ending is None else 0.0)
        db.execute(
            "update streams set last = ?, dropped = ?, status = ?, usage = ?, expires = ? where key = ?",
            (last, change.dropped, *(ending or (None, None)), expires, key),
        )
        if change.dropped:
            db.execute("delete from stream_events where key = ? and sequence <= ?", (key, change.dropped))
        readers = "select max(taken) from stream_readers where key = ? and expires > ?"
        return Copied(taken=db.execute(readers, (key, now)).fetchone()[0])

    async def forget(self, keys: Sequence[str]) -> None:
        now = self._wall()

        def forget(db: sqlite3.Connection) -> None:
            db.executemany("delete from stream_events where key = ?", [(key,) for key in keys])
            db.executemany("update streams set expires = ? where key = ?", [(now, key) for key in keys])

        await self._table.write(forget)

    async def state(self, key: str) -> State:
        owner, last, _, sealed = await self._table.read(lambda db: self._state(db, key))
        if sealed is not None:
            return State(last, unpacked_ending(self._seals, key, *sealed), owner)
        return State(last, None, owner, lost=not await self._presence.is_there(owner))

    async def read(self, key: str, after: int, most: int, reader: str = "") -> Slice:
        looks, lost = 0, False
        while True:
            owner, pieces, sealed = await self._table.read(lambda db: self._read(db, key, after, most))
            ending = None if sealed is None else unpacked_ending(self._seals, key, *sealed)
            part = Slice(unpacked(self._seals, key, pieces, after), ending)
            if reader and part.ending is None:
                await self._reads(key, reader, part.events[-1].sequence if part.events else after)
            if part.events or part.ending is not None:
                return part
            if lost or self._presence.was_gone(owner):
                return Slice((), None, lost=True)
            looks += 1
            if looks % _SURE == 0:
                lost = not await self._presence.is_there(owner)
            else:
                await asyncio.sleep(_LOOK)

    async def leave(self, key: str, reader: str) -> None:
        query = "delete from stream_readers where key = ? and reader = ?"
        await self._table.write(lambda db: db.execute(query, (key, reader)))

    async def aclose(self) -> None:
        """Nothing is held here: the file is closed by who opened it."""

    def _state(self, db: sqlite3.Connection, key: str) -> tuple[str, int, int, tuple[bytes, bytes] | None]:
        """Owner, newest sequence, newest dropped one, ending as it is kept."""
        query = "select owner, last, dropped, status, usage, expires from streams where key = ?"
        row = db.execute(query, (key,)).fetchone()
        if row is None:
            raise StreamUnknown(key)
        owner, last, dropped, status, usage, expires = row
        if expires <= self._wall():
            raise StreamExpired(key)
        return owner, last, dropped, None if status is None else (status, usage)

    def _read(
        self, db: sqlite3.Connection, key: str, after: int, most: int
    ) -> tuple[str, list[tuple[int, bytes]], tuple[bytes, bytes] | None]:
        """Owner, pieces, and the ending if nothing comes after them."""
        owner, last, dropped, ending = self._state(db, key)
        if after < dropped:
            raise StreamExpired(key)
        pieces: list[tuple[int, bytes]] = []
        room, reached = most, after
        query = "select sequence, size, data from stream_events where key = ? and sequence > ? order by sequence"
        for sequence, size, data in db.execute(query, (key, after)):
            pieces.append((sequence, data))
            room -= size
            reached = sequence
            if room <= 0:
                break
        return owner, pieces, ending if reached >= last else None

    async def _reads(self, key: str, reader: str, taken: int) -> None:
        values = (key, reader, taken, self._wall() + READER)
        query = "insert or replace into stream_readers values (?, ?, ?, ?)"
        await self._table.write(lambda db: db.execute(query, values))


def _sweep(db: sqlite3.Connection, now: float) -> None:
    db.execute("delete from stream_events where key in (select key from streams where expires <= ?)", (now,))
    db.execute("delete from stream_readers where expires <= ?", (now,))
    db.execute("delete from streams where expires <= ?", (now - REMEMBERED,))
