"""Traces as an operator gets them: the real process, told by OTEL_* variables alone, and a collector on a socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import statistics
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from parley import v1
from tests.gateway.process import Gateway, ask, config, gateway, stream
from tests.gateway.wire import EVENT_STREAM, by_model, openai_chunk, openai_fails, openai_says, sse
from tests.telemetry.collectors import Collected, attributes, grpc_collector, http_collector
from tests.upstream import Exchange, Script, Upstream, in_turn, refusing, scripted

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY = "sk-proj-TheKeyThatNoSpanMayShow0123456789"
PROMPT = "the secret prompt of the caller"
ANSWER = "gudgeon whispers quietly"
CHAT, STREAM = "parley.v1.GatewayService/Chat", "parley.v1.GatewayService/StreamChat"
QUICK = {"OTEL_BSP_SCHEDULE_DELAY": "50"}
SPAN_MS = 1_000_000  # nanoseconds


@dataclass
class Scene:
    """A traced gateway between a scripted provider and a collector."""

    server: Gateway
    upstream: Upstream
    collected: Collected
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    """Lets the model `paused` finish its stream."""

    async def trace(self, trace_id: str, name: str = "") -> list[Span]:
        """The spans of that trace in the order of their beginnings, once its server span has arrived."""
        deadline = time.monotonic() + 10
        while not any(span.kind == Span.SPAN_KIND_SERVER for span in self._spans(trace_id)):
            assert time.monotonic() < deadline, f"no span of {name or trace_id}"
            await asyncio.sleep(0.01)
        return sorted(self._spans(trace_id), key=lambda span: span.start_time_unix_nano)

    def _spans(self, trace_id: str) -> list[Span]:
        return [span for span in self.collected.spans if span.trace_id.hex() == trace_id]

    def sent(self, trace_id: str) -> list[str]:
        """The `traceparent` of every request of the trace that reached the provider."""
        parents = (request.headers.get("traceparent", "") for request in self.upstream.requests)
        return [parent for parent in parents if trace_id in parent]


@dataclass(frozen=True)
class Caller:
    """A trace that begins at the caller."""

    trace_id: str = field(default_factory=lambda: secrets.token_hex(16))
    span_id: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("traceparent", f"00-{self.trace_id}-{self.span_id}-01"),)


async def silent(exchange: Exchange) -> None:
    await exchange.stall()


async def begins(exchange: Exchange) -> None:
    await exchange.head(200, EVENT_STREAM)
    await exchange.chunk(sse(openai_chunk({"content": "well"})))
    await exchange.stall()


async def breaks(exchange: Exchange) -> None:
    await exchange.head(200, EVENT_STREAM)
    await exchange.chunk(sse(openai_chunk({"content": "well"})))
    await exchange.reset()


def plays(scene: dict[str, asyncio.Event]) -> dict[str, Script]:
    async def paused(exchange: Exchange) -> None:
        await exchange.head(200, EVENT_STREAM)
        await exchange.chunk(sse(openai_chunk({"content": "well"})))
        await scene["go_on"].wait()
        await exchange.chunk(sse(openai_chunk({"content": " then"}), openai_chunk({}, "stop"), "[DONE]"))
        await exchange.end()

    failed = openai_fails(503, "later", type="server_error")
    limited = openai_fails(429, f"slow down, {KEY}", {"retry-after": "0.01"}, code="rate_limit_exceeded")
    return {
        "says": openai_says(ANSWER),
        "third": in_turn(failed, limited, openai_says(ANSWER)),
        "silent": silent,
        "begins": begins,
        "breaks": breaks,
        "paused": paused,
    }


@contextlib.asynccontextmanager
async def traced(
    folder: Path, environ: dict[str, str], **sections: Any
) -> AsyncIterator[tuple[Gateway, Upstream, asyncio.Event]]:
    go_on = asyncio.Event()
    async with scripted(by_model(plays({"go_on": go_on}))) as upstream:
        providers = {
            "up": {"kind": "openai-compatible", "base_url": f"{upstream.base_url}/v1", "api_key": "env:UP_KEY"},
            "mock": {},
        }
        settings = config(providers=providers, **sections)
        async with gateway(settings, folder, {**QUICK, "UP_KEY": KEY, **environ}) as server:
            yield server, upstream, go_on


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    folder = tmp_path_factory.mktemp("gateway")
    with grpc_collector() as (endpoint, collected):
        async with traced(folder, {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}) as (server, upstream, go_on):
            yield Scene(server, upstream, collected, go_on)
    everything = b"".join(request.SerializeToString() for request in collected.requests)
    for private in (PROMPT, ANSWER, KEY):
        assert private.encode() not in everything, f"a span shows {private!r}"
    for word in ANSWER.split(" "):
        assert word.encode() not in everything
    assert collected.resource["service.name"] == "parley"
    assert collected.resource["service.version"]


def without_times(span: Span, *names: str) -> dict[str, Any]:
    """The attributes, without those that differ from call to call."""
    found = attributes(span.attributes)
    for name in ("network.peer.port", "parley.request.id", "parley.response.id", *names):
        assert found.pop(name)
    return found


async def test_a_call_is_one_server_span_and_one_attempt_span_below_it(scene: Scene) -> None:
    caller = Caller()
    call = scene.server.stub.Chat(
        ask(
            "up/says",
            PROMPT,
            metadata={"team": "search"},
            sampling=v1.SamplingOptions(temperature=0.5, max_output_tokens=9),
        ),
        metadata=(*caller.metadata, ("x-request-id", "mine-7")),
    )
    response = await call
    server, attempt = await scene.trace(caller.trace_id)
    assert attributes(server.attributes)["parley.request.id"] == "mine-7"
    assert attributes(server.attributes)["parley.response.id"] == response.id
    assert (server.name, server.kind) == (CHAT, Span.SPAN_KIND_SERVER)
    assert without_times(server) == {
        "rpc.system.name": "grpc",
        "rpc.method": CHAT,
        "rpc.response.status_code": "OK",
        "network.peer.address": "127.0.0.1",
        "parley.request.model": "up/says",
        "parley.provider": "up",
        "parley.attempts": 1,
        "parley.metadata.team": "search",
    }
    assert (attempt.name, attempt.kind) == ("chat says", Span.SPAN_KIND_CLIENT)
    assert attributes(attempt.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "up",
        "gen_ai.request.model": "says",
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.model": "m-1",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 3,
        "server.address": "127.0.0.1",
        "server.port": scene.upstream.port,
        "parley.attempt": 1,
    }
    assert server.parent_span_id.hex() == caller.span_id
    assert attempt.parent_span_id == server.span_id
    assert server.start_time_unix_nano <= attempt.start_time_unix_nano
    assert attempt.end_time_unix_nano <= server.end_time_unix_nano
    assert (server.status.code, attempt.status.code) == (Status.STATUS_CODE_UNSET, Status.STATUS_CODE_UNSET)
    assert scene.sent(caller.trace_id) == [f"00-{caller.trace_id}-{attempt.span_id.hex()}-01"]


async def test_a_stream_tells_when_it_began_to_speak_and_what_it_used(scene: Scene) -> None:
    caller = Caller()
    kinds = [
        e.WhichOneof("event")
        async for e in scene.server.stub.StreamChat(stream("up/says", PROMPT), metadata=caller.metadata)
    ]
    assert kinds[-1] == "completed"
    server, attempt = await scene.trace(caller.trace_id)
    assert (server.name, attempt.name) == (STREAM, "chat says")
    found = attributes(attempt.attributes)
    assert 0 < found.pop("gen_ai.response.time_to_first_chunk") < 5
    assert found == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "up",
        "gen_ai.request.model": "says",
        "gen_ai.request.stream": True,
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.model": "m-1",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 3,
        "server.address": "127.0.0.1",
        "server.port": scene.upstream.port,
        "parley.attempt": 1,
    }


async def test_spans_of_a_stream_end_with_the_stream_and_not_before(scene: Scene) -> None:
    caller = Caller()
    call = scene.server.stub.StreamChat(stream("up/paused", PROMPT), metadata=caller.metadata)
    events = aiter(call)
    while not (await anext(events)).HasField("part_delta"):
        pass
    await asyncio.sleep(0.2)  # four times as long as spans wait for company
    assert not scene._spans(caller.trace_id)
    resumed = time.time_ns()
    scene.go_on.set()
    assert [event.WhichOneof("event") async for event in events][-1] == "completed"
    for span in await scene.trace(caller.trace_id):
        assert span.end_time_unix_nano >= resumed
        assert span.start_time_unix_nano < resumed - 200 * SPAN_MS
    _, attempt = await scene.trace(caller.trace_id)
    lasted = (attempt.end_time_unix_nano - attempt.start_time_unix_nano) / 1e9
    assert attributes(attempt.attributes)["gen_ai.response.time_to_first_chunk"] < lasted - 0.15


async def test_every_attempt_has_a_span_and_sends_its_own_parent(scene: Scene) -> None:
    caller = Caller()
    response = await scene.server.stub.Chat(ask("up/third", PROMPT), metadata=caller.metadata)
    assert len(response.route.attempts) == 3
    server, *attempts = await scene.trace(caller.trace_id)
    found = [attributes(attempt.attributes) for attempt in attempts]
    assert [one["parley.attempt"] for one in found] == [1, 2, 3]
    assert [one.get("error.type") for one in found] == ["PROVIDER_UNAVAILABLE", "PROVIDER_RATE_LIMITED", None]
    assert [attempt.status.code for attempt in attempts] == [
        Status.STATUS_CODE_ERROR,
        Status.STATUS_CODE_ERROR,
        Status.STATUS_CODE_UNSET,
    ]
    assert {attempt.parent_span_id for attempt in attempts} == {server.span_id}
    assert attributes(server.attributes)["parley.attempts"] == 3
    assert attributes(server.attributes)["rpc.response.status_code"] == "OK"
    assert scene.sent(caller.trace_id) == [f"00-{caller.trace_id}-{attempt.span_id.hex()}-01" for attempt in attempts]


async def test_a_call_without_a_parent_begins_a_trace(scene: Scene) -> None:
    before = len(scene.upstream.requests)
    await scene.server.stub.Chat(ask("up/says", PROMPT))
    sent = [
        request for request in scene.upstream.requests[before:] if request.method == "POST"
    ]  # models are listed too
    version, trace_id, span_id, flags = sent[0].headers["traceparent"].split("-")
    server, attempt = await scene.trace(trace_id)
    assert (version, span_id, int(flags, 16) & 1) == ("00", attempt.span_id.hex(), 1)
    assert server.parent_span_id == b""


async def test_a_caller_who_does_not_sample_gets_no_spans_but_the_provider_still_learns_the_trace(scene: Scene) -> None:
    caller = Caller()
    await scene.server.stub.Chat(
        ask("up/says", PROMPT),
        metadata=(("traceparent", f"00-{caller.trace_id}-{caller.span_id}-00"), ("tracestate", "vendor=1")),
    )
    [parent] = scene.sent(caller.trace_id)
    assert parent.endswith("-00")
    sent = next(request for request in scene.upstream.requests if request.headers.get("traceparent") == parent)
    assert sent.headers["tracestate"] == "vendor=1"
    await asyncio.sleep(0.15)
    assert scene._spans(caller.trace_id) == []


async def test_embeddings_are_traced(scene: Scene) -> None:
    caller = Caller()
    request = v1.EmbedRequest(model="mock/embed", inputs=[v1.EmbedInput(text=PROMPT)], dimensions=8)
    await scene.server.stub.Embed(request, metadata=caller.metadata)
    server, attempt = await scene.trace(caller.trace_id)
    assert (server.name, attempt.name) == ("parley.v1.GatewayService/Embed", "embeddings embed")
    found = attributes(attempt.attributes)
    assert found["gen_ai.operation.name"] == "embeddings"
    assert found["gen_ai.embeddings.dimension.count"] == 8
    assert found["gen_ai.usage.input_tokens"] > 0


async def test_rankings_are_traced(scene: Scene) -> None:
    caller = Caller()
    request = v1.RerankRequest(model="mock/rerank", query=PROMPT, documents=["one", "two"])
    await scene.server.stub.Rerank(request, metadata=caller.metadata)
    server, attempt = await scene.trace(caller.trace_id)
    assert (server.name, attempt.name) == ("parley.v1.GatewayService/Rerank", "rerank rerank")
    found = attributes(attempt.attributes)
    assert found["gen_ai.operation.name"] == "rerank"
    assert found["gen_ai.request.model"] == "rerank"
    assert found["gen_ai.usage.input_tokens"] > 0
    assert PROMPT not in repr((server, attempt))


async def ended(call: Any) -> grpc.StatusCode:
    try:
        async for _ in call:
            pass
    except grpc.aio.AioRpcError as error:
        return error.code()
    except asyncio.CancelledError:
        return grpc.StatusCode.CANCELLED
    return grpc.StatusCode.OK


async def finished(call: Any) -> grpc.StatusCode:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    except asyncio.CancelledError:
        return grpc.StatusCode.CANCELLED
    return grpc.StatusCode.OK


@pytest.mark.parametrize("model", ["up/silent", "up/begins"])
@pytest.mark.parametrize("streaming", [False, True], ids=["unary", "stream"])
async def test_a_cancelled_call_says_so(scene: Scene, model: str, streaming: bool) -> None:
    caller = Caller()
    before = len(scene.upstream.requests)
    if streaming:
        call = scene.server.stub.StreamChat(stream(model, PROMPT), metadata=caller.metadata)
        waiting = asyncio.ensure_future(ended(call))
    else:
        call = scene.server.stub.Chat(ask(model, PROMPT), metadata=caller.metadata)
        waiting = asyncio.ensure_future(finished(call))
    assert await scene.upstream.requested(before + 1)
    await asyncio.sleep(0.05)
    call.cancel()
    assert await waiting is grpc.StatusCode.CANCELLED
    server, attempt = await scene.trace(caller.trace_id)
    for span in (server, attempt):
        assert attributes(span.attributes)["error.type"] == "CANCELLED"
    assert attributes(server.attributes)["rpc.response.status_code"] == "CANCELLED"
    assert server.status.code == Status.STATUS_CODE_UNSET  # the caller's own wish, not the server's fault
    assert attributes(server.attributes)["parley.attempts"] == 1


@pytest.mark.parametrize("model", ["up/silent", "up/begins"])
@pytest.mark.parametrize("streaming", [False, True], ids=["unary", "stream"])
async def test_an_overdue_call_says_so(scene: Scene, model: str, streaming: bool) -> None:
    caller = Caller()
    if streaming:
        code = await ended(scene.server.stub.StreamChat(stream(model, PROMPT), metadata=caller.metadata, timeout=0.3))
    else:
        code = await finished(scene.server.stub.Chat(ask(model, PROMPT), metadata=caller.metadata, timeout=0.3))
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    server, attempt = await scene.trace(caller.trace_id)
    for span in (server, attempt):
        assert attributes(span.attributes)["error.type"] == "DEADLINE_EXCEEDED"
        assert span.status.code == Status.STATUS_CODE_ERROR
    assert attributes(server.attributes)["rpc.response.status_code"] == "DEADLINE_EXCEEDED"


async def test_an_attempt_that_took_too_long_says_which_clock_ran_out(scene: Scene) -> None:
    caller = Caller()
    routing = v1.RoutingOptions(max_attempts=1)
    routing.attempt_timeout.FromMilliseconds(100)
    assert await finished(
        scene.server.stub.Chat(ask("up/silent", PROMPT, routing=routing), metadata=caller.metadata)
    ) is (grpc.StatusCode.UNAVAILABLE)
    server, attempt = await scene.trace(caller.trace_id)
    assert attributes(attempt.attributes)["error.type"] == "PROVIDER_TIMEOUT"
    assert "attempt timeout" in attempt.status.message
    assert attributes(server.attributes)["error.type"] == "PROVIDER_TIMEOUT"
    assert attributes(server.attributes)["rpc.response.status_code"] == "UNAVAILABLE"


async def test_a_stream_that_breaks_says_so(scene: Scene) -> None:
    caller = Caller()
    assert await ended(scene.server.stub.StreamChat(stream("up/breaks", PROMPT), metadata=caller.metadata)) is (
        grpc.StatusCode.UNAVAILABLE
    )
    server, attempt = await scene.trace(caller.trace_id)
    for span in (server, attempt):
        assert attributes(span.attributes)["error.type"] == "STREAM_INTERRUPTED"
        assert span.status.code == Status.STATUS_CODE_ERROR
    assert attributes(attempt.attributes)["gen_ai.response.time_to_first_chunk"] > 0


REFUSED = {
    "no_messages": (v1.ChatRequest(model="mock/echo"), "INVALID_ARGUMENT", "INVALID_REQUEST"),
    "unknown_model": (ask("nobody/knows-this", PROMPT), "NOT_FOUND", "MODEL_NOT_FOUND"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("streaming", [False, True], ids=["unary", "stream"])
async def test_a_refused_request_is_traced(scene: Scene, name: str, streaming: bool) -> None:
    request, code, reason = REFUSED[name]
    caller = Caller()
    if streaming:
        await ended(scene.server.stub.StreamChat(v1.StreamChatRequest(request=request), metadata=caller.metadata))
    else:
        await finished(scene.server.stub.Chat(request, metadata=caller.metadata))
    [server] = await scene.trace(caller.trace_id)
    found = attributes(server.attributes)
    assert (found["rpc.response.status_code"], found["error.type"]) == (code, reason)
    assert found["parley.attempts"] == 0
    assert server.status.code == Status.STATUS_CODE_UNSET


async def test_content_is_captured_where_it_is_asked_for_and_over_http(tmp_path: Path) -> None:
    async with http_collector() as (endpoint, collected):
        environ = {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{endpoint}/v1/traces",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_SERVICE_NAME": "gateway-7",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
            "OTEL_EXPORTER_OTLP_HEADERS": "x-team=search",
        }
        async with traced(tmp_path, environ, telemetry={"capture_content": True}) as (server, _, _):
            assert await ended(server.stub.StreamChat(stream("up/says", f"{PROMPT} {KEY}"))) is grpc.StatusCode.OK
        # The process has ended, and with it went what was still queued.
    assert sorted(span.name for span in collected.spans) == ["chat says", STREAM]
    for span in collected.spans:
        found = attributes(span.attributes)
        asked = [{"role": "user", "parts": [{"type": "text", "content": f"{PROMPT} [redacted]"}]}]
        said = [
            {
                "role": "assistant",
                "parts": [{"type": "text", "content": ANSWER.replace(" ", "")}],
                "finish_reason": "stop",
            }
        ]
        assert json.loads(found["gen_ai.input.messages"]) == asked
        assert json.loads(found["gen_ai.output.messages"]) == said
    assert collected.resource["service.name"] == "gateway-7"
    assert collected.resource["deployment.environment.name"] == "test"
    assert collected.headers[0]["x-team"] == "search"


async def never_reached(_: Exchange) -> None:
    raise AssertionError("it reads nothing, so there is no request to answer")


@contextlib.asynccontextmanager
async def collectors_that_do_not_collect() -> AsyncIterator[dict[str, dict[str, str]]]:
    with refusing() as closed:
        async with scripted(never_reached, reads="nothing") as mute:
            yield {
                "closed": {"OTEL_EXPORTER_OTLP_ENDPOINT": closed, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
                "mute": {"OTEL_EXPORTER_OTLP_ENDPOINT": mute.base_url, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
            }


async def test_a_collector_that_cannot_be_reached_neither_slows_nor_fails_a_call_nor_holds_up_the_exit(
    tmp_path: Path,
) -> None:
    calls = 40
    async with collectors_that_do_not_collect() as environments, contextlib.AsyncExitStack() as stack:

        async def started(name: str, environ: dict[str, str]) -> tuple[str, Gateway]:
            folder = tmp_path / name
            folder.mkdir()
            # A short queue, so that it overflows while nobody takes its spans.
            small = {"OTEL_BSP_MAX_QUEUE_SIZE": "16", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "8"}
            return name, await stack.enter_async_context(gateway(config(), folder, {**QUICK, **small, **environ}))

        starting = [started(name, environ) for name, environ in {"untraced": {}, **environments}.items()]
        servers = dict(await asyncio.gather(*starting))
        times: dict[str, list[float]] = {name: [] for name in servers}
        for _ in range(calls):
            for name, server in servers.items():
                start = time.perf_counter()
                assert (await server.stub.Chat(ask("mock/echo"))).message.parts[0].text == "hello"
                times[name].append(time.perf_counter() - start)
        median = {name: statistics.median(seconds) for name, seconds in times.items()}
        worst = max(median.values())
        assert worst < 3 * median["untraced"] + 0.005, median

        async def stops(server: Gateway) -> float:
            start = time.perf_counter()
            server.terminate()
            assert await server.exit_code() == 0
            return time.perf_counter() - start

        exits = dict(zip(servers, await asyncio.gather(*(stops(server) for server in servers.values())), strict=True))
        assert max(exits.values()) < 10, exits  # five seconds are for what is queued
