"""What ties manifests to the code: names, ports and times that stand in both. Each check tells the faults it finds."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import opentelemetry.sdk.environment_variables
import yaml

from parley_server import __version__, app, metrics, scrape
from parley_server.api import health
from parley_server.config import Config, load
from parley_server.config_revision import NEEDS_RESTART
from parley_server.config_sources import ConfigError
from tests.deploy.renderings import Object, Objects, of_kind, one
from tests.deploy.staged import environment, stage

STOPPING = app._HEALTH_TIMEOUT + app._DESERTED_WITHIN + app._LAST + app._CLEANUP_TIMEOUT + app._FLUSH_TIMEOUT + 2.0
"""Seconds that stopping may take beside server.drain_delay and server.drain; the last two are the exporters'."""
_PROBES = {"startupProbe": "startup", "readinessProbe": "readiness", "livenessProbe": "liveness"}
_PORTS = {"grpc": ("server", "address"), "admin": ("admin", "address"), "metrics": ("admin", "metrics_address")}
_MIB = 1024 * 1024
_PROCESS = 256 * _MIB  # the interpreter, the catalogue, connections, calls
_POD_VARIABLES = {"POD_NAME", "POD_NAMESPACE"}
_OTEL = {name for name in vars(opentelemetry.sdk.environment_variables) if name.startswith("OTEL_")}


def faults(found: Objects) -> list[str]:
    """Everything that is wrong with what was rendered, a sentence each."""
    with tempfile.TemporaryDirectory() as folder:
        staged = stage(found, Path(folder))
        try:
            config = load(staged.config.read_text(), staged.environ)
        except ConfigError as error:
            return [f"the configuration is refused: {problem}" for problem in error.problems]
    return [fault for check in CHECKS for fault in check(found, config)]


def _probes(found: Objects, config: Config) -> Iterator[str]:
    container = gateway(found)
    for key, name in _PROBES.items():
        probe = container.get(key, {}).get("grpc")
        if probe is None:
            yield f"{key} is not a gRPC probe"
            continue
        service = probe.get("service", "")
        if service not in health.NAMES:
            yield f"{key} asks for {service!r}, and the gateway reports {', '.join(filter(None, health.NAMES))}"
        elif service != name:
            yield f"{key} asks for {service!r}, not for {name!r}"
        if probe["port"] != port_of(config.admin.address):
            yield f"{key} asks port {probe['port']}, and the admin port is {port_of(config.admin.address)}"
    liveness = container.get("livenessProbe", {})
    if liveness.get("failureThreshold", 3) * liveness.get("periodSeconds", 10) < config.admin.stalled_after * 2:
        yield "livenessProbe restarts a gateway whose event loop was busy for a moment"


def _ports(found: Objects, config: Config) -> Iterator[str]:
    ports = {port["name"]: port["containerPort"] for port in gateway(found)["ports"]}
    if ports.keys() != _PORTS.keys():
        yield f"the ports are called {', '.join(ports)}, not {', '.join(_PORTS)}"
    for name, (section, setting) in _PORTS.items():
        address = getattr(getattr(config, section), setting)
        if name in ports and (address is None or port_of(address) != ports[name]):
            yield f"port {name} is {ports[name]}, and {section}.{setting} is {address}"
        if address is not None and not address.startswith("0.0.0.0:"):
            yield f"{section}.{setting} is {address}, which no other pod reaches"


def _references(found: Objects, _config: Config) -> Iterator[str]:
    """Names by which objects mean one another."""
    pods = {it["metadata"]["name"]: it["spec"]["template"] for it in of_kind(found, "Deployment")}
    names = {(it["kind"], it["metadata"]["name"]) for it in found}

    def selected(selector: dict[str, str]) -> list[Object]:
        return [pod for pod in pods.values() if selector.items() <= pod["metadata"]["labels"].items()]

    def named(pod: Object) -> dict[str, int]:
        ports = [port for container in pod["spec"]["containers"] for port in container["ports"]]
        return {port["name"]: port["containerPort"] for port in ports}

    for it in found:
        who, spec = f"{it['kind']} {it['metadata']['name']}", it.get("spec", {})
        match it["kind"]:
            case "Service":
                targets = selected(spec["selector"])
                if len(targets) != 1:
                    yield f"{who} selects {len(targets)} Deployments"
                for port in spec["ports"]:
                    if any(named(pod).get(port["targetPort"]) != port["port"] for pod in targets):
                        yield f"{who}: port {port['port']} is not {port['targetPort']} of its pods"
            case "PodDisruptionBudget" | "PodMonitor":
                targets = selected(spec["selector"]["matchLabels"])
                if not targets:
                    yield f"{who} selects nothing"
                for end in spec.get("podMetricsEndpoints", []):
                    if end.get("path") != scrape.PATH:
                        yield f"{who} scrapes {end.get('path')}, and metrics are at {scrape.PATH}"
                    if any(end["port"] not in named(pod) for pod in targets):
                        yield f"{who}: no port is called {end['port']}"
            case "NetworkPolicy":
                for pod in selected(spec["podSelector"].get("matchLabels", {})):
                    for rule in spec.get("ingress", []):
                        for port in rule.get("ports", []):
                            if port["port"] not in {*named(pod), *named(pod).values()}:
                                yield f"{who}: no port is {port['port']}"
            case "HorizontalPodAutoscaler" if (
                spec["scaleTargetRef"]["kind"],
                spec["scaleTargetRef"]["name"],
            ) not in names:
                yield f"{who} scales {spec['scaleTargetRef']['name']}, which is not there"
            case "GRPCRoute":
                for rule in spec["rules"]:
                    for to in rule["backendRefs"]:
                        if ("Service", to["name"]) not in names:
                            yield f"{who} leads to {to['name']}, which is not there"
                            continue
                        ports = one(found, "Service", to["name"])["spec"]["ports"]
                        if to["port"] not in [port["port"] for port in ports]:
                            yield f"{who} leads to port {to['port']}, which {to['name']} does not have"
    for name, pod in pods.items():
        for volume in pod["spec"].get("volumes", []):
            if "configMap" in volume and ("ConfigMap", volume["configMap"]["name"]) not in names:
                yield f"{name}: no ConfigMap {volume['configMap']['name']}"
        for constraint in pod["spec"].get("topologySpreadConstraints", []):
            if pod not in selected(constraint["labelSelector"]["matchLabels"]):
                yield f"{name}: topologySpreadConstraints count other pods"


def _variables(found: Objects, config: Config) -> Iterator[str]:
    """Whether each means something; `load` has refused unknown settings."""
    there = yaml.safe_load(one(found, "ConfigMap", "parley-config")["data"]["parley.yaml"])
    for name in environment(found):
        if name.startswith("PARLEY_"):
            levels = name.removeprefix("PARLEY_").lower().split("__")
            if len(levels) == 1:
                yield f"{name} is no setting: sections are followed by two underscores"
            elif levels[-1] in (there.get(levels[0]) or {}):
                yield f"{name} hides what parley.yaml says"
        elif name not in _OTEL | _POD_VARIABLES:
            yield f"{name} is a variable that nobody reads"
    for path in NEEDS_RESTART:
        section, _, setting = path.partition(".")
        if setting in (there.get(section) or {}):
            yield f"parley.yaml sets {path}, which counts from the next restart only: it belongs into parley-settings"
    for variable in gateway(found).get("env", []):
        if "secretKeyRef" in variable.get("valueFrom", {}):
            yield f"{variable['name']} is a secret in a variable"


def _grace(found: Objects, config: Config) -> Iterator[str]:
    pod = one(found, "Deployment", "parley")["spec"]["template"]["spec"]
    sleeps = gateway(found).get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    delay = sleeps + config.server.drain_delay
    needed = delay + config.server.drain + STOPPING
    if (grace := pod["terminationGracePeriodSeconds"]) < needed:
        yield f"terminationGracePeriodSeconds is {grace}, and a stop may take {needed:g} s"
    readiness = gateway(found).get("readinessProbe", {})
    noticed = readiness.get("periodSeconds", 10) * readiness.get("failureThreshold", 3)
    if delay < noticed:
        yield f"calls are refused after {delay:g} s, and readiness needs {noticed} s to tell"


def _ages(found: Objects, config: Config) -> Iterator[str]:
    server = config.server
    if not server.max_connection_age:
        yield "connections never end, so clients do not find new pods"
    if 0 < server.max_connection_age_grace < server.max_deadline:
        yield f"server.max_connection_age_grace is below max_deadline ({server.max_deadline:g}): it cuts calls off"


def _scaling(found: Objects, config: Config) -> Iterator[str]:
    names = prometheus_names()
    scaled = set()
    for it in of_kind(found, "HorizontalPodAutoscaler"):
        scaled.add(it["spec"]["scaleTargetRef"]["name"])
        for metric in it["spec"]["metrics"]:
            if metric["type"] == "Pods" and metric["pods"]["metric"]["name"] not in names:
                yield f"no metric is called {metric['pods']['metric']['name']}"
    for it in of_kind(found, "Deployment"):
        if ("replicas" in it["spec"]) == (it["metadata"]["name"] in scaled):
            yield f"{it['metadata']['name']}: replicas are for whoever has no autoscaler"


def _memory(found: Objects, config: Config) -> Iterator[str]:
    resources = gateway(found)["resources"]
    kept = config.cache.memory_bytes + config.idempotency.max_bytes + config.resume.total_bytes + _PROCESS
    if _bytes(resources["limits"]["memory"]) < kept:
        yield f"the limit of memory is {resources['limits']['memory']}, and the settings allow {kept // _MIB}Mi"
    if "cpu" in resources["limits"]:
        yield "a limit of CPU makes streams stutter"


def _image(found: Objects, _config: Config) -> Iterator[str]:
    image = gateway(found)["image"]
    if "@sha256:" not in image and not image.endswith(f":{__version__}"):
        yield f"the image is {image}, and this is version {__version__}"


def _names(found: Objects, config: Config) -> Iterator[str]:
    """Names by which clients know the gateway, and what they may ask for."""
    namespace = one(found, "Deployment", "parley")["metadata"]["namespace"]
    for it in of_kind(found, "Certificate"):
        for service in of_kind(found, "Service"):
            name = service["metadata"]["name"]
            if name.startswith("parley") and f"{name}.{namespace}.svc.cluster.local" not in it["spec"]["dnsNames"]:
                yield f"the certificate lacks {name}.{namespace}.svc.cluster.local"
    for it in of_kind(found, "BackendTLSPolicy"):
        hostname = it["spec"]["validation"]["hostname"]
        if not any(hostname in one["spec"]["dnsNames"] for one in of_kind(found, "Certificate")):
            yield f"no certificate is for {hostname}"
    for it in of_kind(found, "GRPCRoute"):
        asked = [match["method"]["service"] for rule in it["spec"]["rules"] for match in rule["matches"]]
        if asked != [health.SERVICE]:
            yield f"GRPCRoute lets in {', '.join(asked)}, not {health.SERVICE} alone"
    for it in of_kind(found, "Service"):
        if it["metadata"]["name"] in ("parley", "parley-headless"):
            protocol = it["spec"]["ports"][0].get("appProtocol")
            if protocol != ("kubernetes.io/h2c" if config.server.tls is None else "https"):
                yield f"Service {it['metadata']['name']} says {protocol}"


CHECKS: tuple[Callable[[Objects, Config], Iterator[str]], ...] = (
    _probes,
    _ports,
    _references,
    _variables,
    _grace,
    _ages,
    _scaling,
    _memory,
    _image,
    _names,
)


def gateway(found: Objects) -> Object:
    """The gateway's container."""
    [container] = one(found, "Deployment", "parley")["spec"]["template"]["spec"]["containers"]
    checked: dict[str, Any] = container
    return checked


def port_of(address: str) -> int:
    """The port of host:port."""
    return int(address.rpartition(":")[2])


def prometheus_names() -> set[str]:
    """What Prometheus calls those metrics that it does not add a unit to."""
    plain = (row for row in metrics.OBSERVED if row.unit.startswith("{") and row.kind != "counter")
    return {row.name.replace(".", "_") for row in plain}


def _bytes(quantity: str) -> int:
    match = re.fullmatch(r"(\d+)(Mi|Gi)", quantity)
    assert match is not None, quantity
    return int(match[1]) * (_MIB if match[2] == "Mi" else 1024 * _MIB)
