"""The image without an engine: its Dockerfile's own lines make the environment, and its own command runs in it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from packaging.utils import canonicalize_name

from parley import v1
from parley.v1.gateway_service_pb2_grpc import GatewayServiceStub
from parley_server import __version__
from parley_server.config import Config
from tests.deploy.dockerfile import Dockerfile, below, build, ignored, interpreter, parse
from tests.deploy.renderings import DEPLOY, ROOT, objects, one, rendered
from tests.deploy.staged import stage
from tests.deploy.ties import port_of
from tests.gateway.process import ask, stream
from tests.tools.locks import read

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(600)]
DOCKERFILE = parse((DEPLOY / "Dockerfile").read_text())
STOP = signal.Signals[DOCKERFILE.image.last("STOPSIGNAL").text]
OTHER_USER = os.geteuid() == 0 and interpreter()[1]
NOWHERE = "127.0.0.1:9"
LOCAL = {"PARLEY_SERVER__ADDRESS": "127.0.0.1:0", "PARLEY_ADMIN__ADDRESS": "127.0.0.1:0"}
"""Tests share the machine, and listen on loopback only."""


@dataclass(frozen=True)
class Image:
    """`root`: the folder that stands for the root of its file system."""

    root: Path
    file: Dockerfile

    @property
    def environ(self) -> dict[str, str]:
        """What ENV says, and nothing of this machine's own."""
        return {name: below(self.root, value) for name, value in self.file.image.environ.items()}

    @property
    def command(self) -> list[str]:
        return [*self.file.image.last("ENTRYPOINT").words, *self.file.image.last("CMD").words]

    @property
    def health(self) -> list[str]:
        kind, *command = re.sub(r"^(--\S+ )+", "", self.file.image.last("HEALTHCHECK").text).split(" ", 1)
        assert kind == "CMD"
        return list(json.loads(command[0]))

    def as_user(self, command: list[str]) -> list[str]:
        """The command as the image's user, without any capability, or as whoever runs the tests if that cannot be."""
        if not OTHER_USER:
            return command
        user, _, group = self.file.image.last("USER").text.partition(":")
        powers = ("--clear-groups", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all")
        return ["setpriv", f"--reuid={user}", f"--regid={group}", *powers, *command]

    def run(self, command: list[str], environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.as_user(command),
            cwd=self.root,
            env={**self.environ, **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    folder = Path(tempfile.mkdtemp(prefix="parley-image-"))  # not tmp_path: other users may not look into that
    try:
        folder.chmod(0o755)
        root = build(DOCKERFILE, ROOT, folder)
        subprocess.run(["chmod", "-R", "a-w,a+rX", str(root)], check=True)
        yield Image(root, DOCKERFILE)
    finally:
        subprocess.run(["chmod", "-R", "u+w", str(folder)], check=False)
        shutil.rmtree(folder)


@dataclass
class Running:
    """A gateway that was started by the image's command. `log`: its lines so far, as objects."""

    process: asyncio.subprocess.Process
    log: list[dict[str, Any]]

    @property
    def serving(self) -> dict[str, Any]:
        [line] = [line for line in self.log if line.get("event") == "serving"]
        return line

    @property
    def admin(self) -> dict[str, str]:
        """What tells the health command where to ask."""
        return {"PARLEY_ADMIN__ADDRESS": f"127.0.0.1:{self.serving['admin_port']}"}


@asynccontextmanager
async def started(image: Image, environ: Mapping[str, str]) -> AsyncIterator[Running]:
    """The image's command with further variables, as `docker run --read-only --env …` would start it."""
    process = await asyncio.create_subprocess_exec(
        *image.as_user(image.command),
        cwd=image.root,
        env={**image.environ, **environ},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    log: list[dict[str, Any]] = []
    serving = asyncio.Event()

    async def follow() -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            log.append(json.loads(line) if line.startswith(b"{") else {"event": line.decode().rstrip()})
            if log[-1]["event"] == "serving":
                serving.set()
        serving.set()

    following = asyncio.create_task(follow())
    try:
        await asyncio.wait_for(serving.wait(), 60)
        assert process.returncode is None, log
        yield Running(process, log)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await following


def test_the_base_is_pinned_and_nobody_is_root() -> None:
    assert [*DOCKERFILE.arguments] == ["PYTHON"]
    assert re.fullmatch(r"\S+/python:3\.1[1-3]-slim-\w+@sha256:[0-9a-f]{64}", DOCKERFILE.arguments["PYTHON"])
    assert len(DOCKERFILE.stages) == 3
    assert all(stage.base == DOCKERFILE.arguments["PYTHON"] for stage in DOCKERFILE.stages)
    image = DOCKERFILE.image
    user = one(objects(rendered("base")), "Deployment", "parley")["spec"]["template"]["spec"]["securityContext"]
    assert image.last("USER").text == f"{user['runAsUser']}:{user['runAsGroup']}"
    assert image.every("RUN") == []
    ports = [port_of(Config().server.address), port_of(Config().admin.address)]
    assert [int(word) for word in image.last("EXPOSE").words] == ports
    for name in ("ENTRYPOINT", "CMD"):
        assert image.last(name).text.startswith("["), "a shell would keep signals from the gateway"


def test_nothing_else_is_sent_to_the_builder() -> None:
    rules = (ROOT / ".dockerignore").read_text()
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    sent = [path for path in listed.splitlines() if not ignored(path, rules)]
    copies = [it for stage in DOCKERFILE.stages for it in stage.every("COPY") if not it.flags]
    copied = [word for it in copies for word in it.words[:-1]]
    assert copied
    assert [path for path in sent if not any(path == word or path.startswith(f"{word}/") for word in copied)] == []
    for path in (".env", ".git/config", "server/parley_server/x/__pycache__/a.pyc", "tests/fakes.py", "key.pem"):
        assert ignored(path, rules), path


def test_the_environment_holds_the_lock_and_the_two_wheels(image: Image) -> None:
    locked, _ = read((DEPLOY / "requirements.lock").read_text())
    program = "import importlib.metadata; print(*(found.name for found in importlib.metadata.distributions()))"
    done = image.run(["python", "-c", program], {})
    there = {canonicalize_name(name) for name in done.stdout.split()}
    assert {"parley-client", "parley-server", "grpcio", "redis", "cryptography", "botocore"} <= there
    assert there - {"parley-client", "parley-server"} <= locked.keys()
    assert "pip" not in there
    assert image.run(["parley-server", "version"], {}).stdout == f"{__version__}\n"


def test_it_refuses_to_let_everybody_in(image: Image) -> None:
    done = image.run(image.command, {})
    assert done.returncode == 2
    assert "0.0.0.0 is reachable from other machines, and nothing authenticates callers" in done.stderr
    assert "server.insecure: true" in done.stderr


async def test_it_serves_tells_its_health_and_drains(image: Image) -> None:
    if OTHER_USER:
        assert image.run(["id", "-u"], {}).stdout == "65532\n"
    else:
        print("as the user of the tests: they are not run by root, or nobody else may run this Python")
    if OTHER_USER or os.geteuid() != 0:
        assert image.run(["sh", "-c", "touch x"], {}).returncode != 0, "the root file system can be written to"
    models = json.dumps({"slow": {"reply": "one two three four five six", "token_delay": 0.2}})
    settings = {"PARLEY_SERVER__INSECURE": "true", "PARLEY_PROVIDERS__MOCK__MODELS": models}
    async with started(image, LOCAL | settings | {"OLLAMA_HOST": NOWHERE}) as gateway:
        assert image.run(image.health, gateway.admin).stdout == "SERVING\n"
        async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.serving['port']}") as channel:
            stub: Any = GatewayServiceStub(channel)
            answer = await stub.Chat(ask("mock/echo", "hello"))
            assert answer.message.parts[0].text == "hello"
            call = stub.StreamChat(stream("mock/slow"))
            events = aiter(call)
            await anext(events)
            gateway.process.send_signal(STOP)
            await until_not_serving(image, gateway)
            rest = [event async for event in events]
        assert rest[-1].HasField("completed")
        assert await asyncio.wait_for(gateway.process.wait(), 30) == 0
    assert gateway.log[-1]["event"] == "stopped"
    assert gateway.log[-1]["cut_off"] == 0
    done = image.run(image.health, gateway.admin)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)


def scraped(url: str) -> str:
    """What Prometheus finds there."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


async def until_not_serving(image: Image, gateway: Running) -> None:
    for _ in range(100):
        done = await asyncio.to_thread(image.run, image.health, gateway.admin)
        if done.returncode:
            break
    assert (done.returncode, done.stdout) == (1, "NOT_SERVING\n")


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that other users may look into."""
    with tempfile.TemporaryDirectory(prefix="parley-pod-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


async def test_it_serves_what_the_overlay_production_mounts(image: Image, folder: Path) -> None:
    """With TLS, callers, secrets as files; without any of what stands beside it, all of which is away."""
    found = objects(rendered("production"))
    staged = stage(found, folder)
    away = {
        "PARLEY_ADMIN__METRICS_ADDRESS": "127.0.0.1:0",
        "PARLEY_SERVER__DRAIN_DELAY": "0",
        "PARLEY_REDIS__URL": f"rediss://{NOWHERE}/0",
        "PARLEY_PROVIDERS__OPENAI__BASE_URL": f"http://{NOWHERE}",
        "PARLEY_PROVIDERS__ANTHROPIC__BASE_URL": f"http://{NOWHERE}",
        "PARLEY_PROVIDERS__MOCK__KIND": "mock",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{NOWHERE}",
    }
    environ = staged.environ | LOCAL | away | {"PARLEY_CONFIG": str(staged.config)}
    async with started(image, environ) as gateway:
        container = one(found, "Deployment", "parley")["spec"]["template"]["spec"]["containers"][0]
        for key in ("startupProbe", "readinessProbe", "livenessProbe"):
            probed = image.run(["parley-server", "health", container[key]["grpc"]["service"]], gateway.admin)
            assert (probed.stdout, probed.stderr) == ("SERVING\n", "")
        tls = folder / "run/secrets/parley/tls"
        trusted = grpc.ssl_channel_credentials((tls / "ca.crt").read_bytes())
        name = one(found, "Certificate", "parley")["spec"]["dnsNames"][-1]
        options = [("grpc.ssl_target_name_override", name)]
        async with grpc.aio.secure_channel(f"127.0.0.1:{gateway.serving['port']}", trusted, options) as channel:
            stub: Any = GatewayServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.Chat(ask("mock/echo", "hello"))
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
            key = (folder / "run/secrets/parley/callers/billing").read_text()
            answer: v1.ChatResponse = await stub.Chat(
                ask("mock/echo", "hello"), metadata=(("authorization", f"Bearer {key}"),)
            )
            assert answer.message.parts[0].text == "hello"
        metrics = one(found, "HorizontalPodAutoscaler", "parley")["spec"]["metrics"]
        [name] = [metric["pods"]["metric"]["name"] for metric in metrics if metric["type"] == "Pods"]
        [end] = one(found, "PodMonitor", "parley")["spec"]["podMetricsEndpoints"]
        said = await asyncio.to_thread(scraped, f"http://127.0.0.1:{gateway.serving['metrics_port']}{end['path']}")
        assert re.search(rf"^{name}(\{{.*\}})? 0(\.0)?$", said, re.MULTILINE), said
        gateway.process.send_signal(STOP)
        assert await asyncio.wait_for(gateway.process.wait(), 30) == 0
    assert not [line for line in gateway.log if "Traceback" in str(line) or line["event"] == "bug"]
