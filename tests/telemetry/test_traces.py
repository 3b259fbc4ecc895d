"""Spans as a collector gets them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from parley import v1
from parley_server import telemetry
from parley_server.core.context import Context
from parley_server.core.errors import InvalidRequest, Overloaded, RateLimited
from parley_server.core.reply import Reply
from parley_server.core.service import Service
from parley_server.pipeline.timeout import Limits
from tests.fakes import Attempts, Upstream, answering, chat, completed, context, delta, drain, opened, started
from tests.telemetry.collectors import Collected, attributes, grpc_collector
from tests.telemetry.traced import CLIENT, FIRST, SERVER, Settings, finish, traced

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collected]:
    with grpc_collector() as (endpoint, collected):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        yield collected


def full_request() -> v1.ChatRequest:
    request = chat("openai/gpt-5.1")
    request.sampling.CopyFrom(
        v1.SamplingOptions(
            max_output_tokens=100,
            temperature=0.5,
            top_p=0.9,
            top_k=40,
            frequency_penalty=0.1,
            presence_penalty=0.2,
            seed=7,
        )
    )
    request.sampling.stop_sequences.append("END")
    request.reasoning.effort = v1.REASONING_EFFORT_XHIGH
    request.output.json_object.SetInParent()
    request.metadata["team"] = "search"
    return request


def routed(service: Service) -> Service:
    """As an endpoint does: says at the end who answered."""

    def sign(final: Any) -> None:
        final.route.provider, final.route.model = "openai", "gpt-5.1-2025-11-13"
        final.route.provider_response_id = "chatcmpl-1"

    async def sent(request: Any, ctx: Context) -> Reply[Any]:
        reply = await service(request, ctx)
        reply.on_final(sign)
        return reply

    return sent


async def test_stream_golden_attributes(collector: Collected) -> None:
    tracing = telemetry.start(Settings())
    end = completed(
        input_tokens=10,
        output_tokens=4,
        cache_read_input_tokens=2,
        cache_write_input_tokens=1,
        reasoning_output_tokens=3,
    )
    upstream = Upstream(FIRST, [delta("lo")], [end])
    ctx = context(attempts=3)
    ctx.headers["traceparent"] = PARENT
    ctx.headers["tracestate"] = "vendor=1"
    await drain(traced(tracing, routed(upstream)), full_request(), ctx)
    await finish(tracing)
    server, client = collector.span(SERVER), collector.span(CLIENT)
    assert attributes(server.attributes) == {
        "rpc.system.name": "grpc",
        "rpc.method": SERVER,
        "rpc.response.status_code": "OK",
        "network.peer.address": "127.0.0.1",
        "network.peer.port": 40312,
        "parley.request.id": ctx.request_id,
        "parley.response.id": ctx.response_id,
        "parley.request.model": "openai/gpt-5.1",
        "parley.provider": "openai",
        "parley.attempts": 1,
        "parley.cost_nano_usd": 14_000,
        "parley.metadata.team": "search",
    }
    found = attributes(client.attributes)
    assert 0 <= found.pop("gen_ai.response.time_to_first_chunk") < 5
    assert found == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5.1",
        "gen_ai.request.stream": True,
        "gen_ai.request.max_tokens": 100,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.request.top_k": 40,
        "gen_ai.request.frequency_penalty": 0.1,
        "gen_ai.request.presence_penalty": 0.2,
        "gen_ai.request.seed": 7,
        "gen_ai.request.stop_sequences": ["END"],
        "gen_ai.request.reasoning.level": "xhigh",
        "gen_ai.output.type": "json",
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.model": "gpt-5.1-2025-11-13",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 4,
        "parley.cost_nano_usd": 14_000,
        "gen_ai.usage.cache_read.input_tokens": 2,
        "gen_ai.usage.cache_creation.input_tokens": 1,
        "gen_ai.usage.reasoning.output_tokens": 3,
        "server.address": "api.openai.com",
        "server.port": 443,
        "parley.attempt": 1,
    }
    assert (server.kind, client.kind) == (Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT)
    assert server.trace_id.hex() == PARENT[3:35]
    assert server.parent_span_id.hex() == PARENT[36:52]
    assert (client.trace_id, client.parent_span_id) == (server.trace_id, server.span_id)
    assert (server.status.code, client.status.code) == (Status.STATUS_CODE_UNSET, Status.STATUS_CODE_UNSET)
    assert upstream.outgoing == [{"traceparent": f"{PARENT[:35]}-{client.span_id.hex()}-01", "tracestate": "vendor=1"}]
    assert server.start_time_unix_nano <= client.start_time_unix_nano
    assert client.end_time_unix_nano <= server.end_time_unix_nano


async def test_embeddings(collector: Collected) -> None:
    async def embed(*_: Any) -> Reply[Any]:
        return Reply.of(v1.EmbedResponse(usage=v1.Usage(input_tokens=7), route=v1.RouteInfo(model="e-3")))

    tracing = telemetry.start(Settings())
    ctx = context("embed", streaming=False, attempts=3)
    request = v1.EmbedRequest(model="openai/e", dimensions=256, encoding=v1.EMBEDDING_ENCODING_FLOAT32_BYTES)
    async with await traced(tracing, embed)(request, ctx) as reply:
        await reply.response()
    await finish(tracing)
    found = attributes(collector.span("embeddings gpt-5.1").attributes)
    assert found["gen_ai.operation.name"] == "embeddings"
    assert found["gen_ai.embeddings.dimension.count"] == 256
    assert found["gen_ai.request.encoding_formats"] == ["packed"]
    assert found["gen_ai.response.model"] == "e-3"
    assert found["gen_ai.usage.input_tokens"] == 7
    assert "gen_ai.usage.output_tokens" not in found
    assert "gen_ai.response.time_to_first_chunk" not in found


async def test_what_the_provider_says_of_its_limits(collector: Collected) -> None:
    """Of the attempt that heard it: the first is refused for a limit, the second one's provider says nothing."""
    told = iter([{"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1m2s"}, {}])
    inner = Attempts(RateLimited("slow down"), answering("hi"))

    async def hears(request: Any, ctx: Context) -> Reply[Any]:
        ctx.answer_headers = next(told, ctx.answer_headers)
        return await inner(request, ctx)

    tracing = telemetry.start(Settings())
    await drain(traced(tracing, hears), chat(), context(attempts=3))
    await finish(tracing)
    spans = (span for span in collector.spans if span.name == CLIENT)
    refused, answered = map(attributes, (s.attributes for s in sorted(spans, key=lambda s: s.start_time_unix_nano)))
    assert refused["parley.rate_limit.tokens.remaining"] == 0
    assert refused["parley.rate_limit.tokens.reset"] == 62
    assert not [name for name in answered if name.startswith("parley.rate_limit")]


async def test_one_span_for_each_attempt(collector: Collected) -> None:
    tracing = telemetry.start(Settings())
    inner = Attempts(Overloaded("busy: key sk-abcdefghijklmnop"), answering("hi"))
    ctx = context(attempts=3)
    await drain(traced(tracing, inner), chat(), ctx)
    await finish(tracing)
    first, second = sorted(
        (span for span in collector.spans if span.name == CLIENT), key=lambda span: span.start_time_unix_nano
    )
    failed, answered = attributes(first.attributes), attributes(second.attributes)
    assert (failed["parley.attempt"], answered["parley.attempt"]) == (1, 2)
    assert failed["error.type"] == "PROVIDER_OVERLOADED"
    assert (first.status.code, first.status.message) == (Status.STATUS_CODE_ERROR, "busy: key [redacted]")
    assert "error.type" not in answered
    assert attributes(collector.span(SERVER).attributes)["parley.attempts"] == 2


@pytest.mark.parametrize(
    ("script", "cancel", "limits", "deadline", "code", "server_error", "client_error"),
    [
        ([60.0], True, None, None, "CANCELLED", "CANCELLED", "CANCELLED"),
        ([FIRST, 60.0], True, None, None, "CANCELLED", "CANCELLED", "CANCELLED"),
        ([60.0], False, None, 0.05, "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"),
        ([FIRST, 60.0], False, None, 0.05, "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"),
        ([60.0], False, Limits(first_content=0.05), None, "UNAVAILABLE", "PROVIDER_TIMEOUT", "PROVIDER_TIMEOUT"),
        ([FIRST, 60.0], False, Limits(idle=0.05), None, "UNAVAILABLE", "STREAM_INTERRUPTED", "STREAM_INTERRUPTED"),
        ([FIRST, RuntimeError("oops")], False, None, None, "INTERNAL", "INTERNAL", "INTERNAL"),
        ([InvalidRequest("bad")], False, None, None, "INVALID_ARGUMENT", "INVALID_REQUEST", "INVALID_REQUEST"),
    ],
    ids=[
        "cancelled_before_content",
        "cancelled_within_the_answer",
        "overdue_before_content",
        "overdue_within_the_answer",
        "attempt_timeout",
        "idle_timeout",
        "bug",
        "refused",
    ],
)
async def test_honest_status(
    collector: Collected,
    script: list[Any],
    cancel: bool,
    limits: Limits | None,
    deadline: float | None,
    code: str,
    server_error: str,
    client_error: str,
) -> None:
    tracing = telemetry.start(Settings())
    ctx = context(deadline=deadline)  # one attempt only
    service = traced(tracing, Upstream(*script), limits=limits)
    task = asyncio.create_task(drain(service, chat(), ctx))
    if cancel:
        await asyncio.sleep(0.02)
        task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() or task.exception() is not None
    await finish(tracing)
    server, client = collector.span(SERVER), collector.span(CLIENT)
    assert attributes(server.attributes)["rpc.response.status_code"] == code
    assert attributes(server.attributes)["error.type"] == server_error
    assert attributes(client.attributes)["error.type"] == client_error
    assert client.status.code == Status.STATUS_CODE_ERROR
    ours = code in ("INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED")
    assert (server.status.code == Status.STATUS_CODE_ERROR) is ours
    assert "oops" not in server.status.message


async def test_content_is_not_recorded_unless_asked_for(collector: Collected) -> None:
    tracing = telemetry.start(Settings())
    await drain(traced(tracing, Upstream(FIRST, [completed()])), chat(text="private"), context(attempts=3))
    await finish(tracing)
    assert b"private" not in collector.requests[0].SerializeToString()
    assert b"Hel" not in collector.requests[0].SerializeToString()


async def test_captured_content(collector: Collected) -> None:
    tracing = telemetry.start(Settings())
    request = chat(text="what? key sk-abcdefghijklmnop")
    replay = v1.ReplayState(provider="p", data=b"opaque-replay-bytes")
    image = v1.ImagePart(source=v1.MediaSource(data=b"\x89PNG-bytes", mime_type="image/png"))
    request.messages.add(role=v1.ROLE_ASSISTANT, parts=[v1.Part(text="hm", replay_state=replay), v1.Part(image=image)])
    request.tools.add(function=v1.FunctionTool(name="f", description="d", parameters_json_schema="{}"))
    await drain(
        traced(tracing, Upstream(FIRST, [delta("lo")], [completed()]), capture=True), request, context(attempts=3)
    )
    await finish(tracing)
    raw = collector.requests[0].SerializeToString()
    assert b"opaque-replay-bytes" not in raw
    assert b"PNG-bytes" not in raw
    assert b"abcdefghijklmnop" not in raw
    for name in (SERVER, CLIENT):
        found = attributes(collector.span(name).attributes)
        assert json.loads(found["gen_ai.input.messages"]) == [
            {"role": "user", "parts": [{"type": "text", "content": "what? key [redacted]"}]},
            {
                "role": "assistant",
                "parts": [
                    {"type": "text", "content": "hm"},
                    {"type": "blob", "modality": "image", "mime_type": "image/png", "size": 10},
                ],
            },
        ]
        assert json.loads(found["gen_ai.output.messages"]) == [
            {"role": "assistant", "parts": [{"type": "text", "content": "Hello"}], "finish_reason": "stop"}
        ]
    assert json.loads(attributes(collector.span(CLIENT).attributes)["gen_ai.tool.definitions"]) == [
        {"type": "function", "name": "f", "description": "d", "parameters": "{}"}
    ]


async def test_long_content_is_cut_but_stays_valid_json(collector: Collected) -> None:
    tracing = telemetry.start(Settings())
    request = chat(text="first")
    for _ in range(50):
        request.messages.add(role=v1.ROLE_USER, parts=[v1.Part(text="🦜" * 2000)])
    upstream = Upstream([started(), opened(), delta("é" * 100_000)], [completed()])
    batches = await drain(traced(tracing, upstream, capture=True), request, context(attempts=3))
    await finish(tracing)
    assert sum(len(event.part_delta.text) for batch in batches for event in batch) == 100_000
    found = attributes(collector.span(CLIENT).attributes)
    assert "first" not in json.dumps(json.loads(found["gen_ai.input.messages"]))
    assert len(found["gen_ai.input.messages"]) < 40_000
    [message] = json.loads(found["gen_ai.output.messages"])
    assert message["parts"][0]["content"].startswith("é" * 1000)
    assert len(found["gen_ai.output.messages"]) < 40_000


async def test_caller_who_does_not_sample_is_respected_and_passed_on(collector: Collected) -> None:
    tracing = telemetry.start(Settings())
    upstream = Upstream(FIRST, [completed()])
    ctx = context(attempts=3)
    ctx.headers["traceparent"] = PARENT[:-2] + "00"
    await drain(traced(tracing, upstream), chat(), ctx)
    await finish(tracing)
    assert collector.spans == []
    assert upstream.outgoing[0]["traceparent"].startswith(PARENT[:35])
    assert upstream.outgoing[0]["traceparent"].endswith("-00")


async def test_nonsense_for_a_traceparent_begins_a_new_trace(collector: Collected) -> None:
    tracing = telemetry.start(Settings())
    ctx = context(attempts=3)
    ctx.headers["traceparent"] = "nonsense"
    await drain(traced(tracing, Upstream(FIRST, [completed()])), chat(), ctx)
    await finish(tracing)
    assert collector.span(SERVER).parent_span_id == b""
