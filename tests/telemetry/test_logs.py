"""One line per event, with the IDs of its call, without credentials."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Span, set_span_in_context

from parley import v1
from parley_server import telemetry
from parley_server.config import load
from parley_server.config_revision import secrets
from parley_server.core.context import begin
from parley_server.core.scrub import hide
from tests.fakes import context

KEY = "sk-abcdefghijklmnopqrstuvwx"


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_lines_for_ours_and_for_libraries() -> None:
    stream = io.StringIO()
    telemetry.log_to(stream, "info", "json")
    structlog.get_logger("parley").info("serving", port=50051)
    logging.getLogger("some.library").warning("took %s ms", 5)
    ours, theirs = lines(stream)
    assert (ours["event"], ours["port"], ours["level"], ours["logger"]) == ("serving", 50051, "info", "parley")
    assert (theirs["event"], theirs["level"], theirs["logger"]) == ("took 5 ms", "warning", "some.library")
    assert ours["timestamp"].endswith("Z")


@pytest.mark.parametrize("format", ["json", "console"])
def test_credentials_are_taken_out_wherever_they_are(format: Any) -> None:
    stream = io.StringIO()
    telemetry.log_to(stream, "info", format)
    log = structlog.get_logger("parley")
    log.info(KEY, header=f"Bearer {KEY}", nested={"a": [KEY]}, message=v1.ProviderError(message=KEY))
    logging.getLogger("lib").error("failed with %s", KEY)
    try:
        raise ValueError(f"no: {KEY}")
    except ValueError:
        log.exception("broke")
    text = stream.getvalue()
    assert KEY not in text
    assert text.count("[redacted]") >= 5
    assert "ValueError" in text
    assert "Traceback" in text


def test_level() -> None:
    stream = io.StringIO()
    telemetry.log_to(stream, "warning", "json")
    structlog.get_logger("parley").info("quiet")
    structlog.get_logger("parley").warning("loud")
    assert [line["event"] for line in lines(stream)] == ["loud"]


def test_chatty_libraries_are_kept_to_warnings() -> None:
    stream = io.StringIO()
    telemetry.log_to(stream, "debug", "json")
    logging.getLogger("asyncio").debug("Using selector")
    logging.getLogger("opentelemetry.sdk").warning("queue full")
    assert [line["event"] for line in lines(stream)] == ["queue full"]


async def test_lines_of_a_call_have_its_ids_and_those_of_its_trace() -> None:
    stream = io.StringIO()
    telemetry.log_to(stream, "info", "json")
    log = structlog.get_logger("parley")
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")

    async def call(name: str, *, traced: bool, headers: dict[str, str]) -> Span:
        ctx = context()
        ctx.request_id, ctx.headers = name, headers
        begin(ctx)
        span = tracer.start_span("server")
        if traced:
            ctx.trace = set_span_in_context(span)
        log.info("within")
        await asyncio.create_task(elsewhere())
        lasting.append(asyncio.create_task(later()))
        return span

    async def elsewhere() -> None:
        logging.getLogger("some.library").warning("in a task of the call")

    async def later() -> None:
        await over.wait()
        log.info("long after")

    over, lasting = asyncio.Event(), list[asyncio.Task[None]]()
    span = await asyncio.create_task(call("one", traced=True, headers={}))
    await asyncio.create_task(call("two", traced=False, headers={"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}))
    await asyncio.create_task(call("three", traced=False, headers={}))
    over.set()
    await asyncio.gather(*lasting)
    log.info("outside")

    told = [(line.get("request_id"), line.get("trace_id"), line.get("span_id")) for line in lines(stream)]
    of = span.get_span_context()
    one = ("one", f"{of.trace_id:032x}", f"{of.span_id:016x}")
    two, three, nobody = ("two", "a" * 32, "b" * 16), ("three", None, None), (None, None, None)
    assert told == [one, one, two, two, three, three, nobody, nobody, nobody, nobody]


def test_secrets_of_the_configuration_are_taken_out_whatever_they_look_like() -> None:
    odd, odder = "plain words, no prefix", "plain words, no prefix, and more"
    settings = load(
        "providers: {openai: {api_key: 'env:ODD'}, groq: {api_key: 'env:SHORT'}, "
        "cohere: {api_keys: ['env:ODDER', 'env:ODD']}}",
        {"ODD": odd, "ODDER": odder, "SHORT": "short"},
    )
    assert set(secrets(settings)) == {odd, odder, "short", ""}
    hide(secrets(settings))
    stream = io.StringIO()
    telemetry.log_to(stream, "info", "json")
    structlog.get_logger("parley").info("in short", text=f"({odder}) ({odd})", nested=[{"a": ValueError(odd)}])
    [line] = lines(stream)
    assert line["text"] == "([redacted]) ([redacted])"
    assert line["nested"] == [{"a": "ValueError('[redacted]')"}]
    assert line["event"] == "in short"
