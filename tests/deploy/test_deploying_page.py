"""What docs/deploying.md shows: commands run as far as they can without engine and cluster, YAML means something."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from typer.testing import CliRunner

from parley_server.api.health import NAMES
from parley_server.cli import app
from parley_server.config import Config, load
from tests.deploy.renderings import COMPONENTS, KUSTOMIZE, OVERLAYS, ROOT, kustomize, objects, one, rendered
from tests.deploy.staged import environment, stage
from tests.deploy.ties import STOPPING, faults, gateway, port_of, prometheus_names
from tests.docs.blocks import DOCS, Block, blocks
from tests.gateway.process import Gateway, config
from tests.gateway.process import gateway as started
from tests.gateway.test_readme import run

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(120)]
ASYNC = pytest.mark.asyncio(loop_scope="module")
PAGE = (DOCS / "deploying.md").read_text("utf-8")
BLOCKS = blocks("deploying.md")
INDENTED = re.findall(r"^  ```(\w+)\n(.*?)^  ```$", PAGE, re.MULTILINE | re.DOTALL)


def chosen(language: str) -> list[Block]:
    return [block for block in BLOCKS if block.language == language]


def commands(program: str) -> list[list[str]]:
    lines = [line for block in chosen("sh") for line in block.text.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith(f"{program} ")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    async with started(config(), tmp_path_factory.mktemp("gateway")) as server:
        yield server


def test_every_command_is_of_a_program_that_is_tested_here() -> None:
    lines = [line for block in chosen("sh") for line in block.text.splitlines()]
    assert {line.split()[0] for line in lines} == {"docker", "kubectl", "parley-server"}
    assert {block.language for block in BLOCKS} | {language for language, _ in INDENTED} == {"sh", "yaml", "python"}


def test_docker_is_pointed_at_files_that_are_there() -> None:
    build, compose = commands("docker")
    assert build[0] == "build"
    assert compose[0] == "compose"
    for arguments in (build, compose):
        assert (ROOT / arguments[arguments.index("-f") + 1]).is_file()
    image = one(objects(rendered("base")), "Deployment", "parley")["spec"]["template"]["spec"]["containers"][0]["image"]
    assert build[build.index("-t") + 1] == image


def test_kubectl_names_what_is_in_the_manifests() -> None:
    apply, status, forward, *others = commands("kubectl")
    assert apply[:2] == ["apply", "-k"]
    found = objects(kustomize(ROOT / apply[2]))
    names = {(it["kind"].lower(), it["metadata"]["name"]) for it in found}
    for arguments in (status, forward):
        assert ("namespace", arguments[arguments.index("-n") + 1]) in names
        [target] = [word for word in arguments if "/" in word]
        assert tuple(target.split("/")) in names
    assert forward[-1] == "50051:50051"
    secrets = [arguments for arguments in others if arguments[0] == "create"]
    mounted = {
        volume["secret"]["secretName"]
        for volume in one(found, "Deployment", "parley")["spec"]["template"]["spec"]["volumes"]
        if "secret" in volume
    }
    assert {arguments[3] for arguments in secrets} == mounted
    for arguments in secrets:
        made = subprocess.run(
            ["kubectl", *arguments, "--dry-run=client", "--output=yaml"], capture_output=True, text=True, check=True
        )
        assert yaml.safe_load(made.stdout)["kind"] == "Secret"
    [[_, _, _, label]] = [arguments for arguments in others if arguments[0] == "label"]
    policy = one(objects(rendered("network-policy")), "NetworkPolicy", "parley")
    peers = [peer for rule in policy["spec"]["ingress"] for peer in rule["from"]]
    assert dict([label.split("=")]) in [peer["namespaceSelector"]["matchLabels"] for peer in peers]


def test_the_key_that_a_secret_is_made_of() -> None:
    [line] = [line for block in chosen("sh") for line in block.text.splitlines() if "new-key" in line]
    [piped] = re.findall(r"\$\((.*)\)", line)
    piped = piped.replace("parley-server", f"{shlex.quote(sys.executable)} -m parley_server")
    made = subprocess.run(["sh", "-ec", piped], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"sk-parley-\S{40,}\n", made.stdout)


def test_the_health_command_and_its_exit_codes(running: Gateway) -> None:
    [arguments] = commands("parley-server")
    said = [word.replace("127.0.0.1:50052", f"127.0.0.1:{running.admin_port}") for word in arguments]
    assert said != arguments
    assert CliRunner().invoke(app, said).exit_code == 0
    assert CliRunner().invoke(app, [word.replace("readiness", "x") for word in said]).exit_code == 2
    assert CliRunner().invoke(app, [*said[:-1], "127.0.0.1:9"]).exit_code == 1
    names = re.findall(r"`(\w+)`", re.findall(r"no such name; names are (.*) \|", PAGE)[0])
    assert {*names} - {"stores"} <= {*NAMES}


@ASYNC
async def test_the_client_that_balances_by_itself(running: Gateway, tmp_path: Path) -> None:
    [snippet] = [text for language, text in INDENTED if language == "python"]
    lines = [line.removeprefix("  ") for line in snippet.splitlines()]
    address = "parley-headless.parley.svc.cluster.local:50051"
    assert any(address in line for line in lines)
    program = "\n".join(lines).replace(address, f"localhost:{running.port}")
    assert await run(sys.executable, "-c", program, cwd=tmp_path) == "hello\n"
    namespace = one(objects(rendered("base")), "Service", "parley-headless")["metadata"]["namespace"]
    assert address.startswith(f"parley-headless.{namespace}.")


def test_an_overlay_of_ones_own_agrees_with_the_code() -> None:
    [text] = [block.text for block in chosen("yaml") if "kind: Kustomization" in block.text]
    folder = KUSTOMIZE / "overlays" / "of-a-test"
    folder.mkdir()
    try:
        (folder / "kustomization.yaml").write_text(text)
        found = objects(kustomize(folder))
    finally:
        for path in (folder / "kustomization.yaml", folder):
            path.unlink() if path.is_file() else path.rmdir()
    assert faults(found) == []
    assert environment(found)["PARLEY_REDIS__URL"].startswith("redis://redis.databases")
    assert environment(found)["PARLEY_SERVER__DRAIN"] == "60"


def test_the_configuration_finds_its_secrets(tmp_path: Path) -> None:
    [text] = [block.text for block in chosen("yaml") if "callers:" in block.text]
    found = objects(rendered("external-secrets"))
    one(found, "ConfigMap", "parley-config")["data"]["parley.yaml"] = text
    staged = stage(found, tmp_path)
    loaded = load(staged.config.read_text(), staged.environ)
    assert loaded.callers is not None
    assert "openai" in loaded.providers


def test_metrics_that_are_named_are_there() -> None:
    [text] = [text for language, text in INDENTED if language == "yaml"]
    [rule] = yaml.safe_load(text)["rules"]
    metrics = one(objects(rendered("autoscaling")), "HorizontalPodAutoscaler", "parley")["spec"]["metrics"]
    [name] = [metric["pods"]["metric"]["name"] for metric in metrics if metric["type"] == "Pods"]
    assert rule["name"]["as"] == name == rule["seriesQuery"].partition("{")[0]
    named = set(re.findall(r"\bparley_(?!server\b)\w+", PAGE))
    assert named <= prometheus_names() | {"parley_config_refused"}


def test_the_tables_say_what_is_so() -> None:
    listed = re.findall(r"^\| `([a-z-]+)` \| ", PAGE.partition("| component |")[2].partition("\n\n")[0], re.MULTILINE)
    assert sorted(listed) == COMPONENTS
    assert all(f"**{name}**" in PAGE for name in OVERLAYS)
    ports = [int(port) for port in re.findall(r"^\| (\d{4,5}) \|", PAGE, re.MULTILINE)]
    assert ports == [port["containerPort"] for port in gateway(objects(rendered("base")))["ports"]]
    assert ports[:2] == [port_of(Config().server.address), port_of(Config().admin.address)]


def test_the_arithmetic_of_a_rolling_update() -> None:
    found = objects(rendered("production"))
    settings: dict[str, Any] = environment(found)
    section = PAGE.partition("### Rolling updates")[2].partition("\n### ")[0]
    for name, value in re.findall(r"`(PARLEY_\w+)=(\d+)`", PAGE.partition("## Kubernetes")[2]):
        assert settings[name] == value, name
    delay, drain = (float(settings[f"PARLEY_SERVER__{name}"]) for name in ("DRAIN_DELAY", "DRAIN"))
    ends = [int(end) for end in re.findall(r"^\| (?:0 )?– (\d+) \|", section, re.MULTILINE)]
    assert ends == [delay, delay + drain, delay + drain + 15]
    assert STOPPING <= 15
    grace = one(found, "Deployment", "parley")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert f"`terminationGracePeriodSeconds: {grace}`" in section
    kept = Config().cache.memory_bytes + Config().idempotency.max_bytes + Config().resume.total_bytes
    assert f"{kept // 1024**2} MiB together" in PAGE
