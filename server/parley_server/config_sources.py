"""The two sources of a configuration as plain data: YAML text, and variables. Pure: the environment is an argument."""

from __future__ import annotations

import re
from collections.abc import Collection, Hashable, Mapping
from typing import Any

import yaml

_PREFIX = "PARLEY_"
_SIGNALS = ("traces", "metrics")  # of OpenTelemetry


class ConfigError(Exception):
    """The configuration cannot be used. `problems` has one line each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class _Loader(yaml.SafeLoader):
    """YAML's plain types; a key that is there twice is an error, not a setting that silently wins."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key, _ in node.value:
            said = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else key
            if said in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"{key.value} is there twice", problem_mark=key.start_mark
                )
            seen.add(said)
        return super().construct_mapping(node, deep)


def parsed(text: str) -> Any:
    """The value of a YAML text. Raises ConfigError, which repeats no line of the text: it may hold a credential."""
    try:
        return yaml.load(text, _Loader)  # noqa: S506  # a safe one
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        problem = f"not YAML: {error.problem}{where}"
    except (yaml.YAMLError, ValueError):  # ValueError: a date such as 2026-13-45
        problem = "not YAML: a character or a value that cannot be"
    raise ConfigError([problem])


def override(
    data: dict[str, Any], environ: Mapping[str, str], top: Collection[str]
) -> tuple[dict[str, str], list[str]]:
    """Set in `data` what variables say. Gives the variable behind each path, and what is wrong with the others.

    `top`: settings that stand in no section. Other variables of one level are not ours: Kubernetes makes them
    (`PARLEY_PORT`, …) for a service of this name.
    """
    variables: dict[str, str] = {}
    problems: list[str] = []
    for variable, value in sorted(environ.items()):
        name = variable.removeprefix(_PREFIX).lower()
        if not variable.startswith(_PREFIX) or not ("__" in name or name in top):
            continue
        *levels, last = name.split("__")
        section: Any = data
        path = []
        for level in levels:
            path.append(_spelt(section, level))
            if section.get(path[-1]) is None:  # a name with nothing behind it is a section too
                section[path[-1]] = {}
            section = section[path[-1]]
            if not isinstance(section, dict):
                problems.append(f"{variable}: {'.'.join(path)} is not a section")
                break
        else:
            path.append(_spelt(section, last))
            try:
                section[path[-1]] = parsed(value)
            except ConfigError as error:
                problems += [f"{variable}: {problem}" for problem in error.problems]
            variables[".".join(path)] = variable
    return variables, problems


def _spelt(section: Mapping[str, Any], level: str) -> str:
    """The key of `section` that `level` of a variable's name means; `level` itself if none is like it."""
    alike = [key for key in section if isinstance(key, str) and re.sub(r"[-.]", "_", key) == level]
    return level if level in section or not alike else alike[0]


def standard_telemetry(environ: Mapping[str, str]) -> dict[str, Any]:
    """What the variables of OpenTelemetry say of the settings that are ours; the rest the SDK reads itself."""

    def first(*names: str) -> str:
        return next((environ[name] for name in names if environ.get(name)), "")

    found: dict[str, Any] = {}
    everything = first("OTEL_EXPORTER_OTLP_ENDPOINT")
    ends = {signal: everything or first(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT") for signal in _SIGNALS}
    if any(ends.values()):
        found["enabled"] = environ.get("OTEL_SDK_DISABLED", "").lower() != "true"
    for signal, end in ends.items():  # not to where nobody said that somebody listens
        exporters = _exporters(signal, environ)
        if (exporters and "otlp" not in exporters) or (any(ends.values()) and not end):
            found[signal] = False
    if protocol := first("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        found["protocol"] = protocol
    if name := first("OTEL_SERVICE_NAME"):
        found["service_name"] = name
    return found


def standard_metrics_address(environ: Mapping[str, str]) -> str | None:
    """Where the variables of OpenTelemetry want Prometheus to find metrics, if they do."""
    if "prometheus" not in _exporters("metrics", environ):
        return None
    host = environ.get("OTEL_EXPORTER_PROMETHEUS_HOST") or "localhost"
    return f"{host}:{environ.get('OTEL_EXPORTER_PROMETHEUS_PORT') or '9464'}"


def _exporters(signal: str, environ: Mapping[str, str]) -> list[str]:
    """What OTEL_TRACES_EXPORTER and the like name; nothing if they are not set."""
    return [name.strip() for name in environ.get(f"OTEL_{signal.upper()}_EXPORTER", "").split(",") if name.strip()]
