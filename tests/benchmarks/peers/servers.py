"""LiteLLM's proxy and Portkey's gateway, started as their manuals say for production, with as little on as they allow.

Neither writes logs, counts money or sends metrics here; LiteLLM checks one key, as it does not start its proxy without.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.benchmarks.job import Job
from tests.benchmarks.processes import Failed, Process, free_port, running
from tests.benchmarks.servers import Upstream

_FOLDER = Path(__file__).parent
_LITELLM = _FOLDER.parents[2] / ".venv-peers/bin/litellm"
_PORTKEY = _FOLDER / "node_modules/@portkey-ai/gateway"
_START = 180.0  # seconds: LiteLLM imports for half a minute where its bytecode is not there yet
_KEY = "sk-0123456789abcdef0123456789abcdef"


@dataclass(frozen=True)
class Peer:
    """A peer that runs. `share`: how much of what the gateway is asked it is asked too, since it takes its time.

    `rounds`: how often the calls that warm up have to be made.
    """

    process: Process
    share: float
    rounds: int = 1
    headers: Mapping[str, str] = field(default_factory=dict)

    def asked(self, job: Job) -> Job:
        """The job as this one is to be asked."""
        requests = max(job.in_flight, round(job.requests * self.share))
        return replace(job, requests=requests, api="openai", headers=self.headers)


def versions() -> dict[str, str]:
    """Of the packages. Raises Failed, with what to do, if something is missing."""
    if shutil.which("node") is None:
        raise Failed("Portkey needs Node.js (20 or newer), and there is no `node`: install it, or leave --peers out")
    manifest = _PORTKEY / "package.json"
    if not manifest.exists():
        raise Failed(f'{manifest} is missing: `make bench ARGS="--peers"` installs Portkey from its lock')
    [*found] = _LITELLM.parents[1].glob("lib/python3*/site-packages/litellm-*.dist-info")
    if not found or not _LITELLM.exists():
        raise Failed(f'{_LITELLM} is missing: `make bench ARGS="--peers"` installs LiteLLM from its lock')
    litellm = found[0].name.removeprefix("litellm-").removesuffix(".dist-info")
    return {"litellm": litellm, "portkey": json.loads(manifest.read_text())["version"]}


@contextmanager
def peers(folder: Path, mock: Upstream, models: Sequence[str]) -> Iterator[dict[str, Peer]]:
    """Both of them, before the mock upstream, to be asked for `models`; nobody if these are none. Raises Failed."""
    if not models:
        yield {}
        return
    with ExitStack() as stack:
        yield {
            "litellm": stack.enter_context(_litellm(folder, mock, models)),
            "portkey": stack.enter_context(_portkey(folder, mock)),
        }


@contextmanager
def _litellm(folder: Path, mock: Upstream, models: Sequence[str]) -> Iterator[Peer]:
    target = {"api_base": f"http://{mock.process.address}/v1", "api_key": "sk-x"}
    settings = {
        "model_list": [
            {"model_name": model, "litellm_params": {"model": f"openai/{model}", **target}} for model in models
        ],
        "litellm_settings": {"telemetry": False, "set_verbose": False, "num_retries": 0, "request_timeout": 600},
        "general_settings": {"master_key": _KEY, "disable_spend_logs": True},
    }
    config = folder / "litellm.yaml"
    config.write_text(json.dumps(settings))  # which is YAML too
    port = free_port()
    options = {"config": config, "host": "127.0.0.1", "port": port, "num_workers": 1, "telemetry": False}
    command = [str(_LITELLM), *(str(word) for name, value in options.items() for word in (f"--{name}", value))]
    environ = {
        "PYTHONPATH": "",  # ours is not for its environment
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # from its package, not from the network
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",
        "NO_DOCS": "True",
    }
    with running("LiteLLM", command, port, folder / "litellm.log", environ, start=_START) as process:
        yield Peer(process, 0.1, headers={"authorization": f"Bearer {_KEY}"})


@contextmanager
def _portkey(folder: Path, mock: Upstream) -> Iterator[Peer]:
    port = free_port()
    program = _PORTKEY / "build/start-server.js"
    command = ["node", "--require", str(_FOLDER / "loopback.cjs"), str(program), "--headless", f"--port={port}"]
    headers = {
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": f"http://{mock.process.address}/v1",
        "authorization": "Bearer sk-x",
    }
    environ = {"NODE_ENV": "production"}
    with running("Portkey", command, port, folder / "portkey.log", environ, start=_START) as process:
        # The first thousands of calls take twice as long as later ones: V8 compiles what it sees often.
        yield Peer(process, 0.5, 20, headers)
