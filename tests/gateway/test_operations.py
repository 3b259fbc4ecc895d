"""What operators rely on: health, the admin port, reflection, drain, exit codes, configuration."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from typer.testing import CliRunner

from parley import v1
from parley_server.cli import app
from tests.gateway.process import Gateway, ask, config, gateway, stream

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
NAMES = ["", "parley.v1.GatewayService", "liveness", "readiness", "startup"]
STORES = ["stores", "stores.cache", "stores.limits", "stores.idempotency", "stores.resume"]
SLOW = {
    "slow": {"reply": "one two three four", "token_delay": 0.3},
    "endless": {"reply": "on and on ", "endless": True},
}


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Gateway]:
    settings = config(providers={"mock": {"models": SLOW}}, server={"drain": 5}, admin={"stalled_after": 0.6})
    async with gateway(settings, tmp_path) as server:
        yield server


def health(channel: grpc.aio.Channel) -> Any:
    return health_pb2_grpc.HealthStub(channel)


async def test_health_on_both_ports(running: Gateway) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{running.admin_port}") as admin:
        for stub, names in ((health(running.channel), NAMES), (health(admin), [*NAMES, *STORES])):
            for name in names:
                assert (await stub.Check(health_pb2.HealthCheckRequest(service=name))).status == SERVING
            listed = await stub.List(health_pb2.HealthListRequest())
            assert sorted(listed.statuses) == sorted(names)
            with pytest.raises(grpc.aio.AioRpcError) as unknown:
                await stub.Check(health_pb2.HealthCheckRequest(service="nobody"))
            assert unknown.value.code() is grpc.StatusCode.NOT_FOUND


async def test_watchers_see_not_serving_before_the_end(running: Gateway) -> None:
    watch = health(running.channel).Watch(health_pb2.HealthCheckRequest(service="readiness"))
    seen = [(await anext(aiter(watch))).status]
    running.terminate()
    seen.append((await anext(aiter(watch))).status)
    assert seen == [SERVING, NOT_SERVING]
    start = time.perf_counter()
    assert await running.exit_code() == 0
    assert time.perf_counter() - start < 3, "an open Watch must not use up the drain time"


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_describes_the_service(running: Gateway, version: str) -> None:
    method = running.channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    asked = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="parley.v1.GatewayService"),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=f"grpc.reflection.{version}.ServerReflection"),
    ]
    services, gateway_file, own_file = [answer async for answer in method(iter(asked))]
    names = {service.name for service in services.list_services_response.service}
    assert {"parley.v1.GatewayService", "grpc.health.v1.Health", f"grpc.reflection.{version}.ServerReflection"} <= names
    assert gateway_file.file_descriptor_response.file_descriptor_proto
    assert own_file.file_descriptor_response.file_descriptor_proto


async def asked_for_health(server: Gateway, *arguments: str) -> tuple[int, str]:
    """Exit code of `parley-server health`, and what it wrote."""
    done = await asyncio.to_thread(
        CliRunner().invoke, app, ["health", *arguments], env={"PARLEY_ADMIN__ADDRESS": f"[::]:{server.admin_port}"}
    )
    return done.exit_code, done.output


async def test_the_health_command_tells_by_its_exit_code(running: Gateway) -> None:
    for name in ([], ["liveness"], ["stores.cache"], [""]):
        assert await asked_for_health(running, *name) == (0, "SERVING\n")
    code, said = await asked_for_health(running, "readyness")
    assert (code, "no health under the name 'readyness'" in said) == (2, True)
    call = running.stub.StreamChat(stream("mock/endless"))
    await anext(aiter(call))
    running.terminate()
    answers = [await asked_for_health(running)]
    while answers[-1] == (0, "SERVING\n") and len(answers) < 200:
        answers.append(await asked_for_health(running))
    assert answers[-1] == (1, "NOT_SERVING\n")
    assert await asked_for_health(running, "liveness") == (0, "SERVING\n")
    call.cancel()
    assert await running.exit_code() == 0
    code, said = await asked_for_health(running)
    assert (code, "UNAVAILABLE" in said, "Traceback" in said) == (1, True, False)


async def test_channelz_counts_calls_on_the_admin_port(running: Gateway) -> None:
    await running.stub.Chat(ask("mock/echo"))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{running.admin_port}") as admin:
        servers = await channelz_pb2_grpc.ChannelzStub(admin).GetServers(channelz_pb2.GetServersRequest())
    assert sum(server.data.calls_succeeded for server in servers.server) >= 1


async def test_the_admin_port_answers_while_the_event_loop_is_blocked(tmp_path: Path) -> None:
    settings = config(admin={"stalled_after": 0.6})
    async with (
        gateway(settings, tmp_path, module="tests.gateway.stalling") as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.admin_port}") as admin,
    ):
        os.kill(server.pid, signal.SIGUSR1)
        stub = health(admin)
        deadline = time.monotonic() + 5
        request = health_pb2.HealthCheckRequest(service="liveness")
        while (await stub.Check(request, timeout=1)).status == SERVING:
            assert time.monotonic() < deadline, "liveness never said NOT_SERVING"
            await asyncio.sleep(0.05)
        assert (await stub.Check(health_pb2.HealthCheckRequest(service="readiness"), timeout=1)).status == SERVING
        while (await stub.Check(request, timeout=1)).status != SERVING:
            assert time.monotonic() < deadline + 10, "liveness never recovered"
            await asyncio.sleep(0.05)


async def test_running_calls_finish_within_the_drain_time(running: Gateway) -> None:
    call = running.stub.StreamChat(stream("mock/slow"))
    await anext(aiter(call))
    unary = asyncio.ensure_future(running.stub.Chat(ask("mock/slow")))
    await asyncio.sleep(0.1)
    running.terminate()
    kinds = [event.WhichOneof("event") async for event in call]
    assert kinds[-1] == "completed"
    assert (await unary).message.parts[0].text == "one two three four"
    assert await running.exit_code() == 0
    assert running.log[-1]["event"] == "stopped"
    assert running.log[-1]["cut_off"] == 0


async def test_new_calls_are_refused_while_draining(running: Gateway) -> None:
    call = running.stub.StreamChat(stream("mock/slow"))
    await anext(aiter(call))
    running.terminate()
    await asyncio.sleep(0.3)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await running.stub.Chat(ask("mock/echo"))
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert [event.WhichOneof("event") async for event in call][-1] == "completed"


async def test_calls_beyond_the_drain_time_are_told(tmp_path: Path) -> None:
    settings = config(providers={"mock": {"models": SLOW}}, server={"drain": 0.3})
    async with gateway(settings, tmp_path) as server:
        call = server.stub.StreamChat(stream("mock/endless"))
        await anext(aiter(call))
        server.terminate()
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            async for _ in call:
                pass
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "shutting down" in str(ended.value.details())
        assert await server.exit_code() == 0
        assert server.log[-1]["cut_off"] == 1


async def test_a_second_signal_cuts_the_drain_short(tmp_path: Path) -> None:
    settings = config(providers={"mock": {"models": SLOW}}, server={"drain": 60})
    async with gateway(settings, tmp_path) as server:
        call = server.stub.StreamChat(stream("mock/endless"))
        await anext(aiter(call))
        server.terminate()
        await asyncio.sleep(0.3)
        server.terminate()
        assert await server.exit_code(within=5) == 0


async def test_silence_is_broken_by_heartbeats_before_the_first_content(tmp_path: Path) -> None:
    models = {"ponder": {"reply": "yes", "first_token_delay": 2.5}}
    async with gateway(config(providers={"mock": {"models": models}}), tmp_path) as server:
        options = v1.StreamOptions()
        options.heartbeat_interval.FromSeconds(1)
        kinds = [
            event.WhichOneof("event") async for event in server.stub.StreamChat(stream("mock/ponder", options=options))
        ]
    assert kinds[:2] == ["heartbeat", "heartbeat"]
    assert kinds[2] == "started"


async def test_a_taken_port_is_said_in_one_line(running: Gateway, tmp_path: Path) -> None:
    taken = tmp_path / "taken.yaml"
    taken.write_text(f"server: {{address: '127.0.0.1:{running.port}'}}\nproviders: {{mock: }}\n")
    result = await asyncio.to_thread(_parley_server, "serve", "--config", str(taken))
    assert result.returncode == 1
    assert f"cannot listen on 127.0.0.1:{running.port}" in result.stderr
    assert "Traceback" not in result.stderr


def test_check_names_every_problem(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("server: {adress: x}\nproviders: {openai: {api_key: sk-literal-secret-0123456789}}\n")
    result = _parley_server("check", "--config", str(path))
    assert result.returncode == 2
    assert "server.adress: unknown key; did you mean address?" in result.stderr
    assert "sk-literal" not in result.stderr + result.stdout


def _parley_server(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "parley_server", *arguments], capture_output=True, text=True, timeout=30, check=False
    )
