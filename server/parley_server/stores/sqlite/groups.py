"""Groups in a file."""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Sequence

from parley_server.stores.groups import Member
from parley_server.stores.sqlite.database import Table

_PIECE = 500

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

_DROP = "delete from members where id in (select id from members where grouped >= ? and grouped < ? limit ?)"


class SqliteGroups:
    """Groups. `database.register("groups", STEPS, expiring="members")` comes first."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._prefix = f"{table.purpose}:"

    async def put(self, group: str, name: bytes, value: bytes, ttl: float) -> None:
        await self._table.write(lambda db: db.execute(_PUT, (self._prefix + group, name, value, time.time() + ttl)))

    async def remove(self, group: str, names: Sequence[bytes]) -> None:
        rows = [(self._prefix + group, name) for name in names]
        if rows:
            await self._table.write(
                lambda db: db.executemany("delete from members where grouped = ? and name = ?", rows)
            )

    async def drop(self, prefix: str) -> None:
        begin = self._prefix + prefix
        span = (begin, begin + chr(sys.maxunicode), _PIECE)
        while await self._table.write(lambda db: db.execute(_DROP, span).rowcount) == _PIECE:
            pass

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


def _piece(db: sqlite3.Connection, group: str, after: bytes) -> list[tuple[bytes, bytes, float]]:
    return db.execute(_READ, (group, after, _PIECE)).fetchall()
