"""One SQLite file: a thread that writes, one that reads, and the tables of all stores in it.

    database = Database(path, health, time.monotonic)
    database.register("values", (CREATE_1, ALTER_2))                 # before start(); steps are only ever added
    database.register("a", (CREATE,), expiring="b")                  # rows of b go by themselves, see register()
    table = database.table("cache")                                  # asked for one purpose: with its breaker
    await table.write(lambda db: db.execute("insert …", (…)))        # what it returns; all or nothing
    await table.read(lambda db: db.execute("select …").fetchall())

What waits to be written is written together, in one transaction. Whatever goes wrong is StoreUnavailable, and may have
been done all the same. Several processes may open the same file, on a local disk: network file systems do not lock as
SQLite needs it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from parley_server.stores.guard import Guard, Guards
from parley_server.stores.health import Purpose, StoreHealth
from parley_server.stores.keyvalue import StoreUnavailable

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]

_TOGETHER = 500  # writes in one transaction at most
_BUSY = 0.8  # seconds to wait for other processes' transactions
_WITHIN = 2.0  # seconds that a request may take: a disk that hangs must not hang calls
_START = 30.0  # the same of migrations
_SWEEP = 1.0  # seconds between two looks for what has expired
_FULL = 0.9  # share of the file's limit above which what expires first is forgotten
_EXPIRED, _EVICTED = 5000, 50  # rows of a table that are forgotten at a time
_PAGES = ("page_count", "freelist_count", "max_page_count")
_FORGET = "delete from {0} where id in (select id from {0} where {1} order by expires limit ?)"
_MIGRATIONS = "create table if not exists migrations (store text primary key, version integer not null) strict"


class _Thread:
    """Work on one connection, in order. With `first` what waits is done in one transaction, after that."""

    def __init__(self, name: str, path: Path, first: Work | None = None) -> None:
        self._path, self._first = path, first
        self._work: queue.SimpleQueue[tuple[Work, asyncio.Future[Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"sqlite-{name}", daemon=True)
        self._thread.start()

    def do(self, work: Work) -> asyncio.Future[Any]:
        future = asyncio.get_running_loop().create_future()
        self._work.put((work, future))
        return future

    def stop(self) -> None:
        """End once all that waits is done."""
        self._work.put(None)
        self._thread.join()

    def _run(self) -> None:
        db: sqlite3.Connection | None = None
        stopping = False
        while not stopping:
            item = self._work.get()
            batch = []
            while item is not None:
                batch.append(item)
                if len(batch) == _TOGETHER:
                    break
                try:
                    item = self._work.get_nowait()
                except queue.Empty:
                    break
            else:
                stopping = True
            if not batch:
                continue
            try:
                if db is None:
                    db = open_connection(self._path)
                results = (
                    _in_one(db, batch, self._first) if self._first else [_attempted(db, work) for work, _ in batch]
                )
            except Exception as error:
                results = [error] * len(batch)
            for (_, future), result in zip(batch, results, strict=True):
                with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
                    future.get_loop().call_soon_threadsafe(_settle, future, result)
        if db is not None:
            db.close()


def open_connection(path: Path) -> sqlite3.Connection:
    """A connection with the settings that all of them have. Transactions are begun by hand."""
    db = sqlite3.connect(path, timeout=_BUSY, isolation_level=None, check_same_thread=False)
    try:
        _write_ahead(db)
        db.execute("pragma synchronous = normal")  # a power cut may lose the last moments, and breaks nothing
        db.execute("pragma temp_store = memory")
    except BaseException:
        db.close()
        raise
    return db


def _write_ahead(db: sqlite3.Connection) -> None:
    """Readers and the writer do not wait for each other. Only the first to open a file changes it, and whoever comes
    meanwhile is told that it is locked, at once: SQLite's own patience does not hold for this."""
    latest = time.monotonic() + _BUSY
    while True:
        try:
            db.execute("pragma journal_mode = wal")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > latest:
                raise
        time.sleep(0.01)


def _in_one(db: sqlite3.Connection, batch: Sequence[tuple[Work, asyncio.Future[Any]]], first: Work) -> list[Any]:
    """What all of `batch` returns or raises, in one transaction; what fails undoes only itself."""
    results: list[Any] = []
    db.execute("begin immediate")
    try:
        first(db)
        for work, _ in batch:
            db.execute("savepoint one")
            result = _attempted(db, work)
            if isinstance(result, Exception):
                if not db.in_transaction:  # SQLite has given up all of it: the disk or the file is full
                    raise result
                db.execute("rollback to one")
            db.execute("release one")
            results.append(result)
        db.execute("commit")
    except BaseException:
        if db.in_transaction:
            db.execute("rollback")
        raise
    return results


def _attempted(db: sqlite3.Connection, work: Work) -> Any:
    try:
        return work(db)
    except Exception as error:
        return error


def _is_nearly_full(db: sqlite3.Connection) -> bool:
    pages, free, most = (db.execute(f"pragma {what}").fetchone()[0] for what in _PAGES)
    return bool(pages - free > _FULL * most)


def _settle(future: asyncio.Future[Any], result: Any) -> None:
    if future.done():  # cancelled
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)


class Database:
    """The file at `path`, made if need be, between `start()` and `aclose()`."""

    def __init__(
        self, path: Path, health: StoreHealth, clock: Callable[[], float], *, max_bytes: int = 1024**4
    ) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self._migrations: dict[str, Sequence[str]] = {}
        self._expiring: dict[str, str] = {}
        self._swept = 0.0
        self._ready = False
        self._guards = Guards(f"the database {path}", self._ping, health, clock)
        self._writer: _Thread | None = None
        self._reader: _Thread | None = None

    def register(self, store: str, steps: Sequence[str], *, expiring: str = "", evicted: str = "true") -> None:
        """The statements that make the tables of `store` what they are: numbered from 1, oldest first.

        `expiring`: one of these tables, with an integer key `id`, whose rows are forgotten some time after their time
        `expires` (seconds since 1970, indexed); and before it, where the file gets full, those that expire first of
        those for which the condition `evicted` holds.
        """
        self._migrations[store] = steps
        if expiring:
            self._expiring[expiring] = evicted

    def table(self, purpose: Purpose) -> Table:
        """The database, asked for `purpose`."""
        return Table(self, self._guards[purpose])

    async def start(self) -> None:
        """Open it and bring its tables up to date. Raises StoreUnavailable."""
        try:
            await asyncio.to_thread(self.path.parent.mkdir, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(f"the database {self.path} cannot be made: {error.strerror}") from error
        self._writer = _Thread("writer", self.path, self._make_room)
        self._reader = _Thread("reader", self.path)
        await self.write(self._migrate, within=_START)
        await self.read(lambda db: db.execute("select 1").fetchone())  # opened now, and not by the first call
        self._ready = True

    async def write(self, work: Callable[[sqlite3.Connection], T], *, within: float = _WITHIN) -> T:
        """What `work` returns, run on another thread, in a transaction. Raises StoreUnavailable."""
        return await self._do(self._writer, work, within)

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` returns, which only reads, run on another thread. Raises StoreUnavailable."""
        return await self._do(self._reader, work, _WITHIN)

    async def aclose(self) -> None:
        """Close the file once all that was asked is done."""
        await self._guards.aclose()
        threads, self._writer, self._reader = (self._writer, self._reader), None, None
        for thread in threads:
            if thread is not None:
                await asyncio.to_thread(thread.stop)

    async def _do(self, thread: _Thread | None, work: Callable[[sqlite3.Connection], T], within: float) -> T:
        if thread is None:
            raise StoreUnavailable(f"the database {self.path} is not open")
        try:
            async with asyncio.timeout(within):
                result: T = await thread.do(work)
        except TimeoutError as error:
            raise StoreUnavailable(f"the database {self.path} takes more than {within:g} s") from error
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the database {self.path} cannot be used: {error}") from error
        return result

    async def _ping(self) -> None:
        await self.write(lambda db: db.execute("update migrations set version = version where false"))

    def _make_room(self, db: sqlite3.Connection) -> None:
        now = time.time()
        if not self._ready:
            return
        if now - self._swept >= _SWEEP:
            self._swept = now
            for table in self._expiring:
                db.execute(_FORGET.format(table, "expires <= ?"), (now, _EXPIRED))
        while _is_nearly_full(db):
            rows = [db.execute(_FORGET.format(*one), (_EVICTED,)).rowcount for one in self._expiring.items()]
            if not sum(rows):
                return

    def _migrate(self, db: sqlite3.Connection) -> None:
        page = db.execute("pragma page_size").fetchone()[0]
        db.execute(f"pragma max_page_count = {self.max_bytes // page}")
        db.execute(_MIGRATIONS)
        for store, steps in self._migrations.items():
            row = db.execute("select version from migrations where store = ?", (store,)).fetchone()
            there = 0 if row is None else row[0]
            if there > len(steps):
                raise StoreUnavailable(
                    f"the database {self.path} was made by a later version of Parley: its {store} are of version "
                    f"{there}, and {len(steps)} is the last that this one knows"
                )
            for step in steps[there:]:
                db.execute(step)
            db.execute("insert or replace into migrations values (?, ?)", (store, len(steps)))


class Table:
    """The database, asked for one purpose."""

    def __init__(self, database: Database, guard: Guard) -> None:
        self.purpose = guard.purpose
        self.max_bytes = database.max_bytes
        self._database = database
        self._guard = guard

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` returns, run on another thread, in a transaction. Raises StoreUnavailable."""
        return await self._guard.watch(functools.partial(self._database.write, work))

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` returns, which only reads, run on another thread. Raises StoreUnavailable."""
        return await self._guard.watch(functools.partial(self._database.read, work))
