"""compose.yaml and the collector's configuration agree with the code and with each other. There is no engine to ask."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from parley_server import __version__
from parley_server.config import Config, load
from parley_server.providers.kinds import known
from tests.deploy.dockerfile import parse
from tests.deploy.renderings import DEPLOY, objects, of_kind, one, rendered
from tests.deploy.ties import STOPPING, port_of
from tests.stores.servers import VALKEY, ask, free_port

pytestmark = pytest.mark.deploy
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
COLLECTOR: dict[str, Any] = yaml.safe_load((DEPLOY / "otel" / "collector.yaml").read_text())
PINNED = re.compile(r"[a-z0-9.-]+\.io/[a-z0-9/-]+:[\w.-]+@sha256:[0-9a-f]{64}")


def test_images_are_pinned_by_version_and_digest() -> None:
    for name, service in SERVICES.items():
        if "build" in service:
            assert service["image"] == f"parley:{__version__}"
            assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
        else:
            assert PINNED.fullmatch(service["image"]), name
    assert {name for name, service in SERVICES.items() if "build" in service} == {"gateway"}


def test_the_same_images_are_in_the_cluster() -> None:
    here = {digest(service["image"]) for service in SERVICES.values() if "build" not in service}
    for name in ("redis", "otel"):
        for it in of_kind(objects(rendered(name)), "Deployment"):
            image = it["spec"]["template"]["spec"]["containers"][0]["image"]
            assert it["metadata"]["name"] == "parley" or digest(image) in here


def digest(image: str) -> str:
    return image.rpartition("@")[2]


def test_the_gateway_is_configured_with_what_there_is() -> None:
    gateway = SERVICES["gateway"]
    environ = {name: value for name, value in gateway["environment"].items() if value is not None}
    assert all(isinstance(value, str) for value in environ.values()), "YAML would turn true into something else"
    config = load((DEPLOY / "parley.yaml").read_text(), parse_environment() | environ)
    assert config.server.insecure
    assert [port_of(address) for address in (config.server.address, config.admin.address)] == [
        port_of(address) for address in (Config().server.address, Config().admin.address)
    ]
    assert config.redis.hosts == (("redis", 6379),)
    assert config.telemetry.enabled
    end = urlsplit(environ["OTEL_EXPORTER_OTLP_ENDPOINT"])
    listens = COLLECTOR["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"]
    assert (end.hostname, end.port) == ("otel-collector", port_of(listens))
    ollama: Any = config.providers["ollama"]
    assert urlsplit(ollama.base_url).hostname == "ollama"
    assert seconds(gateway["stop_grace_period"]) >= config.server.drain_delay + config.server.drain + STOPPING


def parse_environment() -> dict[str, str]:
    """What the image sets."""
    return parse((DEPLOY / "Dockerfile").read_text()).image.environ


def test_keys_that_are_passed_on_are_those_of_providers() -> None:
    usual = {name for kind in known().values() for names in kind.settings.variables.values() for name in names}
    passed = {name for name, value in SERVICES["gateway"]["environment"].items() if value is None}
    assert passed
    assert passed <= usual


def test_nothing_is_published_beyond_this_machine() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    for port in published:
        assert re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port), port


def test_services_mean_one_another() -> None:
    for service in SERVICES.values():
        for name, wait in service.get("depends_on", {}).items():
            assert wait["condition"] == "service_started" or "healthcheck" in SERVICES[name]
        for volume in service.get("volumes", []):
            source, target, *_ = volume.split(":")
            assert target.startswith("/")
            assert source in COMPOSE["volumes"] or (DEPLOY / source).is_file()
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["cap_drop"] == ["ALL"]


def test_valkey_takes_its_arguments() -> None:
    """The real server, once with those of each place; only the port is another."""
    [_, *compose] = SERVICES["redis"]["command"]
    [_, *cluster] = container(rendered("redis"), "parley-redis")["args"]
    for arguments in (compose, cluster):
        port = free_port()
        server = subprocess.Popen(
            [VALKEY, *arguments, "--port", str(port), "--bind", "127.0.0.1"], stdout=subprocess.DEVNULL
        )
        try:
            assert _answer(port) == "volatile-ttl"
        finally:
            server.terminate()
            assert server.wait(10) == 0


def _answer(port: int) -> str:
    for _ in range(500):
        try:
            return ask(port, "CONFIG", "GET", "maxmemory-policy").split()[-1]
        except OSError:
            time.sleep(0.02)
    raise AssertionError("it did not answer")


# ------------------------------------------------------------------------------------------------------- the collector


def test_pipelines_are_made_of_what_is_configured() -> None:
    for name, pipeline in COLLECTOR["service"]["pipelines"].items():
        for part in ("receivers", "processors", "exporters"):
            assert set(pipeline[part]) <= COLLECTOR[part].keys(), (name, part)
        assert pipeline["processors"][0] == "memory_limiter"
    assert set(COLLECTOR["service"]["extensions"]) == COLLECTOR["extensions"].keys()
    used = {part for pipeline in COLLECTOR["service"]["pipelines"].values() for part in pipeline["exporters"]}
    assert used == COLLECTOR["exporters"].keys()


def test_its_ports_are_those_of_its_pod() -> None:
    protocols = COLLECTOR["receivers"]["otlp"]["protocols"]
    listened = {
        "otlp-grpc": protocols["grpc"]["endpoint"],
        "otlp-http": protocols["http"]["endpoint"],
        "prometheus": COLLECTOR["exporters"]["prometheus"]["endpoint"],
        "health": COLLECTOR["extensions"]["health_check"]["endpoint"],
    }
    ports = container(rendered("otel"), "otel-collector")["ports"]
    assert {port["name"]: port["containerPort"] for port in ports} == {
        name: port_of(endpoint) for name, endpoint in listened.items()
    }


def test_its_variables_are_set_wherever_it_runs() -> None:
    wanted = set(re.findall(r"\$\{env:(\w+)\}", (DEPLOY / "otel" / "collector.yaml").read_text()))
    assert wanted == SERVICES["otel-collector"]["environment"].keys()
    for name in ("otel", "production"):
        assert wanted == set(_variables(rendered(name)))
    phoenix = urlsplit(SERVICES["otel-collector"]["environment"]["TRACES_ENDPOINT"])
    assert f"127.0.0.1:{phoenix.port}:{phoenix.port}" in SERVICES[str(phoenix.hostname)]["ports"]


def _variables(text: str) -> Iterator[str]:
    yield from (variable["name"] for variable in container(text, "otel-collector")["env"])
    yield from one(objects(text), "ConfigMap", "otel-collector-environment")["data"]


def container(text: str, name: str) -> dict[str, Any]:
    """The one container of a Deployment."""
    [found] = one(objects(text), "Deployment", name)["spec"]["template"]["spec"]["containers"]
    return dict(found)


def seconds(text: str) -> int:
    assert text.endswith("s")
    return int(text.removesuffix("s"))
