"""What is particular to stores in Redis: connections, log-in, TLS, scripts."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path

import pytest

from parley_server import shelves
from parley_server.config import load
from parley_server.core.limits import Rule
from parley_server.stores.counters import Limit
from parley_server.stores.keyvalue import StoreUnavailable
from parley_server.stores.streams import Ending, Event, Slice, StreamStore, StreamUnknown
from tests.stores.requests import BACK, CHEAP, LONGEST, Outcomes, request
from tests.stores.servers import REDIS, VALKEY, Server, ask, ask_as


async def test_a_server_that_is_not_there_yet_is_waited_for() -> None:
    server = Server(VALKEY)
    stores = shelves.build(load(f"redis: {{url: '{server.url}'}}", {}))
    try:
        begun = time.perf_counter()
        await stores.start()
        assert time.perf_counter() - begun < LONGEST
        assert set(stores.health.degraded) == {"cache", "limits", "idempotency", "resume"}
        outcomes = Outcomes()
        assert not await request(stores.keyvalue("limits"), outcomes)
        assert outcomes.longest < 10 * CHEAP, "it is known not to be there"
        await asyncio.to_thread(server.start)
        begun = time.perf_counter()
        while stores.health.degraded:  # nobody asks for anything meanwhile
            assert time.perf_counter() - begun < BACK
            await asyncio.sleep(0.01)
        assert await request(stores.keyvalue("limits"), outcomes)
    finally:
        await stores.aclose()
        server.close()


async def test_what_one_purpose_may_not_do_hurts_no_other() -> None:
    server = Server(VALKEY).start()
    rules = ["on", ">secret", "~parley:*", "&parley:*", "+@all", "-eval", "-evalsha"]
    ask(server.port, "ACL", "SETUSER", "gateway", *rules)
    text = f"redis: {{url: '{server.url}', username: gateway, password: env:PASSWORD}}"
    stores = shelves.build(load(text, {"PASSWORD": "secret"}))
    try:
        await stores.start()
        assert await request(stores.keyvalue("cache"), Outcomes())
        with pytest.raises(StoreUnavailable, match=r"does not let its user do that \(ACL\)") as refusal:
            await stores.keyvalue("idempotency").add("a", b"1", 60)
        assert "secret" not in str(refusal.value)
        assert stores.health.degraded == ("idempotency",)
        assert await request(stores.keyvalue("cache"), Outcomes())
    finally:
        await stores.aclose()
        server.close()


async def test_a_restart_that_nobody_waited_for_costs_nothing() -> None:
    """Connections that the server has closed are noticed before they are used."""
    server = Server(VALKEY).start()
    stores = shelves.build(load(f"redis: {{url: '{server.url}'}}", {}))
    try:
        await stores.start()
        values = stores.keyvalue("cache")
        await asyncio.gather(*(values.add(f"{number}", b"1", 60) for number in range(50)))
        listener = stores.messages("cache").listen("news")
        assert await anext(listener) is None
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)
        assert await asyncio.wait_for(anext(listener), BACK) is None, "messages may have been missed"
        assert await asyncio.gather(*(values.add(f"{number}", b"1", 60) for number in range(50))) == [None] * 50
        assert stores.health.failures == 0
        await listener.aclose()  # type: ignore[attr-defined]
    finally:
        await stores.aclose()
        server.close()


async def test_callers_who_go_away_leave_connections_as_they_should_be() -> None:
    server = Server(VALKEY).start()
    stores = shelves.build(load(f"redis: {{url: '{server.url}', connections: 2}}", {}))
    try:
        await stores.start()
        values = stores.keyvalue("cache")
        for number in range(200):
            tasks = [asyncio.create_task(values.put(f"{n}", b"%d" % n, 60)) for n in range(5)]
            await asyncio.sleep(0.001 * (number % 3))
            tasks[number % 5].cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert await asyncio.gather(*(values.get("4") for _ in range(3))) in ([b"4"] * 3, [None] * 3)
        assert stores.health.failures == 0
        connected = int(ask(server.port, "INFO", "clients").split("connected_clients:")[1].split()[0])
        assert connected <= 3, "two, and the one that asks"
    finally:
        await stores.aclose()
        server.close()


@pytest.mark.parametrize(
    "binary",
    [
        pytest.param(VALKEY, id="valkey"),
        pytest.param(REDIS, id="debian_redis", marks=pytest.mark.skipif(not REDIS, reason="no redis-server on PATH")),
    ],
)
async def test_the_user_of_the_documentation_may_do_all_that_is_needed(binary: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text("utf-8")
    [words] = re.findall(r"^ACL SETUSER (.+)$", page, re.MULTILINE)
    name, *rules = words.split()
    server = Server(binary).start()
    assert ask(server.port, "ACL", "SETUSER", name, *rules) == "+OK\r\n"
    settings = load(f"redis: {{url: '{server.url}', username: {name}, password: env:P}}", {"P": "secret"})
    stores, other = shelves.build(settings), shelves.build(settings)
    try:
        await stores.start()
        await other.start()
        values = stores.keyvalue("cache")
        assert await values.add("a", b"1", 60) is None
        assert await values.replace("a", b"1", b"2", 60)
        assert await values.get_many(["a", "b"]) == [b"2", None]
        assert [key async for some in values.keys("a") for key in some] == ["a"]
        assert await values.remove("a", b"2")
        listener = other.messages("cache").listen("news")
        assert await anext(listener) is None
        await stores.messages("cache").publish("news", b"1")
        assert await anext(listener) == b"1"
        await listener.aclose()  # type: ignore[attr-defined]
        groups = stores.groups("cache")
        await groups.put("g", b"a", b"1", 60)
        assert [member.value async for some in groups.read("g") for member in some] == [b"1"]
        await groups.remove("g", [b"a"])
        limits = [
            Limit("a", Rule("window", 5, 1000)),
            Limit("b", Rule("bucket", 5, 1000)),
            Limit("c", Rule("slots", 5)),
        ]
        [grant] = (await stores.counters.take("g", limits, [(1, 1, 1)])).grants
        assert not grant.here
        stores.counters.settle(grant, (1, 1, 1))
        await stores.counters.told()
        await stores.streams.create("s")
        await stores.streams.append("s", [Event(1, b"a")])
        await stores.streams.finish("s", Ending(b"ok"))
        begun = time.perf_counter()
        while (part := await read(other.streams, "s")) is None or part.ending is None:
            assert time.perf_counter() - begun < 5
            await asyncio.sleep(0.01)
        assert [event.data for event in part.events] == [b"a"]
        assert (stores.health.failures, other.health.failures) == (0, 0)
        for command in (("KEYS", "*"), ("FLUSHALL",), ("CONFIG", "GET", "*"), ("GET", "other")):
            answer = ask_as(server.port, name, "secret", *command)
            assert "NOPERM" in answer, command
    finally:
        await stores.aclose()
        await other.aclose()
        server.close()


async def read(streams: StreamStore, key: str) -> Slice | None:
    try:
        return await streams.read(key, 0, 1000)
    except StreamUnknown:  # it is copied from time to time
        return None
