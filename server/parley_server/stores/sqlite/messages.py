"""Messages between the processes that share a file: rows of a table that all of them look at ten times a second."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator

from parley_server.stores.keyvalue import StoreUnavailable
from parley_server.stores.listeners import Listeners
from parley_server.stores.sqlite.database import Database, Table

_LOOK = 0.1  # seconds between two looks
_KEPT = 30.0  # seconds that messages are kept for those who are slow to look

STEPS = (
    "create table messages (id integer primary key autoincrement, at real not null, channel text not null,"
    " message blob not null) strict",
    "create index messages_by_time on messages (at)",
)


class SqliteMessages:
    """Messages for one purpose. `database.register("messages", STEPS)` comes first."""

    def __init__(self, table: Table, post: Post) -> None:
        self._table = table
        self._post = post

    async def publish(self, channel: str, message: bytes) -> None:
        now, name = time.time(), f"{self._table.purpose}:{channel}"

        def publish(db: sqlite3.Connection) -> None:
            db.execute("insert into messages (at, channel, message) values (?, ?, ?)", (now, name, message))
            db.execute("delete from messages where at < ? or at > ?", (now - _KEPT, now + _KEPT))

        await self._table.write(publish)
        self._post.look()

    def listen(self, channel: str) -> AsyncIterator[bytes | None]:
        return self._post.listeners.listen(f"{self._table.purpose}:{channel}")


class Post:
    """Brings messages from the table to the listeners of this process, while there are any."""

    def __init__(self, database: Database) -> None:
        self.listeners = Listeners(self._changed, lambda channel: self._seen is not None)
        self._database = database
        self._seen: int | None = None  # the newest message that was looked at; None: nobody looks
        self._task: asyncio.Task[None] | None = None
        self._poked = asyncio.Event()

    def look(self) -> None:
        """There is something new, so look at once."""
        self._poked.set()

    async def aclose(self) -> None:
        """Stop looking. Who listens gets nothing more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _changed(self, channel: str) -> None:
        if self._task is None and self.listeners.channels:
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            while self.listeners.channels:
                try:
                    await self._look_once()
                except StoreUnavailable:
                    self._seen = None  # messages may be forgotten before they are looked at again
                self._poked.clear()
                try:
                    async with asyncio.timeout(_LOOK):
                        await self._poked.wait()
                except TimeoutError:
                    pass
        finally:
            self._seen = self._task = None

    async def _look_once(self) -> None:
        before = self._seen
        newest, rows = await self._database.read(lambda db: _after(db, before))
        self._seen = newest
        if before is None or len(rows) != newest - before:  # there have been more than are left
            for channel in self.listeners.channels:
                self.listeners.tell(channel, None)
            return
        for channel, message in rows:
            self.listeners.tell(channel, message)


def _after(db: sqlite3.Connection, seen: int | None) -> tuple[int, list[tuple[str, bytes]]]:
    """The number of the newest message that there has been, and those after `seen`."""
    db.execute("begin")  # both as of one moment
    try:
        row = db.execute("select seq from sqlite_sequence where name = 'messages'").fetchone()
        newest = 0 if row is None else row[0]
        if seen is None or newest == seen:
            return newest, []
        return newest, db.execute("select channel, message from messages where id > ? order by id", (seen,)).fetchall()
    finally:
        db.execute("commit")
