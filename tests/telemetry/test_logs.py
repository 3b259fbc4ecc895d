"""One line per event, without credentials."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from parley import v1
from parley_server import telemetry

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
