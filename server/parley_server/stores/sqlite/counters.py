"""Counters in a file, for the gateways of one machine: each step is one transaction, by the machine's clock."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Callable, Sequence

from parley_server.core.limits import Bucket, Count, Slots, Window
from parley_server.stores.counters import LEASE_MS, Decision, Grant, Limit, decide, fitted
from parley_server.stores.leases import Leases
from parley_server.stores.sqlite.database import Table

STEPS = (
    "create table counters (key text primary key, state text not null, expires integer not null) strict, without rowid",
    "create index counters_expire on counters (expires)",
)
_SWEEP = 1000  # steps between two looks for what has expired


class SqliteCounters:
    """Counters that all gateways share which have the file open. `database.register("counters", STEPS)` comes first.

    `wall`: seconds of Unix time.
    """

    def __init__(self, table: Table, wall: Callable[[], float] = time.time) -> None:
        self._table = table
        self._wall = wall
        self._leases = Leases(self._renew)
        self._steps = 0

    async def take(self, group: str, limits: Sequence[Limit], calls: Sequence[Sequence[int]]) -> Decision:
        costs = fitted(limits, calls)
        keys = _keys(group, limits)

        def work(db: sqlite3.Connection) -> Decision:
            now = self._now()
            counts = [_load(db, key, limit) for key, limit in zip(keys, limits, strict=True)]
            decision = decide(group, limits, counts, costs, now, LEASE_MS)
            if decision.grants:
                self._save(db, keys, counts, now)
            return decision

        async def taken() -> Decision:
            decision = await self._table.write(work)
            for grant in decision.grants:
                self._leases.begin(grant, keys)
            return decision

        return await self._leases.taking(taken(), self.settle)

    def settle(self, grant: Grant, used: Sequence[int]) -> None:
        keys = _keys(grant.group, grant.limits)

        def work(db: sqlite3.Connection) -> None:
            now = self._now()
            counts = [_load(db, key, limit) for key, limit in zip(keys, grant.limits, strict=True)]
            for count, mark, reserved, spent in zip(counts, grant.marks, grant.costs, used, strict=True):
                count.settle(now, mark, reserved, spent, grant.holder)
            self._save(db, keys, counts, now)

        if self._leases.end(grant, keys, used):
            self._leases.keep(asyncio.ensure_future(self._table.write(work)))

    async def told(self) -> None:
        await self._leases.told()

    async def aclose(self) -> None:
        await self._leases.aclose()

    def _now(self) -> int:
        return int(self._wall() * 1000)

    def _save(self, db: sqlite3.Connection, keys: Sequence[str], counts: Sequence[Count], now: int) -> None:
        rows = [(key, _state(count), now + max(_lasts(count, now), 1)) for key, count in zip(keys, counts, strict=True)]
        db.executemany("insert or replace into counters values (?, ?, ?)", rows)
        self._steps += 1
        if self._steps % _SWEEP == 0:
            db.execute("delete from counters where expires <= ?", (now,))

    async def _renew(self, key: str, holders: Sequence[str]) -> None:
        def work(db: sqlite3.Connection) -> None:
            row = db.execute("select state from counters where key = ?", (key,)).fetchone()
            if row is None:
                return
            now = self._now()
            until = {**json.loads(row[0])}
            until |= {holder: now + LEASE_MS for holder in holders if holder in until}
            state = json.dumps(until)
            db.execute("update counters set state = ?, expires = ? where key = ?", (state, now + LEASE_MS, key))

        await self._table.write(work)


def _keys(group: str, limits: Sequence[Limit]) -> list[str]:
    return [f"{group}:{limit.key}" for limit in limits]


def _load(db: sqlite3.Connection, key: str, limit: Limit) -> Count:
    count = limit.rule.new()
    row = db.execute("select state from counters where key = ?", (key,)).fetchone()
    if row is None:
        return count
    kept = json.loads(row[0])
    match count:
        case Window():
            count.load({int(number): amount for number, amount in kept.items()})
        case Bucket():
            count.level, count.at = kept
        case Slots():
            count.until = kept
    return count


def _state(count: Count) -> str:
    match count:
        case Window():
            return json.dumps(count.slices)
        case Bucket():
            return json.dumps([count.level, count.at])
        case Slots():
            return json.dumps(count.until)
        case _:
            raise AssertionError("there are three ways to count")


def _lasts(count: Count, now: int) -> int:
    """Milliseconds after which it says no more than if it were not there."""
    return LEASE_MS if isinstance(count, Slots) else count.reset(now)
