"""Groups in a file."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator, Sequence

from parley_server.stores.groups import Member
from parley_server.stores.sqlite.database import Table, is_nearly_full

_PIECE = 500
_SWEEP = 1.0  # seconds between two looks for what has expired

STEPS = (
    "create table members (id integer primary key, grouped text not null, name blob not null, value blob not null,"
    " expires real not null, unique (grouped, name)) strict",
    "create index members_by_time on members (expires)",
)
_PUT = (
    "insert into members (grouped, name, value, expires) values (?, ?, ?, ?)"
    " on conflict (grouped, name) do update set value = excluded.value, expires = excluded.expires"
)
_READ = "select name, value, expires from members where grouped = ? and name > ? order by name limit ?"
_FORGET = "delete from members where id in (select id from members where expires <= ? order by expires limit ?)"


class SqliteGroups:
    """Groups. `database.register("groups", STEPS)` comes first."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._prefix = f"{table.purpose}:"
        self._swept = 0.0

    async def put(self, group: str, name: bytes, value: bytes, ttl: float) -> None:
        def put(db: sqlite3.Connection) -> None:
            self._sweep(db)
            db.execute(_PUT, (self._prefix + group, name, value, time.time() + ttl))

        await self._table.write(put)

    async def remove(self, group: str, names: Sequence[bytes]) -> None:
        rows = [(self._prefix + group, name) for name in names]
        if rows:
            await self._table.write(
                lambda db: db.executemany("delete from members where grouped = ? and name = ?", rows)
            )

    async def read(self, group: str) -> AsyncIterator[Sequence[Member]]:
        after = b""
        while True:
            rows = await self._table.read(lambda db, after=after: _piece(db, self._prefix + group, after))  # type: ignore[misc]
            now = time.time()
            if living := [Member(name, value, expires - now) for name, value, expires in rows if expires > now]:
                yield living
            if len(rows) < _PIECE:
                return
            after = rows[-1][0]

    def _sweep(self, db: sqlite3.Connection) -> None:
        """Forget what has expired and, where the file is nearly full, what expires first."""
        now = time.time()
        if now - self._swept < _SWEEP:
            return
        self._swept = now
        db.execute(_FORGET, (now, 2 * _PIECE))
        while is_nearly_full(db) and db.execute(_FORGET, (float("inf"), _PIECE)).rowcount:
            pass


def _piece(db: sqlite3.Connection, group: str, after: bytes) -> list[tuple[bytes, bytes, float]]:
    return db.execute(_READ, (group, after, _PIECE)).fetchall()
