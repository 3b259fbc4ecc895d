"""Values in a file."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator, Sequence

from parley_server.stores.sqlite.database import Table, is_nearly_full

_PIECE = 500  # keys that are listed, and entries that are forgotten, at a time
_SWEEP = 1.0  # seconds between two looks for what has expired

STEPS = (
    "create table entries (id integer primary key, key text not null unique, value blob not null,"
    " expires real not null) strict",
    "create index entries_by_time on entries (expires)",
)
_PUT = (
    "insert into entries (key, value, expires) values (?, ?, ?)"
    " on conflict (key) do update set value = excluded.value, expires = excluded.expires"
)
_GET = "select value from entries where key = ? and expires > ?"


class SqliteKeyValue:
    """A KeyValue. `database.register("values", STEPS)` comes first."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._prefix = f"{table.purpose}:"
        self._swept = 0.0

    async def get(self, key: str) -> bytes | None:
        return (await self.get_many([key]))[0]

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        names = [self._prefix + key for key in keys]
        return await self._table.read(lambda db: [_value(db, name) for name in names])

    async def put(self, key: str, value: bytes, ttl: float) -> None:
        name = self._prefix + key

        def put(db: sqlite3.Connection) -> None:
            self._sweep(db)
            db.execute(_PUT, (name, value, time.time() + ttl))

        await self._table.write(put)

    async def add(self, key: str, value: bytes, ttl: float) -> bytes | None:
        name = self._prefix + key

        def add(db: sqlite3.Connection) -> bytes | None:
            self._sweep(db)
            there = _value(db, name)
            if there is None:
                db.execute(_PUT, (name, value, time.time() + ttl))
            return there

        return await self._table.write(add)

    async def replace(self, key: str, expected: bytes, value: bytes, ttl: float) -> bool:
        name = self._prefix + key

        def replace(db: sqlite3.Connection) -> bool:
            if _value(db, name) != expected:
                return False
            db.execute(_PUT, (name, value, time.time() + ttl))
            return True

        return await self._table.write(replace)

    async def remove(self, key: str, expected: bytes | None = None) -> bool:
        name = self._prefix + key

        def remove(db: sqlite3.Connection) -> bool:
            there = _value(db, name)
            if there is None or (expected is not None and there != expected):
                return False
            db.execute("delete from entries where key = ?", (name,))
            return True

        return await self._table.write(remove)

    async def keys(self, prefix: str) -> AsyncIterator[Sequence[str]]:
        begin, after = self._prefix + prefix, ""
        while True:
            rows = await self._table.read(
                lambda db, after=after: db.execute(  # type: ignore[misc]
                    "select key, expires > ? from entries where key >= ? and key > ? order by key limit ?",
                    (time.time(), begin, after, _PIECE),
                ).fetchall()
            )
            found = [key for key, lives in rows if key.startswith(begin) and lives]
            if found:
                yield [key[len(self._prefix) :] for key in found]
            if len(rows) < _PIECE or not rows[-1][0].startswith(begin):
                return
            after = rows[-1][0]

    def _sweep(self, db: sqlite3.Connection) -> None:
        """Forget what has expired and, where the file is nearly full, what expires first."""
        now = time.time()
        if now - self._swept < _SWEEP:
            return
        self._swept = now
        forget = "delete from entries where id in (select id from entries where expires <= ? order by expires limit ?)"
        db.execute(forget, (now, 2 * _PIECE))
        while is_nearly_full(db):
            if db.execute(forget, (float("inf"), _PIECE)).rowcount == 0:
                return


def _value(db: sqlite3.Connection, name: str) -> bytes | None:
    row = db.execute(_GET, (name, time.time())).fetchone()
    return None if row is None else row[0]
