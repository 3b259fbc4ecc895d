"""One frozen settings tree. The only file that reads the environment.

`load(text, environ)` turns YAML text and environment variables into a `Config`, or raises `ConfigError` with every problem
at once: where, what, and what was probably meant. Credentials are written as references, `env:NAME` or `file:/path`.

Any setting can be overridden by a variable: `PARLEY_` and the path, levels joined by two underscores, for example
`PARLEY_SERVER__ADDRESS=127.0.0.1:6000`. Values are read as YAML.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, model_validator

from parley_server.core.secret import Secret
from parley_server.dialects.openai_chat import Quirks
from parley_server.transports.mock import MockModel

PREFIX = "PARLEY_"
_USUAL_KEYS = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}


class ConfigError(Exception):
    """The configuration cannot be used. `problems` has one line each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Section(BaseModel):
    """A part of the tree: frozen, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


def _secret(value: object, info: ValidationInfo) -> Secret:
    match value:
        case Secret():
            return value
        case str() if value.startswith("env:"):
            environ: Mapping[str, str] = (info.context or {}).get("environ", {})
            name = value.removeprefix("env:")
            if not environ.get(name, "").strip():
                raise ValueError(f"the environment variable {name} is not set")
            return Secret(environ[name])
        case str() if value.startswith("file:"):
            path = Path(value.removeprefix("file:"))
            try:
                return Secret(path.read_text())
            except OSError as error:
                raise ValueError(f"cannot read the secret file {path}: {error.strerror}") from None
        case _:  # the value itself is not repeated: it may be a credential
            raise ValueError("write a reference, env:NAME or file:/path, not the credential itself")


SecretRef = Annotated[Secret, BeforeValidator(_secret)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
BaseUrl = Annotated[str, Field(pattern=r"^https?://.+[^/]$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]


class Server(Section):
    """The gRPC port that services call."""

    address: str = Field("127.0.0.1:50051", description="Where to listen: host:port; port 0 takes any free one.")
    insecure: bool = Field(
        False,
        description="Listen beyond loopback although nothing authenticates callers. Only behind something that does.",
    )
    max_request_bytes: int = Field(32 * 1024 * 1024, ge=64 * 1024, le=512 * 1024 * 1024, description="Largest request.")
    max_response_bytes: int = Field(64 * 1024 * 1024, ge=64 * 1024, le=1024**3, description="Largest response.")
    default_deadline: Seconds = Field(600, description="Seconds a call may take if its caller sets no deadline.")
    max_deadline: Seconds = Field(1800, description="Seconds no call may exceed, whatever its caller asks.")
    drain: float = Field(30, ge=0, le=3600, description="Seconds running calls may go on after SIGTERM.")
    drain_delay: float = Field(
        0,
        ge=0,
        le=300,
        description="Seconds between reporting NOT_SERVING and refusing new calls, for balancers to notice.",
    )
    reflection: bool = Field(True, description="Serve gRPC reflection (v1 and v1alpha) for grpcurl and buf curl.")


class Admin(Section):
    """The port of operators: health and channelz, on a thread of its own."""

    enabled: bool = Field(True, description="Serve the admin port.")
    address: str = Field("127.0.0.1:50052", description="Where to listen: host:port; port 0 takes any free one.")
    stalled_after: Seconds = Field(
        5, description="Seconds the event loop may be blocked before liveness says NOT_SERVING."
    )


class Retry(Section):
    """How often and how fast a failed attempt is tried again, before the first content only."""

    max_attempts: int = Field(
        4, ge=1, le=32, description="Attempts of one call in all, retries and fallbacks together."
    )
    attempts_per_target: int = Field(3, ge=1, le=32, description="Attempts at one target before the next fallback.")
    base: Seconds = Field(0.25, description="Longest wait before the first retry, in seconds; doubles each time.")
    cap: Seconds = Field(8, description="Longest wait of the backoff, in seconds.")
    max_retry_after: Seconds = Field(30, description="Longest wait a provider may ask for and get, in seconds.")


class Timeouts(Section):
    """The four clocks of an attempt, in seconds; all are bounded by the caller's deadline."""

    connect: Seconds = Field(10, description="To a connection.")
    first_content: Seconds = Field(300, description="To the first content. Models may think for minutes.")
    idle: Seconds = Field(120, description="Between two reads of a running stream.")
    total: Seconds = Field(1800, description="For the whole attempt.")


class Telemetry(Section):
    """Traces over OTLP. Endpoint, headers and sampler are read from the standard OTEL_* variables."""

    enabled: bool = Field(False, description="Send traces. On by itself if an OTLP endpoint variable is set.")
    protocol: Literal["grpc", "http/protobuf"] = Field(
        "grpc", description="OTLP protocol; OTEL_EXPORTER_OTLP_PROTOCOL unless set here."
    )
    service_name: str = Field("parley", description="service.name; OTEL_SERVICE_NAME unless set here.")
    capture_content: bool = Field(False, description="Record prompts and answers in spans. They are personal data.")


class Log(Section):
    """Logs, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe level that is written."
    )
    format: Literal["console", "json"] = Field("console", description="For people or for machines.")


class _Provider(Section):
    headers: dict[str, str] = Field({}, description="Further headers for every request. Not for credentials.")
    models: tuple[str, ...] = Field((), description="Models to list although the provider does not list them.")


class OpenAI(_Provider):
    """OpenAI's own API."""

    kind: Literal["openai"] = "openai"
    base_url: BaseUrl = Field("https://api.openai.com/v1", description="Base URL.")
    api_key: SecretRef = Field(description="API key.")
    organization: str = Field("", description="Sent as OpenAI-Organization.")
    project: str = Field("", description="Sent as OpenAI-Project.")


class Anthropic(_Provider):
    """Anthropic's own API."""

    kind: Literal["anthropic"] = "anthropic"
    base_url: BaseUrl = Field("https://api.anthropic.com/v1", description="Base URL.")
    api_key: SecretRef = Field(description="API key.")


class Ollama(_Provider):
    """A local or remote Ollama."""

    kind: Literal["ollama"] = "ollama"
    base_url: BaseUrl = Field("http://localhost:11434", description="Base URL.")
    api_key: SecretRef = Field(Secret(""), description="API key, for ollama.com.")
    only_if_reachable: bool = Field(False, description="Leave it out, silently, unless it answers at start.")


class OpenAICompatible(_Provider):
    """Any server that speaks OpenAI's chat completions: vLLM, llama.cpp, LM Studio, a proxy."""

    kind: Literal["openai-compatible"] = "openai-compatible"
    base_url: BaseUrl = Field(description="Base URL, usually ending in /v1.")
    api_key: SecretRef = Field(Secret(""), description="API key, if it wants one.")
    embeddings: bool = Field(True, description="Whether it serves /embeddings.")
    quirks: Quirks = Field(Quirks.compatible(), description="How its wire format differs from OpenAI's.")


class Mock(Section):
    """The built-in offline provider: deterministic answers for tests and first steps."""

    kind: Literal["mock"] = "mock"
    models: dict[Name, MockModel] = Field({}, description="What each model answers, beside mock/echo.")
    capture: Path | None = Field(None, description="File that gets every request it receives, one JSON object a line.")


ProviderSettings = Annotated[OpenAI | Anthropic | Ollama | OpenAICompatible | Mock, Field(discriminator="kind")]
_KINDS: dict[str, type[Section]] = {
    "openai": OpenAI,
    "anthropic": Anthropic,
    "ollama": Ollama,
    "openai-compatible": OpenAICompatible,
    "mock": Mock,
}


class Config(Section):
    """Everything there is to set."""

    server: Server = Server()
    admin: Admin = Admin()
    providers: dict[Name, ProviderSettings] = Field(
        {}, description="By short name; a name that is a kind needs no `kind`."
    )
    retry: Retry = Retry()
    timeouts: Timeouts = Timeouts()
    telemetry: Telemetry = Telemetry()
    log: Log = Log()
    unsupported_policy: Literal["warn", "error"] = Field(
        "warn", description="What happens to wishes a model cannot meet if a request does not say."
    )
    refresh_models: Seconds = Field(300, description="Seconds between two listings of the providers' models.")

    @model_validator(mode="after")
    def _loopback_or_insecure(self) -> Config:
        for path, address in (("server.address", self.server.address), ("admin.address", self.admin.address)):
            host, _, port = address.rpartition(":")
            if not host or not port.isdigit() or int(port) > 65535:
                raise ValueError(f"{path}: {address!r} is not host:port")
            if not _is_loopback(host) and not self.server.insecure:
                raise ValueError(
                    f"{path}: {host} is reachable from other machines and nothing authenticates callers; listen on 127.0.0.1, "
                    "or set server.insecure: true behind a proxy that does"
                )
        return self


def load(text: str, environ: Mapping[str, str]) -> Config:
    """The configuration that `text` (YAML, may be empty) and `environ` describe. Raises ConfigError.

    Without a `providers` section: every provider whose usual key variable is set, a local Ollama if it answers, and mock.
    """
    try:
        data = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError([f"not YAML: {error}"]) from None
    if not isinstance(data, dict):
        raise ConfigError(["the configuration is a mapping of sections, such as `server:` and `providers:`"])
    _override(data, environ)
    if isinstance(data.setdefault("telemetry", {}), dict):
        data["telemetry"] = _standard_telemetry(environ) | data["telemetry"]
    if "providers" not in data:
        data["providers"] = _usual_providers(environ)
    if isinstance(data["providers"], dict):
        for name, settings in data["providers"].items():
            if settings is None or isinstance(settings, dict):
                data["providers"][name] = {"kind": name, **(settings or {})}
    problems = list(_unknown_keys(Config, data, ""))
    if problems:
        raise ConfigError(problems)
    try:
        return Config.model_validate(data, context={"environ": environ})
    except ValidationError as error:
        raise ConfigError([_problem(e) for e in error.errors(include_input=False, include_url=False)]) from None


def read(path: Path | None) -> Config:
    """The configuration in the file at `path`, if any, and in the environment of this process."""
    try:
        text = path.read_text() if path else ""
    except OSError as error:
        raise ConfigError([f"cannot be read: {error.strerror}"]) from None
    return load(text, os.environ)


def _override(data: dict[str, Any], environ: Mapping[str, str]) -> None:
    for variable, value in sorted(environ.items()):
        if not variable.startswith(PREFIX) or "__" not in variable:
            continue  # one level would collide with the variables Kubernetes makes for a service of this name
        *levels, last = variable.removeprefix(PREFIX).lower().split("__")
        section = data
        for level in levels:
            section = section.setdefault(level, {})
            if not isinstance(section, dict):
                raise ConfigError([f"{variable}: {level} is not a section"])
        section[last] = yaml.safe_load(value)


def _standard_telemetry(environ: Mapping[str, str]) -> dict[str, Any]:
    """What the variables of OpenTelemetry say of the settings that are ours; the rest the SDK reads itself."""

    def first(*names: str) -> str:
        return next((environ[name] for name in names if environ.get(name)), "")

    found: dict[str, Any] = {}
    if first("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        found["enabled"] = environ.get("OTEL_SDK_DISABLED", "").lower() != "true"
    if protocol := first("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        found["protocol"] = protocol
    if name := first("OTEL_SERVICE_NAME"):
        found["service_name"] = name
    return found


def _usual_providers(environ: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {
        name: {"api_key": f"env:{variable}"}
        for name, variable in _USUAL_KEYS.items()
        if environ.get(variable, "").strip()
    }
    host = environ.get("OLLAMA_HOST", "").strip().rstrip("/")
    found["ollama"] = {"only_if_reachable": True}
    if host:
        found["ollama"]["base_url"] = host if "://" in host else f"http://{host}"
    found["mock"] = {}
    return found


def _unknown_keys(section: type[BaseModel], data: Any, path: str) -> Iterator[str]:
    """One line for each key that `section` does not have, with the nearest one it has."""
    if not isinstance(data, dict):
        return
    fields = section.model_fields
    for key, value in data.items():
        here = f"{path}{key}"
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(sorted(fields))}"
            yield f"{here}: unknown key; {hint}"
        elif here == "providers" and isinstance(value, dict):
            for name, settings in value.items():
                kind = settings.get("kind") if isinstance(settings, dict) else None
                if kind not in _KINDS:
                    yield f"providers.{name}.kind: {kind!r} is not a kind of provider; kinds: {', '.join(_KINDS)}"
                else:
                    yield from _unknown_keys(_KINDS[kind], settings, f"providers.{name}.")
        elif isinstance(kind := fields[key].annotation, type) and issubclass(kind, Section):
            yield from _unknown_keys(kind, value, f"{here}.")
        elif section is Mock and key == "models" and isinstance(value, dict):
            for name, model in value.items():
                yield from _unknown_keys(MockModel, model, f"{here}.{name}.")


def _problem(error: Any) -> str:
    location = [str(step) for step in error["loc"]]
    if len(location) > 2 and location[0] == "providers" and location[2] in _KINDS:
        del location[2]  # the tag of the union, which the author never wrote
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{'.'.join(location)}: {message}" if location else message


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
