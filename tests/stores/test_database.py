"""What is particular to stores in a file: migrations, several processes, a disk that is full or slow."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from parley_server import shelves
from parley_server.config import load
from parley_server.stores.health import PURPOSES, StoreHealth
from parley_server.stores.keyvalue import StoreUnavailable
from parley_server.stores.settings import OnFailure
from parley_server.stores.sqlite.database import Database, open_connection

MEGA = 1024 * 1024


def database(path: Path, *, max_bytes: int = 64 * MEGA) -> Database:
    return Database(path, StoreHealth(OnFailure().modes(), 1, time.monotonic), time.monotonic, max_bytes=max_bytes)


@asynccontextmanager
async def stores(path: Path, **settings: int) -> AsyncIterator[shelves.Stores]:
    made = shelves.build(load(f"storage: {{path: {path}, {', '.join(f'{k}: {v}' for k, v in settings.items())}}}", {}))
    try:
        await made.start()
        yield made
    finally:
        await made.aclose()


def run(statement: str, *arguments: object) -> Callable[[sqlite3.Connection], list[tuple[object, ...]]]:
    return lambda db: db.execute(statement, arguments).fetchall()


async def test_tables_are_brought_up_to_date_once(tmp_path: Path) -> None:
    steps = ("create table a (x integer) strict", "alter table a add column y integer", "insert into a values (1, 2)")
    for known in (1, 3, 3):
        opened = database(tmp_path / "parley.db")
        opened.register("a", steps[:known])
        await opened.start()
        await opened.aclose()
    opened = database(tmp_path / "parley.db")
    opened.register("a", steps)
    await opened.start()
    assert await opened.read(run("select * from a")) == [(1, 2)]
    await opened.aclose()


async def test_a_file_of_a_later_version_is_left_as_it_is(tmp_path: Path) -> None:
    later, earlier = database(tmp_path / "parley.db"), database(tmp_path / "parley.db")
    later.register("a", ("create table a (x integer) strict", "alter table a add column y integer"))
    await later.start()
    await later.aclose()
    earlier.register("a", ("create table a (x integer) strict",))
    with pytest.raises(StoreUnavailable, match=r"made by a later version .* its a are of version 2, and 1 is the last"):
        await earlier.start()
    await earlier.aclose()


async def test_a_step_that_fails_changes_nothing(tmp_path: Path) -> None:
    opened = database(tmp_path / "parley.db")
    opened.register("a", ("create table a (x integer) strict", "create nonsense"))
    with pytest.raises(StoreUnavailable, match="syntax error"):
        await opened.start()
    assert await opened.read(run("select name from sqlite_master")) == []
    await opened.aclose()


async def test_what_fails_undoes_only_itself(tmp_path: Path) -> None:
    opened = database(tmp_path / "parley.db")
    opened.register("a", ("create table a (x integer not null unique) strict",))
    await opened.start()

    def twice(db: sqlite3.Connection) -> None:
        db.execute("insert into a values (7)")
        db.execute("insert into a values (1)")

    results = await asyncio.gather(
        *(opened.write(run("insert into a values (?)", number)) for number in (1, 2)),
        opened.write(twice),
        opened.write(run("insert into a values (3)")),
        return_exceptions=True,
    )
    assert isinstance(results[2], StoreUnavailable)
    assert await opened.read(run("select x from a order by x")) == [(1,), (2,), (3,)]
    await opened.aclose()


async def test_mistakes_of_ours_are_no_outage(tmp_path: Path) -> None:
    opened = database(tmp_path / "parley.db")
    await opened.start()

    def mistaken(db: sqlite3.Connection) -> None:
        raise KeyError("a")

    with pytest.raises(KeyError):
        await opened.write(mistaken)
    assert await opened.write(run("select 1")) == [(1,)]
    await opened.aclose()


async def test_what_waits_is_written_together(tmp_path: Path) -> None:
    opened = database(tmp_path / "parley.db")
    opened.register("a", ("create table a (x integer) strict",))
    await opened.start()
    statements: list[str] = []
    await opened.write(lambda db: db.set_trace_callback(statements.append))
    await asyncio.gather(*(opened.write(run("insert into a values (?)", number)) for number in range(1000)))
    assert (await opened.read(run("select count(*) from a"))) == [(1000,)]
    assert statements.count("commit") <= 100, "a transaction for each would wait for the disk a thousand times"
    await opened.aclose()


async def test_callers_may_go_away(tmp_path: Path) -> None:
    async with stores(tmp_path / "parley.db") as made:
        values = made.keyvalue("cache")
        tasks = [asyncio.create_task(values.put(f"{number}", b"1", 60)) for number in range(100)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert await values.get("1") == b"1"
    assert not (tmp_path / "parley.db-wal").exists(), "closed in order"


async def test_values_outlive_the_process(tmp_path: Path) -> None:
    async with stores(tmp_path / "parley.db") as made:
        for purpose in PURPOSES:
            await made.keyvalue(purpose).put("a", purpose.encode(), 60)
    async with stores(tmp_path / "parley.db") as made:
        for purpose in PURPOSES:
            assert await made.keyvalue(purpose).get("a") == purpose.encode()


async def test_several_processes_share_a_file(tmp_path: Path) -> None:
    """They start at the same time on no file at all, count together, and hear of each other."""
    path = tmp_path / "parley.db"
    running = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.stores.counting", str(path), "20", stdout=asyncio.subprocess.PIPE
        )
        for _ in range(3)
    ]
    said = [(await asyncio.wait_for(process.communicate(), 45))[0].decode() for process in running]
    assert [process.returncode for process in running] == [0] * 3, said
    async with stores(path) as made:
        assert await made.keyvalue("limits").get("count") == b"60"
    for text in said:
        assert "heard 3" in text


async def test_a_full_file_forgets_what_expires_first(tmp_path: Path) -> None:
    async with stores(tmp_path / "parley.db", max_bytes=4 * MEGA) as made:
        values = made.keyvalue("cache")
        await made.keyvalue("resume").put("gateway", b"here", 500)
        for number in range(300):
            await values.put(f"{number}", bytes(30_000), 1000 + number)
        assert await values.get("299") is not None
        assert await values.get("0") is None
        assert await made.keyvalue("resume").get("gateway") == b"here", "only what can be made again goes"
        assert made.health.failures == 0
        with pytest.raises(StoreUnavailable, match="full"):
            await values.put("huge", bytes(5 * MEGA), 1000)
        await values.put("small", b"1", 1000)
        assert made.health.degraded == ()
    assert (tmp_path / "parley.db").stat().st_size <= 4 * MEGA


async def test_a_file_that_is_locked_for_long_is_left_alone(tmp_path: Path) -> None:
    async with stores(tmp_path / "parley.db") as made:
        values = made.keyvalue("cache")
        await values.put("a", b"1", 60)
        other = open_connection(tmp_path / "parley.db")
        other.execute("begin immediate")
        begun = time.perf_counter()
        results = await asyncio.gather(*(values.put("a", b"2", 60) for _ in range(5)), return_exceptions=True)
        assert time.perf_counter() - begun < 3
        assert all(isinstance(result, StoreUnavailable) for result in results)
        assert "cache" in made.health.degraded
        begun = time.perf_counter()
        with pytest.raises(StoreUnavailable, match="left alone"):
            await values.put("a", b"2", 60)
        assert time.perf_counter() - begun < 0.05
        other.execute("rollback")
        other.close()
        begun = time.perf_counter()
        while made.health.degraded:
            assert time.perf_counter() - begun < 4
            await asyncio.sleep(0.01)
        await values.put("a", b"3", 60)
        assert await values.get("a") == b"3"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.write_bytes(b"this is no database" * 100), "file is not a database"),
        (lambda path: path.mkdir(), "unable to open database file"),
    ],
)
async def test_a_file_that_is_no_database_ends_the_start(
    tmp_path: Path, make: Callable[[Path], object], said: str
) -> None:
    make(tmp_path / "parley.db")
    with pytest.raises(OSError, match=rf"the database .*parley\.db cannot be used: {said}"):
        async with stores(tmp_path / "parley.db"):
            pass


async def test_a_folder_that_cannot_be_made_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot be made"):
        async with stores(tmp_path / "file" / "folder" / "parley.db"):
            pass


def test_many_open_a_fresh_file_at_once(tmp_path: Path) -> None:
    start = threading.Barrier(8)

    def open_it(path: Path) -> str:
        start.wait()
        with contextlib.closing(open_connection(path)) as db:
            [(mode,)] = db.execute("pragma journal_mode").fetchall()
            return str(mode)

    with ThreadPoolExecutor(8) as pool:
        for number in range(20):
            assert set(pool.map(open_it, [tmp_path / f"{number}.db"] * 8)) == {"wal"}
