"""Another configuration while calls run, and another gateway while clients stay: no call may notice."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import sys
import termios
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from parley import v1
from parley.v1.gateway_service_pb2_grpc import GatewayServiceStub
from tests.gateway.process import Gateway, ask, config, gateway, stream
from tests.gateway.wire import EVENT_STREAM, by_model, openai_answer, openai_chunk, sse
from tests.upstream import Exchange, Script, Upstream, scripted

RELOADS = 20
GROWTH = 8 * 1024  # kB over all reloads but the first few


async def answer(exchange: Exchange) -> None:
    await exchange.answer(200, openai_answer(exchange.request.headers["authorization"]))


async def broken(exchange: Exchange) -> None:
    await exchange.answer(500, {"error": {"message": "broken"}})


PLAYS: Mapping[str, Script] = {"m": answer, "broken": broken}


def lab(upstream: Upstream, **settings: Any) -> dict[str, Any]:
    return {"kind": "openai-compatible", "base_url": f"{upstream.base_url}/v1", "models": [*PLAYS], **settings}


def text_of(response: v1.ChatResponse) -> str:
    return response.message.parts[0].text


async def info(server: Gateway) -> v1.GetServerInfoResponse:
    response: v1.GetServerInfoResponse = await server.stub.GetServerInfo(v1.GetServerInfoRequest())
    return response


async def logged(server: Gateway, event: str, count: int = 1) -> list[dict[str, Any]]:
    """The first `count` lines with that event, once they are there."""
    async with asyncio.timeout(20):
        while len(lines := [line for line in server.log if line["event"] == event]) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.005)  # another task reads the log
    return lines


async def reloaded(server: Gateway, settings: Mapping[str, Any], event: str = "config_reloaded") -> dict[str, Any]:
    """Write `settings` whole, send SIGHUP, and wait for what the gateway says to it."""
    seen = len([line for line in server.log if line["event"] == event])
    path = server.folder / "parley.yaml"
    new = path.with_suffix(".new")
    new.write_text(yaml.safe_dump(dict(settings)))
    new.rename(path)
    os.kill(server.pid, signal.SIGHUP)
    return (await logged(server, event, seen + 1))[seen]


def rss(pid: int) -> int:
    """Resident memory in kB."""
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1])


async def test_a_changed_file_is_taken_without_being_asked(tmp_path: Path) -> None:
    settings = config(reload={"interval": 0.05})
    async with gateway(settings, tmp_path) as server:
        before = await info(server)
        assert (before.config_revision, before.config_refused, len(before.config_digest)) == (1, False, 64)
        settings["providers"] = {"mock": {}, "other": {"kind": "mock", "models": {"bye": {"reply": "bye"}}}}
        (tmp_path / "parley.yaml").write_text(yaml.safe_dump(settings))
        [line] = await logged(server, "config_reloaded")
        after = await info(server)
        assert (after.config_revision, list(after.providers)) == (2, ["mock", "other"])
        assert after.config_digest == line["digest"] != before.config_digest
        assert text_of(await server.stub.Chat(ask("bye"))) == "bye", "new models are known by their bare names"


async def test_a_key_is_rotated_in_its_file(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("sk-one\n")
    async with scripted(by_model(PLAYS)) as upstream:
        settings = config(providers={"lab": lab(upstream, api_key=f"file:{key}")}, reload={"interval": 0.05})
        async with gateway(settings, tmp_path) as server:
            assert text_of(await server.stub.Chat(ask("lab/m"))) == "Bearer sk-one"
            key.write_text("sk-two\n")
            await logged(server, "config_reloaded")
            assert text_of(await server.stub.Chat(ask("lab/m"))) == "Bearer sk-two"
            assert "sk-" not in json.dumps(server.log)


async def test_a_bad_file_keeps_the_old_one_and_says_why(tmp_path: Path) -> None:
    settings = config(reload={"interval": 0.05})
    async with (
        gateway(settings, tmp_path) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.admin_port}") as admin,
    ):
        before = await info(server)
        (tmp_path / "parley.yaml").write_text("providers: {mok: {}}\nretry: {max_attempts: none}")
        [line] = await logged(server, "config_refused")
        assert [problem.partition(":")[0] for problem in line["problems"]] == [
            "providers.mok.kind",
            "retry.max_attempts",
        ]
        after = await info(server)
        assert after.config_refused
        assert (after.config_revision, after.config_digest) == (1, before.config_digest)
        assert text_of(await server.stub.Chat(ask("mock/echo"))) == "hello"
        health = await health_pb2_grpc.HealthStub(admin).Check(health_pb2.HealthCheckRequest(service="readiness"))
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        (tmp_path / "parley.yaml").write_text(yaml.safe_dump(settings))
        await logged(server, "config_unchanged")
        assert not (await info(server)).config_refused
        assert len(await logged(server, "config_refused")) == 1


async def test_what_needs_a_restart_is_said_and_the_rest_goes_on(tmp_path: Path) -> None:
    async with gateway(config(), tmp_path) as server:
        settings = config(server={"address": "127.0.0.1:1"}, unsupported_policy="error", log={"level": "debug"})
        await reloaded(server, settings)
        [line] = await logged(server, "needs_restart")
        assert line["paths"] == ["server.address"]
        assert text_of(await server.stub.Chat(ask("mock/echo"))) == "hello"
        assert (await info(server)).config_revision == 2


async def test_sighup_without_a_change_changes_nothing(tmp_path: Path) -> None:
    async with gateway(config(), tmp_path) as server:
        os.kill(server.pid, signal.SIGHUP)
        await logged(server, "config_unchanged")
        assert (await info(server)).config_revision == 1


async def test_closing_the_window_it_runs_in_ends_it(tmp_path: Path) -> None:
    """The terminal sends SIGHUP as well, and nobody wants a gateway that goes on without its window."""
    path = tmp_path / "parley.yaml"
    path.write_text(yaml.safe_dump(config()))
    outside, inside = os.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "parley_server", "serve", "--config", str(path)),
        stdin=inside,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(inside)
    assert process.stderr is not None
    assert b'"serving"' in await asyncio.wait_for(process.stderr.readline(), 20)
    os.kill(process.pid, signal.SIGHUP)
    assert b'"config_unchanged"' in await asyncio.wait_for(process.stderr.readline(), 20)
    os.close(outside)
    lines, _ = await asyncio.wait_for(asyncio.gather(process.stderr.read(), process.wait()), 20)
    assert b'"stopped"' in lines
    assert process.returncode == 0


async def test_running_calls_end_as_they_began(tmp_path: Path) -> None:
    """A stream and a call between two attempts live through the removal of their provider; then it is hung up on."""
    go_on, tried = asyncio.Event(), asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        await exchange.head(200, EVENT_STREAM)
        await exchange.chunk(sse(openai_chunk({"content": "one "})))
        await go_on.wait()
        await exchange.chunk(sse(openai_chunk({"content": "two"}), openai_chunk({}, "stop"), "[DONE]"))
        await exchange.end()

    async def late(exchange: Exchange) -> None:
        if not tried.is_set():
            tried.set()
            await exchange.answer(503, {"error": {"message": "later"}}, {"retry-after": "1"})
        else:
            await answer(exchange)

    async with scripted(by_model({"slow": slow, "late": late})) as upstream:
        settings = config(providers={"mock": {}, "lab": lab(upstream, api_key="env:LAB")})
        async with gateway(settings, tmp_path, {"LAB": "sk-lab"}) as server:
            running = server.stub.StreamChat(stream("lab/slow"))
            events = aiter(running)
            seen = [await anext(events), await anext(events)]
            waiting = asyncio.ensure_future(server.stub.Chat(ask("lab/late")))
            await asyncio.wait_for(tried.wait(), 5)
            line = await reloaded(server, config())
            assert (line["providers"], line["running"]) == (["mock"], 2)
            with pytest.raises(grpc.aio.AioRpcError) as unknown:
                await server.stub.Chat(ask("lab/late"))
            assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
            assert text_of(await waiting) == "Bearer sk-lab", "its second attempt was made after the reload"
            go_on.set()
            seen += [event async for event in events]
            assert "".join(event.part_delta.text for event in seen) == "one two"
            assert seen[-1].WhichOneof("event") == "completed"
            assert await upstream.closed_within(1), "nobody needs the connections any more"


async def test_what_is_known_of_targets_survives(tmp_path: Path) -> None:
    """An open circuit stays open, a kept connection is used again; settings of another provider are no reason."""
    async with scripted(by_model(PLAYS)) as upstream:
        breaker = {"failures": 1, "cool": 60, "max_wait": 0}
        retry = {"base": 0.001, "attempts_per_target": 1}
        providers = {"lab": lab(upstream, api_key="env:LAB"), "mock": {}}
        async with gateway(config(providers=providers, breaker=breaker, retry=retry), tmp_path, {"LAB": "k"}) as server:
            await server.stub.Chat(ask("lab/m"))
            for _ in range(2):
                with pytest.raises(grpc.aio.AioRpcError):
                    await server.stub.Chat(ask("lab/broken"))
            asked, connections = len(upstream.requests), upstream.open_connections
            providers["mock"] = {"models": {"new": {"reply": "new"}}}
            await reloaded(server, config(providers=providers, breaker=breaker, retry=retry))
            with pytest.raises(grpc.aio.AioRpcError) as left_alone:
                await server.stub.Chat(ask("lab/broken"))
            assert left_alone.value.code() is grpc.StatusCode.UNAVAILABLE
            assert [r.json["model"] for r in upstream.requests[asked:] if r.method == "POST"] == []
            await server.stub.Chat(ask("lab/m"))
            assert upstream.open_connections == connections
            await reloaded(server, config(providers=providers, breaker={**breaker, "failures": 2}, retry=retry))
            with pytest.raises(grpc.aio.AioRpcError):
                await server.stub.Chat(ask("lab/broken"))
            assert upstream.requests[-1].json["model"] == "broken", "another policy begins anew"


# ---------------------------------------------------------------------------------------------------------- under load


@dataclass
class Load:
    """Clients that call one after the other. `failed` holds what went wrong."""

    done: int = 0
    failed: list[str] = field(default_factory=list)

    async def until(self, calls: int) -> None:
        """Wait until so many more have been answered."""
        goal = self.done + calls
        async with asyncio.timeout(30):
            while self.done < goal:  # noqa: ASYNC110
                await asyncio.sleep(0.005)  # it is a number, and no moment matters


@asynccontextmanager
async def load(call: Callable[[int], Any], clients: int = 8) -> AsyncIterator[Load]:
    """Constant load while the block runs."""
    load = Load()
    over = False

    async def client(number: int) -> None:
        while not over:
            try:
                await call(number)
                load.done += 1
            except grpc.aio.AioRpcError as error:
                load.failed.append(f"{error.code()} {error.details()}")
            await asyncio.sleep(0.001)

    tasks = [asyncio.create_task(client(number)) for number in range(clients)]
    try:
        yield load
    finally:
        over = True
        await asyncio.gather(*tasks)


@pytest.mark.timeout(120)
async def test_no_call_fails_while_the_configuration_changes_often(tmp_path: Path) -> None:
    async with scripted(by_model(PLAYS)) as upstream, scripted(by_model(PLAYS)) as second:

        def version(number: int) -> dict[str, Any]:
            providers: dict[str, Any] = {
                "mock": {},
                "lab": lab(upstream, api_key="env:LAB"),
                "changing": lab(upstream, api_key="env:LAB", headers={"x-version": str(number)}),
            }
            if number % 2:
                providers["guest"] = lab(second, api_key="env:LAB")
            return config(providers=providers)

        async with gateway(version(1), tmp_path, {"LAB": "k"}) as server:
            await server.stub.Chat(ask("guest/m"))

            async def call(number: int) -> None:
                match number % 3:
                    case 0:
                        await server.stub.Chat(ask("lab/m"))
                    case 1:
                        await server.stub.Chat(ask("changing/m"))
                    case _:
                        kinds = [event.WhichOneof("event") async for event in server.stub.StreamChat(stream("echo"))]
                        assert kinds[-1] == "completed"

            async with load(call) as running:
                warm = 0
                for number in range(2, RELOADS + 6):
                    await running.until(20)
                    await reloaded(server, version(number))
                    if number == 6:
                        warm = rss(server.pid)
                await running.until(50)
                grown = rss(server.pid) - warm
            assert not running.failed, running.failed[:3]
            assert grown < GROWTH
            assert (await info(server)).config_revision == RELOADS + 5
            headers = [r.headers.get("x-version") for r in upstream.requests if r.method == "POST"]
            assert set(headers) == {None, *(str(number) for number in range(1, RELOADS + 6))}
            await reloaded(server, version(RELOADS + 6))
            assert await second.until(lambda: second.open_connections == 0, 1)
            print(f"{running.done} calls, {RELOADS + 5} reloads, {grown} kB more")


# ---------------------------------------------------------------------------------------------------- a rolling restart

BY_HEALTH = {  # without retries: no call is to need one
    "loadBalancingConfig": [{"round_robin": {}}],
    "healthCheckConfig": {"serviceName": "parley.v1.GatewayService"},
}


async def test_no_call_fails_during_a_rolling_restart(tmp_path: Path) -> None:
    """Two gateways behind a list of addresses: one is replaced, then the other, and nobody is told to try again."""
    async with contextlib.AsyncExitStack() as running:

        async def start(name: str, port: int = 0) -> Gateway:
            folder = tmp_path / name
            folder.mkdir(exist_ok=True)
            models = {"slow": {"reply": "one two three", "token_delay": 0.1}, "who": {"reply": name}}
            settings = config(providers={"mock": {"models": models}}, server={"address": f"127.0.0.1:{port}"})
            return await running.enter_async_context(gateway(settings, folder))

        servers = [await start("a"), await start("b")]
        target = "ipv4:" + ",".join(server.address for server in servers)
        options = [("grpc.service_config", json.dumps(BY_HEALTH))]
        async with grpc.aio.insecure_channel(target, options=options) as channel:
            stub = GatewayServiceStub(channel)
            said: list[str] = []

            async def call(number: int) -> None:
                if number % 2:
                    said.append(text_of(await stub.Chat(ask("mock/who"))))
                else:
                    kinds = [event.WhichOneof("event") async for event in stub.StreamChat(stream("mock/slow"))]
                    assert kinds[-1] == "completed"

            async with load(call, clients=12) as calls:
                await calls.until(50)
                for number, server in enumerate(servers):
                    server.terminate()
                    assert await server.exit_code() == 0
                    assert server.log[-1]["cut_off"] == 0
                    await calls.until(50)
                    servers[number] = await start("ab"[number], server.port)
                    said.clear()
                    while "ab"[number] not in said:
                        await calls.until(10)
        assert not calls.failed, calls.failed[:3]


async def test_connections_end_at_their_age_and_calls_do_not(tmp_path: Path) -> None:
    """The client of an old connection is told to go, without any of its calls failing; running ones end in peace."""
    models = {"slow": {"reply": "one two three four five six", "token_delay": 0.3}}
    settings = config(providers={"mock": {"models": models}}, server={"max_connection_age": 0.3})
    async with (
        gateway(settings, tmp_path) as server,
        grpc.aio.insecure_channel(server.address) as channel,  # with gRPC's own retries of what was never looked at
    ):
        stub = GatewayServiceStub(channel)
        states: list[grpc.ChannelConnectivity] = []

        async def watch() -> None:
            state = channel.get_state()
            while True:
                await channel.wait_for_state_change(state)
                state = channel.get_state()
                states.append(state)

        async def call(number: int) -> None:
            await stub.Chat(ask("mock/echo"))

        watching = asyncio.create_task(watch())
        async with load(call, clients=4) as calls:
            kinds = [event.WhichOneof("event") async for event in stub.StreamChat(stream("mock/slow"))]
        watching.cancel()
        assert kinds[-1] == "completed"
        assert not calls.failed, calls.failed[:3]
        assert grpc.ChannelConnectivity.IDLE in states, "the connection was never given up"
