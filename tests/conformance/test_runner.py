"""The conformance runner finds what is wrong: a dialect that errs is caught, on invented exchanges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from parley import v1
from parley_server.core.errors import CredentialsRejected, GatewayError
from parley_server.core.target import Target
from parley_server.dialects.base import HttpCall
from parley_server.dialects.openai_chat import OpenAIChat, Quirks
from tests.conformance.__main__ import main
from tests.conformance.adapter import AnyAdapter, RerankAdapter
from tests.conformance.openai import OpenAIChatAdapter
from tests.conformance.recording import Recording
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


def chat_adapter(dialect: OpenAIChat | None = None) -> OpenAIChatAdapter:
    speaks = dialect or OpenAIChat(Quirks.openai())
    return OpenAIChatAdapter(("openai",), Quirks.openai(), lambda _target: speaks)


def report(folder: Path, dialect: OpenAIChat | None = None) -> Report:
    return run(folder, [chat_adapter(dialect)])


def write(folder: Path, name: str, **fields: Any) -> None:
    """Another recording; what is not given is as in the one called unary."""
    folder.mkdir(exist_ok=True)
    response = {"status": 200, "headers": {"Content-Type": "application/json"}, "body": json.dumps(ANSWER)}
    recording = {"provider": folder.name, "api": "chat", "request": {"body": REQUEST}, "response": response, **fields}
    (folder / name).write_text(json.dumps(recording))


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


def test_every_folder_has_a_row_and_all_of_them_a_sum(folder: Path) -> None:
    write(folder / "openai", "chat--pictures--00.json", tags=["vision", "document"])
    found = report(folder)
    heading, row, total, last = found.lines()
    kinds = heading.split()
    assert kinds[:3] == ["unary", "stream", "tools"]
    assert kinds[-5:] == ["rerank", "errors", "all", "left", "out"]
    kinds = [*kinds[:-2], "left out"]
    name, *cells = row.split()
    assert name == "openai"
    by_kind = dict(zip(kinds, cells, strict=True))
    assert (by_kind["unary"], by_kind["stream"], by_kind["tools"], by_kind["errors"]) == ("2/2", "1/1", "3/3", "1/1")
    assert (by_kind["vision"], by_kind["document"], by_kind["embeddings"]) == ("1/1", "1/1", "·")
    assert (by_kind["all"], by_kind["left out"]) == ("4/4", "·")
    assert total.split() == ["total", *cells]
    assert last == "conformance: 4 of 4"


def test_what_no_adapter_covers_is_listed_with_the_reason(folder: Path) -> None:
    write(folder / "openai", "images--cat--00.json", api="images")
    write(folder / "acme", "chat--one--00.json")
    write(folder / "acme", "chat--two--00.json")
    (folder / "terminals").mkdir()
    found = report(folder)
    lines = found.lines()
    assert "not covered: openai: 1 × images: no operation of parley.v1: the making of images" in lines
    assert "not covered: acme: 2 × chat: no adapter (nothing of this folder is counted)" in lines
    assert "unreadable: terminals/: there are no recorded exchanges in this folder" in lines
    assert (found.passed, found.all) == (3, 3)
    *_, acme, openai, terminals, total, _ = lines
    assert acme.split() == ["acme", *["·"] * 13, "2"]
    assert openai.split()[-2:] == ["3/3", "1"]
    assert terminals.split() == ["terminals", *["·"] * 14]
    assert total.split()[-2:] == ["3/3", "3"]


def test_a_file_that_is_no_recording_is_listed_and_the_rest_is_checked(folder: Path) -> None:
    (folder / "index.json").write_text("{}")
    (folder / "openai" / "index.json").write_text("{}")
    (folder / "openai" / "chat--cut--00.json").write_text('{"provider": "openai", ')
    (folder / "openai" / "chat--list--00.json").write_text("[]")
    (folder / "openai" / "chat--half--00.json").write_text('{"provider": "openai", "api": "chat"}')
    (folder / "openai" / "chat--latin--00.json").write_bytes(b'{"note": "caf\xe9"}')
    found = report(folder)
    assert [file for file, _ in found.unreadable] == [
        f"openai/chat--{name}--00.json" for name in ("cut", "half", "latin", "list")
    ]
    assert "unreadable: openai/chat--half--00.json: KeyError: 'response'" in found.lines()
    assert found.lines()[-1] == "conformance: 3 of 3"


def test_provider_and_endpoint_may_be_told_by_the_path_alone(folder: Path) -> None:
    response = {"status": 200, "body": json.dumps(ANSWER)}
    bare = {"model": "gpt-4o", "request": {"body": REQUEST}, "response": response}
    (folder / "openai" / "chat--bare.json").write_text(json.dumps(bare))
    assert report(folder).lines()[-1] == "conformance: 4 of 4"


def test_an_adapter_that_chokes_on_a_recording_misses_it(folder: Path) -> None:
    class Choking(OpenAIChatAdapter):
        def out_of_scope(self, recording: Recording) -> str:
            raise KeyError("model")

    found = run(folder, [Choking(("openai",), Quirks.openai(), lambda _target: OpenAIChat())])
    assert checks(found) == {(name, "adapter") for name in ("unary", "stream", "error")}
    assert (found.passed, found.all) == (0, 3)


@pytest.mark.parametrize(("good", "bad", "enough"), [(99, 1, True), (98, 2, False), (1, 0, True), (0, 0, False)])
def test_ninety_nine_of_a_hundred_are_enough(good: int, bad: int, enough: bool) -> None:
    assert Report(passed=good, all=good + bad).good is enough


RANKED = {"results": [{"index": 1, "relevance_score": 0.75}, {"index": 0, "relevance_score": 0.5}]}


class Ranks:
    """A reranking dialect; `wrong` turns its results round."""

    def __init__(self, *, wrong: bool = False) -> None:
        self.wrong = wrong

    def encode(self, request: v1.RerankRequest, target: Target) -> HttpCall:
        return HttpCall("/rerank", json.dumps({"query": request.query, "documents": [*request.documents]}).encode())

    def decode(self, body: bytes, target: Target) -> v1.RerankResponse:
        rows = json.loads(body)["results"]
        results = [v1.RerankResult(index=row["index"], score=row["relevance_score"]) for row in rows]
        return v1.RerankResponse(results=reversed(results) if self.wrong else results)

    def error(self, status: int, headers: Any, body: bytes, target: Target) -> GatewayError:
        said = v1.ProviderError(provider=target.provider, http_status=status, message="no")
        return CredentialsRejected("no", provider_error=said)


class RanksAdapter:
    name = "ranks"
    operation: Any = "rerank"

    def __init__(self, dialect: Ranks) -> None:
        self._dialect = dialect

    def covers(self, recording: Recording) -> bool:
        return recording.api == "rerank"

    def out_of_scope(self, recording: Recording) -> str:
        return ""

    def dialect(self, recording: Recording) -> Ranks:
        return self._dialect

    def target(self, recording: Recording) -> Target:
        return Target(recording.provider, recording.model)

    def read(self, recording: Recording) -> tuple[list[tuple[int, float]], dict[str, int]]:
        return [(1, 0.75), (0, 0.5)], {}

    def request(self, recording: Recording) -> v1.RerankRequest:
        return v1.RerankRequest(**recording.request)

    def normal(self, body: Any) -> Any:
        return body

    def failure(self, recording: Recording) -> type[GatewayError]:
        return CredentialsRejected


@pytest.mark.parametrize("wrong", [False, True])
def test_rankings_are_checked_and_have_a_column(folder: Path, wrong: bool) -> None:
    asked = {"body": {"query": "q", "documents": ["a", "b"]}}
    write(folder / "openai", "rerank--one--00.json", api="rerank", request=asked, response=_ok(RANKED))
    write(folder / "openai", "rerank--no--00.json", api="rerank", request=asked, response={"status": 401})
    adapter: RerankAdapter = RanksAdapter(Ranks(wrong=wrong))
    both: list[AnyAdapter] = [chat_adapter(), adapter]
    found = run(folder, both)
    heading, cells = (line.replace("left out", "left").split() for line in found.lines()[-4:-2])
    row = dict(zip(heading, cells[1:], strict=True))
    assert row["rerank"] == ("1/2" if wrong else "2/2")
    assert checks(found) == ({("one", "answer")} if wrong else set())
    assert row["unary"] == "1/1"


def _ok(body: Any) -> dict[str, Any]:
    return {"status": 200, "headers": {"Content-Type": "application/json"}, "body": json.dumps(body)}


def test_the_command_prints_the_report_and_says_whether_it_is_good(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["conformance", str(folder)])
    assert main() == 0
    assert capsys.readouterr().out.splitlines()[-1] == "conformance: 3 of 3"
    monkeypatch.setattr("sys.argv", ["conformance", str(folder), "--provider", "nobody"])
    assert main() == 1
    monkeypatch.setattr("sys.argv", ["conformance", str(folder / "missing")])
    assert main() == 2
