"""What kustomize renders: valid for three versions of Kubernetes, in step with the code, and safe."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from parley_server.config import load
from parley_server.config_sources import ConfigError
from tests.clients.toolchain import needs
from tests.deploy.renderings import ALL, DEPLOY, OVERLAYS, Objects, objects, on_the_base, one, rendered
from tests.deploy.staged import stage
from tests.deploy.ties import faults, gateway

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(300)]
VERSIONS = ("1.30", "1.33", "1.37")
SCHEMAS = yaml.safe_load((Path(__file__).parent / "custom_resources.yaml").read_text())
UNKNOWN = re.compile(r"WARN \S+ Couldn't find schema for kind (\S+) with api version (\S+) for kubernetes version \S+")


def validated(version: str, *paths: Path) -> list[str]:
    """What the schemas of that version of Kubernetes have against the files; nothing of kinds that SCHEMAS has."""
    needs("kubernetes-validate")
    command = ["kubernetes-validate", "--kubernetes-version", version, "--strict", "--quiet", *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    own = [f"{match[2]} {match[1]}" if (match := UNKNOWN.fullmatch(line)) else "" for line in lines]
    found = [line for line, kind in zip(lines, own, strict=True) if kind not in SCHEMAS]
    assert done.returncode == 0 or found, lines
    return found


def written(folder: Path, name: str, found: Objects) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump_all(found))
    return path


@pytest.mark.parametrize("version", VERSIONS)
def test_the_schemas_of_kubernetes_hold(version: str, tmp_path: Path) -> None:
    paths = [written(tmp_path, name, objects(rendered(name))) for name in ALL]
    assert validated(version, *paths) == []


@pytest.mark.parametrize("name", ALL)
def test_the_schemas_of_custom_resources_hold(name: str) -> None:
    for it in objects(rendered(name)):
        if schema := SCHEMAS.get(f"{it['apiVersion']} {it['kind']}"):
            jsonschema_rs.validator_for({"type": "object", **schema}).validate(it["spec"])


@pytest.mark.parametrize("name", ALL)
def test_manifests_and_code_agree(name: str) -> None:
    assert faults(objects(rendered(name))) == []


@pytest.mark.parametrize("name", ["base", *OVERLAYS])
def test_the_command_that_checks_configurations_accepts_it(name: str, tmp_path: Path) -> None:
    staged = stage(objects(rendered(name)), tmp_path)
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    command = [sys.executable, "-m", "parley_server", "check", "--config", str(staged.config)]
    done = subprocess.run(command, env=kept | staged.environ, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("ok: listens on 0.0.0.0:50051")


def test_tls_without_callers_is_refused(tmp_path: Path) -> None:
    staged = stage(objects(on_the_base("tls")), tmp_path)
    with pytest.raises(ConfigError, match="nothing authenticates callers") as refused:
        load(staged.config.read_text(), staged.environ)
    assert len(refused.value.problems) == 1


# ------------------------------------------------------------------------------------------------- and faults are found

Change = Callable[[Objects], None]


def probe(key: str, **changes: Any) -> Change:
    return lambda found: gateway(found)[key]["grpc"].update(changes)


def setting(name: str, value: str | None) -> Change:
    def change(found: Objects) -> None:
        settings = one(found, "ConfigMap", "parley-settings")["data"]
        settings.pop(name, None)
        if value is not None:
            settings[name] = value

    return change


def spec(kind: str, name: str, *path: Any, to: Any) -> Change:
    def change(found: Objects) -> None:
        at = one(found, kind, name)["spec"]
        for step in path[:-1]:
            at = at[step]
        at[path[-1]] = to

    return change


def config(text: str) -> Change:
    def change(found: Objects) -> None:
        data = one(found, "ConfigMap", "parley-config")["data"]
        data["parley.yaml"] += text

    return change


POD = ("template", "spec")
FAULTS: dict[str, tuple[Change, str]] = {
    "probe_name_misspelt": (probe("readinessProbe", service="readyness"), "readinessProbe asks for 'readyness'"),
    "probe_of_another_name": (probe("livenessProbe", service="readiness"), "livenessProbe asks for 'readiness', not"),
    "probe_at_the_data_port": (probe("startupProbe", port=50051), "startupProbe asks port 50051"),
    "grace_too_short": (
        spec("Deployment", "parley", *POD, "terminationGracePeriodSeconds", to=130),
        "terminationGracePeriodSeconds is 130",
    ),
    "drain_longer_than_the_grace": (setting("PARLEY_SERVER__DRAIN", "600"), "and a stop may take"),
    "delay_too_short": (setting("PARLEY_SERVER__DRAIN_DELAY", "1"), "calls are refused after 1 s"),
    "setting_misspelt": (setting("PARLEY_SERVER__DRAIM", "1"), "PARLEY_SERVER__DRAIM"),
    "setting_with_one_underscore": (setting("PARLEY_SERVER_DRAIN", "1"), "PARLEY_SERVER_DRAIN is no setting"),
    "variable_that_nobody_reads": (setting("OTEL_EXPORTER_OTLP_ENDPIONT", "x"), "OTEL_EXPORTER_OTLP_ENDPIONT is a"),
    "address_of_one_machine": (setting("PARLEY_SERVER__ADDRESS", "127.0.0.1:50051"), "which no other pod reaches"),
    "other_port": (setting("PARLEY_ADMIN__ADDRESS", "0.0.0.0:50055"), "port admin is 50052, and admin.address is"),
    "grace_of_connections": (setting("PARLEY_SERVER__MAX_CONNECTION_AGE_GRACE", "60"), "it cuts calls off"),
    "in_clear_to_everybody": (setting("PARLEY_SERVER__TLS__CERT", None), "the configuration is refused"),
    "key_that_nobody_brings": (
        spec("ExternalSecret", "parley-callers", "data", 0, "secretKey", to="biling"),
        "callers.billing.key: cannot read the secret file",
    ),
    "setting_in_both": (config("server: {drain: 5}\n"), "PARLEY_SERVER__DRAIN hides what parley.yaml says"),
    "setting_that_needs_a_restart": (config("streams: {}\nresume: {window: 5}\n"), "parley.yaml sets resume.window"),
    "metric_misspelt": (
        spec("HorizontalPodAutoscaler", "parley", "metrics", 0, "pods", "metric", "name", to="parley_active_calls"),
        "no metric is called parley_active_calls",
    ),
    "replicas_beside_an_autoscaler": (spec("Deployment", "parley", "replicas", to=2), "replicas are for whoever"),
    "port_to_scrape": (
        spec("PodMonitor", "parley", "podMetricsEndpoints", 0, "port", to="metric"),
        "no port is called metric",
    ),
    "policy_for_another_port": (
        spec("NetworkPolicy", "parley", "ingress", 0, "ports", 0, "port", to=50053),
        "no port is 50053",
    ),
    "service_of_nobody": (spec("Service", "parley", "selector", to={"app": "x"}), "Service parley selects 0"),
    "route_to_reflection": (
        spec("GRPCRoute", "parley", "rules", 0, "matches", 0, "method", "service", to="grpc.reflection.v1"),
        "GRPCRoute lets in grpc.reflection.v1",
    ),
    "certificate_of_another_namespace": (
        spec("Certificate", "parley", "dnsNames", to=["parley", "parley.default.svc.cluster.local"]),
        "the certificate lacks parley.parley.svc.cluster.local",
    ),
    "limit_of_memory": (
        spec("Deployment", "parley", *POD, "containers", 0, "resources", "limits", "memory", to="512Mi"),
        "the limit of memory is 512Mi",
    ),
    "limit_of_cpu": (
        spec("Deployment", "parley", *POD, "containers", 0, "resources", "limits", "cpu", to="2"),
        "a limit of CPU",
    ),
}


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_a_fault_is_found(name: str) -> None:
    change, said = FAULTS[name]
    found = copy.deepcopy(objects(rendered("production")))
    change(found)
    told = faults(found)
    assert any(said in fault for fault in told), told


def test_a_misspelt_key_and_an_unknown_kind_are_found(tmp_path: Path) -> None:
    found = objects(rendered("base"))
    container = gateway(found)
    container["readynessProbe"] = container.pop("readinessProbe")
    found.append({"apiVersion": "example.com/v1", "kind": "Gatway", "metadata": {"name": "x"}, "spec": {}})
    told = "\n".join(validated(VERSIONS[-1], written(tmp_path, "faulty", found)))
    assert "readynessProbe" in told
    assert "readinessProbe is not a gRPC probe" in faults(found)
    with pytest.raises(jsonschema_rs.ValidationError):
        schema = {"type": "object", **SCHEMAS["monitoring.coreos.com/v1 PodMonitor"]}
        jsonschema_rs.validator_for(schema).validate({"selector": {"matchLabels": {}}, "podMetricEndpoints": []})
    del container["readynessProbe"]
    assert "Gatway" in "\n".join(validated(VERSIONS[-1], written(tmp_path, "unknown", found)))


# ------------------------------------------------------------------------------------------------------------ security


def test_checkov_finds_what_is_accepted_and_nothing_else(tmp_path: Path) -> None:
    """deploy/checkov.yaml says of each finding why it is accepted; one that is found no more does not stay there."""
    needs("checkov")
    accepted = yaml.safe_load((DEPLOY / "checkov.yaml").read_text())
    assert all(entry["why"] for entry in accepted)
    for name in OVERLAYS:
        (tmp_path / f"{name}.yaml").write_text(rendered(name))
    (tmp_path / "Dockerfile").write_text((DEPLOY / "Dockerfile").read_text())
    command = ["checkov", "--directory", ".", "--framework", "kubernetes", "dockerfile", "--output", "json"]
    done = subprocess.run(
        [*command, "--skip-download", "--compact", "--quiet"], cwd=tmp_path, capture_output=True, text=True, timeout=200
    )
    reports = json.loads(done.stdout)
    assert {report["check_type"] for report in reports} == {"kubernetes", "dockerfile"}
    failed = {
        (check["file_path"].lstrip("/").removesuffix(".yaml"), check["resource"].lstrip("/"), check["check_id"])
        for report in reports
        for check in report["results"]["failed_checks"]
    }
    assert failed == {(entry["in"], entry["resource"], entry["check"]) for entry in accepted}
    assert all(report["summary"]["parsing_errors"] == 0 for report in reports)
