"""Values in a file."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator, Sequence

from parley_server.stores.sqlite.database import Table

_PIECE = 500  # keys that are listed at a time

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


EVICTED = "+key >= 'cache:' and +key < 'cache;'"
"""What a full file may forget before its time: answers can be made again, but not who is there and what is under way.
(The plus keeps SQLite to the index of times.)"""


class SqliteKeyValue:
    """A KeyValue. `database.register("values", STEPS, expiring="entries", evicted=EVICTED)` comes first."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._prefix = f"{table.purpose}:"

    async def get(self, key: str) -> bytes | None:
        return (await self.get_many([key]))[0]

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        names = [self._prefix + key for key in keys]
        return await self._table.read(lambda db: [_value(db, name) for name in names])

    async def put(self, key: str, value: bytes, ttl: float) -> None:
        name = self._prefix + key

        await self._table.write(lambda db: db.execute(_PUT, (name, value, time.time() + ttl)))

    async def add(self, key: str, value: bytes, ttl: float) -> bytes | None:
        name = self._prefix + key

        def add(db: sqlite3.Connection) -> bytes | None:
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


def _value(db: sqlite3.Connection, name: str) -> bytes | None:
    row = db.execute(_GET, (name, time.time())).fetchone()
    return None if row is None else row[0]
