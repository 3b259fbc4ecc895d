"""The conformance runner finds what is wrong: a dialect that errs is caught, on invented exchanges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from parley import v1
from parley_server.core.target import Target
from parley_server.dialects.openai_chat import OpenAIChat, Quirks
from tests.conformance.openai import OpenAIChatAdapter
from tests.conformance.report import Report, run

REQUEST = {
    "model": "gpt-4o",
    "messages": [{"role": "user", "content": "hi"}],
    "temperature": 0.5,
    "tools": [
        {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {}}}}}
    ],
}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
ANSWER = {
    "id": "r1",
    "model": "gpt-4o-1",
    "choices": [{"index": 0, "message": {"content": "Hi", "tool_calls": [CALL]}, "finish_reason": "tool_calls"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
}
REFUSED = {"error": {"message": "no", "type": "invalid_request_error", "code": "invalid_api_key"}}


def chunks() -> str:
    deltas: list[dict[str, Any]] = [{"content": "H"}, {"content": "i"}, {"tool_calls": [{"index": 0, **CALL}]}]
    said = [{"id": "r1", "model": "gpt-4o-1", "choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    end = {"id": "r1", "model": "gpt-4o-1", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}
    usage = {"choices": [], "usage": ANSWER["usage"]}
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in (*said, end, usage)) + "data: [DONE]\n\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    exchanges: dict[str, tuple[int, str, str]] = {
        "unary": (200, "application/json", json.dumps(ANSWER)),
        "stream": (200, "text/event-stream", chunks()),
        "error": (401, "application/json", json.dumps(REFUSED)),
    }
    (tmp_path / "openai").mkdir()
    for name, (status, content_type, body) in exchanges.items():
        request = REQUEST | ({"stream": True} if name == "stream" else {})
        recording = {
            "provider": "openai",
            "api": "chat",
            "model": "gpt-4o",
            "path": "/v1/chat/completions",
            "tags": ["tools", "tool_call"],
            "request": {"body": request},
            "response": {"status": status, "headers": {"Content-Type": content_type}, "body": body},
        }
        (tmp_path / "openai" / f"chat--{name}--00.json").write_text(json.dumps(recording))
    return tmp_path


def report(folder: Path, dialect: OpenAIChat | None = None) -> Report:
    adapter = OpenAIChatAdapter("openai-chat", home=True, quirks=Quirks.openai())
    adapter._dialect = dialect or adapter._dialect
    return run(folder, [adapter])


def checks(found: Report) -> set[tuple[str, str]]:
    return {(miss.file.split("--")[1], miss.check) for miss in found.misses}


def test_all_is_well(folder: Path) -> None:
    found = report(folder)
    assert found.misses == []
    assert found.good
    assert found.lines()[-1] == "conformance: 3 of 3"


def test_nothing_to_check_is_not_good(tmp_path: Path) -> None:
    found = report(tmp_path)
    assert not found.good
    assert found.lines()[-1] == "conformance: 0 of 0"


def test_lost_field_of_a_request_is_caught(folder: Path) -> None:
    found = report(folder, OpenAIChat(Quirks(missing=frozenset({"temperature"}), done_marker=True)))
    assert checks(found) == {("unary", "request"), ("stream", "request"), ("error", "request")}
    assert not found.good


def test_wrong_answers_replays_and_errors_are_caught(folder: Path) -> None:
    class Forgetful(OpenAIChat):
        def decode(self, body: bytes, target: Target) -> v1.ChatResponse:
            response = super().decode(body, target)
            del response.message.parts[1:]
            return response

        def error(self, status: Any, headers: Any, body: bytes, target: Target) -> Any:
            return super().error(500, headers, b"", target)

    assert checks(report(folder, Forgetful())) == {("unary", "answer"), ("unary", "replay"), ("error", "error")}


def test_exception_of_a_dialect_is_a_miss_and_not_the_end(folder: Path) -> None:
    class Broken(OpenAIChat):
        def decoder(self, target: Target) -> Any:
            raise RuntimeError("boom")

    found = report(folder, Broken())
    assert checks(found) == {("stream", "answer"), ("stream", "replay")}
    assert found.all == 3
