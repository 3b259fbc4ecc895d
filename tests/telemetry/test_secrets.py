"""Keys, and where they must not be: in no line that a whole gateway writes, no span, no metric, no error."""

from __future__ import annotations

import asyncio
import contextlib
import urllib.request
from pathlib import Path
from typing import Any

import grpc

from tests.gateway.process import ask, config, gateway, stream
from tests.gateway.wire import openai_chunk, openai_says, sse
from tests.telemetry.collectors import grpc_collector
from tests.upstream import Exchange, scripted

ODD, USUAL, CALLERS, REDIS = (
    "zwölf-Boxkämpfer".encode().hex(),
    "sk-" + "u" * 30,
    "a-callers-key-0123456789",
    "stores-own-pass",
)
KEYS = (ODD, USUAL, CALLERS, REDIS)


async def upstream(exchange: Exchange) -> None:
    """Says what it was shown, in every way that there is to fail."""
    request = exchange.request
    if request.method == "GET":
        await exchange.answer(500, f"no list for {request.headers['authorization']}")
        return
    shown = f"{request.headers['authorization']} and {ODD}"
    match request.json["model"]:
        case "refuses":
            error = {"message": f"Incorrect API key provided: {shown}", "code": "invalid_api_key"}
            await exchange.answer(401, {"error": error}, {"x-echo": shown})
        case "fails":
            await exchange.answer(500, f"<html>{shown}</html>", {"content-type": "text/html"})
        case "nonsense":
            await exchange.answer(200, f"nonsense {shown}")
        case "breaks":
            await exchange.head(200, {"content-type": "text/event-stream"})
            await exchange.chunk(sse(openai_chunk({"content": "well"})))
            await exchange.chunk(sse({"error": {"message": f"broke: {shown}", "code": "server_error"}}))
            await exchange.end()
        case _:
            await openai_says("ok")(exchange)


async def test_keys_are_nowhere(tmp_path: Path) -> None:
    with grpc_collector() as (endpoint, collected):
        async with scripted(upstream) as server:
            providers = {
                "odd": {"kind": "openai-compatible", "base_url": f"{server.base_url}/v1", "api_key": "env:ODD"},
                "usual": {"kind": "openai-compatible", "base_url": f"{server.base_url}/v1", "api_key": "env:USUAL"},
            }
            settings = config(
                admin={"address": "127.0.0.1:0", "metrics_address": "127.0.0.1:0"},
                providers=providers,
                callers={"ann": {"key": "env:CALLERS"}},
                redis={"url": "redis://127.0.0.1:9/0", "password": "env:REDIS"},
                retry={"attempts_per_target": 1},
                log={"format": "json", "level": "debug", "calls": True},
                telemetry={"by_caller": True, "capture_content": True},
            )
            environ = {"ODD": ODD, "USUAL": USUAL, "CALLERS": CALLERS, "REDIS": REDIS}
            environ |= {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "20"}
            told: list[str] = []
            async with gateway(settings, tmp_path, environ) as running:
                for provider in providers:
                    for model in ("works", "refuses", "fails", "nonsense", "breaks"):
                        for headers in ((("authorization", f"Bearer {CALLERS}"),), (("x-api-key", CALLERS + "x"),)):
                            told += await _asked(running.stub, f"{provider}/{model}", headers)
                [port] = [line["metrics_port"] for line in running.log if line["event"] == "serving"]
                with await asyncio.to_thread(
                    urllib.request.urlopen, f"http://127.0.0.1:{port}/metrics", None, 10
                ) as page:
                    told.append(page.read().decode())
            told += [repr(running.log), repr(collected.spans), repr(collected.measured)]
    for key in KEYS:
        assert [text for text in told if key in text] == []
    assert len(server.requests) > 10
    assert {ODD, USUAL} <= {request.headers["authorization"].removeprefix("Bearer ") for request in server.requests}
    lines = [line for line in running.log if line["event"] == "call"]
    assert len(lines) == 2 * 2 * 2 * 5
    assert {line["status"] for line in lines} >= {"OK", "UNAUTHENTICATED", "FAILED_PRECONDITION", "UNAVAILABLE"}
    spans = {(span.trace_id.hex(), span.span_id.hex()) for span in collected.spans}
    assert {(line["trace_id"], line["span_id"]) for line in lines if line["status"] != "UNAUTHENTICATED"} <= spans
    [first] = [line for line in lines if line.get("target") == "odd/works" and line["method"] == "Chat"]
    assert (first["caller"], first["attempts"], first["model"], first["logger"]) == (
        "ann",
        1,
        "odd/works",
        "parley.calls",
    )
    assert first["request_id"].startswith("req_")
    assert first["output_tokens"] > 0


async def _asked(stub: Any, model: str, headers: tuple[tuple[str, str], ...]) -> list[str]:
    """All that the caller is told, whole and as a stream."""
    told: list[str] = []
    for streaming in (False, True):
        call = (
            stub.StreamChat(stream(model), metadata=headers) if streaming else stub.Chat(ask(model), metadata=headers)
        )
        with contextlib.suppress(grpc.aio.AioRpcError):
            told.append(repr([event async for event in call] if streaming else await call))
        told += [str(await call.details()), repr(await call.trailing_metadata())]
    return told
