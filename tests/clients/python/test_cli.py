"""The `parley` command: what goes where, in pipes and in terminals."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from typer.testing import CliRunner, Result

import parley
from parley import v1
from parley.cli import app
from tests.clients.python.peer import Fail, Peer, Stall, deltas, said, wants
from tests.clients.python.test_content import PNG


def run(peer: Peer, *arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(app, arguments, input=stdin, env={"PARLEY_ADDRESS": peer.address})


def test_chat_prints_the_answer_and_nothing_else(peer: Peer) -> None:
    reply = said("It is sunny.")
    reply.message.parts.insert(0, v1.Part(reasoning=v1.ReasoningPart(text="hmm")))
    peer.will(reply)
    result = run(peer, "chat", "mock/echo", "weather?", "--system", "Be brief.", "-t", "0.5", "--max-tokens", "9")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "It is sunny.\n", "")
    request = peer.requests[0]
    assert list(request.messages) == [parley.system("Be brief."), parley.user("weather?")]
    assert request.sampling == v1.SamplingOptions(temperature=0.5, max_output_tokens=9)


def test_what_is_piped_in_is_said(peer: Peer) -> None:
    peer.will(said("x"))
    peer.will(said("y"))
    assert run(peer, "chat", "m", stdin="from the pipe\n").exit_code == 0
    assert run(peer, "chat", "m", "Summarise:", stdin="a\nb\n").exit_code == 0
    assert peer.requests[0].messages[0].parts[0].text == "from the pipe"
    assert peer.requests[1].messages[0].parts[0].text == "Summarise:\n\na\nb"


def test_files_go_along(peer: Peer, tmp_path: Path) -> None:
    picture, notes = tmp_path / "cat.png", tmp_path / "notes.txt"
    picture.write_bytes(PNG)
    notes.write_text("hello")
    peer.will(said("a cat"))
    assert run(peer, "chat", "m", "What is it?", "--image", str(picture), "--document", str(notes)).exit_code == 0
    kinds = [part.WhichOneof("kind") for part in peer.requests[0].messages[0].parts]
    assert kinds == ["image", "document", "text"]


def test_chat_as_json_is_the_response(peer: Peer) -> None:
    peer.will(said("x"))
    written = json.loads(run(peer, "chat", "m", "hi", "--json").stdout)
    assert written["message"]["parts"] == [{"text": "x"}]
    assert written["finishReason"] == "FINISH_REASON_STOP"


def test_tool_calls_warnings_and_odd_endings_are_shown(peer: Peer) -> None:
    reply = wants(("weather", '{"city": "Oslo"}'))
    reply.warnings.append(v1.Warning(message="no seed"))
    peer.will(reply)
    peer.will(said("cut", finish_reason=v1.FINISH_REASON_LENGTH))
    result = run(peer, "chat", "m", "hi")
    assert 'weather({"city": "Oslo"})\n' in result.stdout
    assert result.stderr == "warning: no seed\n"
    assert run(peer, "chat", "m", "hi").stderr == "ended: length\n"


def test_stream_prints_text_as_json_lines_or_plain(peer: Peer) -> None:
    peer.stream(said("Hello 🎉"))
    peer.stream(said("Hello 🎉"))
    result = run(peer, "stream", "m", "hi")
    assert (result.exit_code, result.stdout) == (0, "Hello 🎉\n")
    lines = [json.loads(line) for line in run(peer, "stream", "m", "hi", "--json").stdout.splitlines()]
    assert "started" in lines[0]
    assert lines[-1]["completed"]["finishReason"] == "FINISH_REASON_STOP"


def test_stream_saves_to_a_file_as_well(peer: Peer, tmp_path: Path) -> None:
    peer.stream(said("Hello"))
    path = tmp_path / "answer.txt"
    assert run(peer, "stream", "m", "hi", "--save-to", str(path)).stdout == "Hello\n"
    assert path.read_text() == "Hello"
    peer.will(*deltas("Hel"), Fail(grpc.StatusCode.UNAVAILABLE, "broke off", "STREAM_INTERRUPTED"))
    assert run(peer, "stream", "m", "hi", "--save-to", str(path)).exit_code == 3
    assert path.read_text() == "Hello"
    assert (tmp_path / "answer.txt.part").read_text() == "Hel"


def test_a_broken_stream_keeps_its_text_and_tells_on_a_line_of_its_own(peer: Peer) -> None:
    peer.will(*deltas("Hel"), Fail(grpc.StatusCode.UNAVAILABLE, "broke off", "STREAM_INTERRUPTED"))
    result = run(peer, "stream", "m", "hi")
    assert (result.exit_code, result.stdout) == (3, "Hel\n")
    assert result.stderr == "error: STREAM_INTERRUPTED: broke off\n"


def test_embed_prints_one_array_a_line(peer: Peer) -> None:
    packed = [v1.Embedding(packed=struct.pack("<2f", i, 0.5), dimensions=2) for i in range(2)]
    peer.will(v1.EmbedResponse(model="m", embeddings=packed))
    peer.will(v1.EmbedResponse(model="m", embeddings=packed))
    assert run(peer, "embed", "m", "a", "b", "--dimensions", "2").stdout == "[0.0, 0.5]\n[1.0, 0.5]\n"
    assert peer.requests[0].dimensions == 2
    written = json.loads(run(peer, "embed", "m", "--json", stdin="a\nb\n").stdout)
    assert written["embeddings"] == [[0.0, 0.5], [1.0, 0.5]]
    assert [one.text for one in peer.requests[1].inputs] == ["a", "b"]


def test_rerank_prints_score_number_and_text(peer: Peer) -> None:
    results = [v1.RerankResult(index=1, score=0.75), v1.RerankResult(index=0, score=-1.5)]
    answer = v1.RerankResponse(model="m", results=results, warnings=[v1.Warning(message="no limit")])
    peer.will(answer)
    peer.will(answer)
    result = run(peer, "rerank", "m", "q", "first", "second\tone", "--top-n", "2")
    assert result.stdout == "0.750000\t1\tsecond one\n-1.500000\t0\tfirst\n"
    assert result.stderr == "warning: no limit\n"
    assert peer.requests[0] == v1.RerankRequest(model="m", query="q", documents=["first", "second\tone"], top_n=2)
    written = json.loads(run(peer, "rerank", "m", "q", "--json", stdin="a\n\nb\n").stdout)
    assert written["results"][0] == {"index": 1, "score": 0.75, "document": "b"}
    assert list(peer.requests[1].documents) == ["a", "b"]


def test_models_are_columns_in_a_pipe(peer: Peer) -> None:
    model = v1.Model(id="mock/echo", operations=["chat", "embed"], state=v1.Model.STATE_ACTIVE)
    model.limits.context_tokens = 128_000
    model.pricing.input_nano_usd = 1_250_000_000
    page = v1.ListModelsResponse(models=[model, v1.Model(id="mock/other")])
    peer.will(page)
    peer.will(page)
    result = run(peer, "models", "--provider", "mock", "--operation", "chat", "--capability", "tools")
    assert result.stdout == "mock/echo\tchat,embed\t128000\t1.25\t\tactive\nmock/other\t\t\t\t\t\n"
    assert peer.requests[0] == v1.ListModelsRequest(provider="mock", operation="chat", capabilities=["tools"])
    assert [one["id"] for one in json.loads(run(peer, "models", "--json").stdout)] == ["mock/echo", "mock/other"]


def test_health_is_an_exit_code(peer: Peer) -> None:
    result = run(peer, "health")
    assert (result.exit_code, result.stdout) == (0, "serving\n")
    peer.set_health(serving=False)
    result = run(peer, "health", "--json")
    assert (result.exit_code, json.loads(result.stdout)["health"]) == (1, "not_serving")


def test_errors_are_readable_and_have_exit_codes(peer: Peer) -> None:
    peer.will(Fail(grpc.StatusCode.NOT_FOUND, "no model m\x1b[2J", "MODEL_NOT_FOUND", facts={"requestId": "req-1"}))
    result = run(peer, "chat", "m", "hi")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: MODEL_NOT_FOUND: no model m\ufffd[2J (request req-1)\n"
    result = run(peer, "chat", "m", "hi", "--address", "127.0.0.1:1")
    assert result.exit_code == 3
    assert "is it running?" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["chat", "m"], "nothing to say"),
        (["embed", "m"], "nothing to embed"),
        (["rerank", "m", "q"], "nothing to rank"),
        (["chat", "m", "x", "--image", "no-such-file.png"], "no-such-file.png"),
        (["chat", "m", "x", "--address", "https://example.com"], "an address is host:port"),
        (["chat", "m", "x", "--timeout", "0"], "timeout"),
        (["chat"], "model"),
        (["nonsense"], "nonsense"),
    ],
)
def test_wrong_usage_is_told_with_exit_code_2(peer: Peer, arguments: list[str], told: str) -> None:
    result = run(peer, *arguments)
    assert result.exit_code == 2
    assert told in result.stderr.lower()
    assert "Traceback" not in result.stderr


def test_an_image_of_unknown_kind_is_wrong_usage(peer: Peer, tmp_path: Path) -> None:
    path = tmp_path / "thing"
    path.write_bytes(b"????")
    result = run(peer, "chat", "m", "x", "--image", str(path))
    assert (result.exit_code, "what kind of media" in result.stderr) == (2, True)


@pytest.fixture
def environment(peer: Peer) -> dict[str, str]:
    source = str(Path(parley.__file__).parents[1])
    return {
        **os.environ,
        "PARLEY_ADDRESS": peer.address,
        "PYTHONPATH": source,
        "TERM": "xterm-256color",
        "COLUMNS": "80",
    }


class Terminal:
    """A command in a terminal of its own."""

    def __init__(self, environment: dict[str, str], *arguments: str) -> None:
        self.near, far = pty.openpty()
        command = [sys.executable, "-m", "parley.cli", *arguments]
        self.process = subprocess.Popen(
            command, stdin=far, stdout=far, stderr=far, env=environment, start_new_session=True
        )
        os.close(far)

    def read(self, until: bytes = b"") -> str:
        """What it shows, up to `until` or to its end."""
        shown = b""
        while not until or until not in shown:
            if not select.select([self.near], [], [], 20)[0]:
                raise TimeoutError(shown)
            try:
                shown += os.read(self.near, 65536)
            except OSError:  # the other end is closed
                break
        return shown.decode()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.near)


@pytest.fixture
def terminal(environment: dict[str, str]) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def run(*arguments: str) -> Terminal:
        opened.append(Terminal(environment, *arguments))
        return opened[-1]

    yield run
    for one in opened:
        one.close()


def test_a_terminal_shows_reasoning_dimmed_and_the_cost_at_the_end(
    peer: Peer, terminal: Callable[..., Terminal]
) -> None:
    reply = said(
        "Sunny \x1b]52;c;aGk=\x07[bold]!",
        usage=v1.Usage(input_tokens=3, output_tokens=4, cost=v1.Cost(total_nano_usd=1_500)),
        route=v1.RouteInfo(provider="mock", model="echo"),
    )
    reply.message.parts.insert(0, v1.Part(reasoning=v1.ReasoningPart(text="thinking")))
    peer.stream(reply)
    opened = terminal("stream", "m", "hi")
    shown = opened.read()
    assert opened.process.wait(timeout=20) == 0
    assert "\x1b[2mthinking\x1b[0m" in shown
    assert "Sunny \ufffd]52;c;aGk=\ufffd[bold]!\r\n" in shown  # markup is text, and no control character gets through
    assert "3 tokens in · 4 out · $0.0000015 · mock/echo" in shown
    assert shown.index("thinking") < shown.index("Sunny") < shown.index("tokens in")


def test_a_terminal_shows_text_before_the_answer_is_complete_and_ctrl_c_ends_the_call(
    peer: Peer, terminal: Callable[..., Terminal]
) -> None:
    peer.will(*deltas("Hel", "lo"), Stall())
    opened = terminal("stream", "m", "hi")
    assert opened.read(until=b"Hello").endswith("Hello")
    assert peer.stalled.wait(10)
    opened.process.send_signal(signal.SIGINT)
    assert "Traceback" not in opened.read()
    assert opened.process.wait(timeout=20) == 130
    assert peer.cancelled.wait(10)


def test_a_table_of_models_in_a_terminal(peer: Peer, terminal: Callable[..., Terminal]) -> None:
    peer.will(v1.ListModelsResponse(models=[v1.Model(id="mock/echo", operations=["chat"])]))
    shown = terminal("models").read()
    assert "model" in shown
    assert "mock/echo" in shown


def test_whoever_closes_the_pipe_early_sees_no_traceback(peer: Peer, environment: dict[str, str]) -> None:
    peer.will(*deltas(*["x" * 10_000] * 50), Stall())
    command = f"{sys.executable} -m parley.cli stream m hi | head -c 5"
    done = subprocess.run(
        ["bash", "-c", command], env=environment, capture_output=True, timeout=30, stdin=subprocess.DEVNULL
    )
    assert done.stdout == b"xxxxx"
    assert b"Traceback" not in done.stderr
    assert peer.cancelled.wait(10)
