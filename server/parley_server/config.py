"""One frozen settings tree. The only file that reads the environment.

`load(text, environ)` turns YAML text and environment variables into a `Config`, or raises `ConfigError` with every
problem at once: where, what, and what was probably meant. Credentials are written as references, `env:NAME` or
`file:/path`.

Any setting can be overridden by a variable: `PARLEY_` and the path, levels joined by two underscores, for example
`PARLEY_SERVER__ADDRESS=127.0.0.1:6000`. Values are read as YAML. Variables cannot hold `-` or `.`: an underscore stands
for either in a name that is there already (`PARLEY_PROVIDERS__MY_VLLM__BASE_URL` for `my-vllm`), for itself in a new
one.
"""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from parley_server.config_sources import ConfigError, override, parsed, standard_telemetry, usual_providers
from parley_server.core.secret import Secret
from parley_server.dialects.openai_chat import Quirks
from parley_server.transports.mock import MockModel

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_CREDENTIAL_HEADERS = frozenset({"authorization", "proxy-authorization", "x-api-key", "api-key", "cookie"})


class Section(BaseModel):
    """A part of the tree: frozen, no unknown keys."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        arbitrary_types_allowed=True,
        hide_input_in_errors=True,  # what was written may be a credential in the wrong place
    )


def _secret(value: object, info: ValidationInfo) -> Secret:
    match value:
        case Secret():
            return value
        case str() if value.startswith("env:"):
            environ: Mapping[str, str] = (info.context or {}).get("environ", {})
            name = value.removeprefix("env:")
            if not environ.get(name, "").strip():
                raise ValueError(f"the environment variable {name} is not set")
            secret = Secret(environ[name])
        case str() if value.startswith("file:"):
            path = Path(value.removeprefix("file:"))
            try:
                secret = Secret(path.read_text("utf-8"))
            except OSError as error:
                raise ValueError(f"cannot read the secret file {path}: {error.strerror}") from None
            except ValueError:  # no path, or no text; nothing of it is repeated
                raise ValueError(f"cannot read the secret file {path}: it is not text") from None
            if not secret:
                raise ValueError(f"the secret file {path} is empty")
        case _:  # the value itself is not repeated: it may be a credential
            raise ValueError("write a reference, env:NAME or file:/path, not the credential itself")
    if not _fits_header(secret.reveal()):
        raise ValueError(f"what {value} holds is not one line of printable ASCII, so no header can carry it")
    return secret


def _fits_header(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError("a name has 1 to 63 lower-case letters, digits, '.', '_' and '-', the first a letter or digit")
    return name


def _url(text: str) -> str:
    url = urlsplit(text)
    if url.scheme not in ("http", "https") or not url.hostname or not url.netloc.isprintable() or " " in text:
        raise ValueError("a base URL is http:// or https://, a host, and perhaps a port and a path")
    if "@" in url.netloc:
        raise ValueError("a base URL holds no credentials: they would be in logs and traces")
    if url.query or url.fragment:
        raise ValueError("a base URL ends with its path: paths of the provider's API are joined to it")
    _ = url.port  # raises ValueError if it is none
    return text.rstrip("/")


def _headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if name.lower() in _CREDENTIAL_HEADERS:
            raise ValueError(f"{name} is for credentials, and headers are shown in full: use api_key")
        if not _HEADER_NAME.fullmatch(name) or not _fits_header(value):
            raise ValueError(f"{name!r}: a header is a name without spaces and one line of printable ASCII")
    return headers


def _address(text: str) -> str:
    host, _, port = text.rpartition(":")
    unclear = ":" in host and not (host.startswith("[") and host.endswith("]"))
    if not host or unclear or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise ValueError(f"{text!r} is not host:port (IPv6 hosts are written in brackets)")
    return text


SecretRef = Annotated[Secret, BeforeValidator(_secret)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
BaseUrl = Annotated[str, AfterValidator(_url)]
Headers = Annotated[dict[str, str], AfterValidator(_headers)]
Address = Annotated[str, AfterValidator(_address)]
Name = Annotated[str, AfterValidator(_name)]


class Server(Section):
    """The gRPC port that services call."""

    insecure: bool = Field(
        False,
        description="Listen beyond loopback although nothing authenticates callers. Only behind something that does.",
    )
    address: Address = Field("127.0.0.1:50051", description="Where to listen: host:port; port 0 takes any free one.")
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

    @field_validator("address")
    @classmethod
    def _loopback_or_insecure(cls, address: str, info: ValidationInfo) -> str:
        return _reachable(address, insecure=info.data.get("insecure", False))


class Admin(Section):
    """The port of operators: health and channelz, on a thread of its own."""

    enabled: bool = Field(True, description="Serve the admin port.")
    address: Address = Field("127.0.0.1:50052", description="Where to listen: host:port; port 0 takes any free one.")
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
    headers: Headers = Field({}, description="Further headers for every request. Not for credentials.")
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

    @field_validator("admin")
    @classmethod
    def _loopback_or_insecure(cls, admin: Admin, info: ValidationInfo) -> Admin:
        server = info.data.get("server")
        if admin.enabled:
            _reachable(admin.address, insecure=isinstance(server, Server) and server.insecure)
        return admin


_TOP_SETTINGS = {name for name, field in Config.model_fields.items() if isinstance(field.default, str | int | float)}


def load(text: str, environ: Mapping[str, str]) -> Config:
    """The configuration that `text` (YAML, may be empty) and `environ` describe. Raises ConfigError.

    Without a `providers` section: every provider whose usual key variable is set, a local Ollama if it answers, mock.
    Reads nothing else but the secret files that are referred to, and changes nothing.
    """
    data = parsed(text)
    data = {} if data is None else data
    if not isinstance(data, dict):
        raise ConfigError(["the configuration is a mapping of sections, such as `server:` and `providers:`"])
    data = {section: settings for section, settings in data.items() if settings is not None}  # all lines commented out
    if "providers" not in data:
        data["providers"] = usual_providers(environ)
    variables, problems = override(data, environ, _TOP_SETTINGS)
    if isinstance(data.setdefault("telemetry", {}), dict):
        data["telemetry"] = standard_telemetry(environ) | data["telemetry"]
    if isinstance(data["providers"], dict):
        for name, settings in data["providers"].items():
            if settings is None or isinstance(settings, dict):
                data["providers"][name] = {"kind": name, **(settings or {})}
    try:
        config = Config.model_validate(data, context={"environ": environ})
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False)
        problems += dict.fromkeys(_problem(e, variables) for e in found)
    if problems:
        raise ConfigError(problems)
    return config


def read(path: Path | None) -> Config:
    """The configuration in the file at `path`, if any, and in the environment of this process."""
    try:
        text = path.read_text("utf-8") if path else ""
    except OSError as error:
        raise ConfigError([f"cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise ConfigError(["cannot be read: it is not UTF-8 text"]) from None
    return load(text, os.environ)


def _problem(error: Any, variables: Mapping[str, str]) -> str:
    """One line: where, by which variable if any, what is wrong, and what was probably meant."""
    path, keys = _place(error["loc"])
    message = str(error["msg"]).removeprefix("Value error, ")
    here = ".".join(path)
    behind = [variable for at, variable in variables.items() if f"{here}.".startswith(f"{at}.")]
    match error["type"]:
        case "extra_forbidden" | "unexpected_keyword_argument":
            near = difflib.get_close_matches(path[-1], keys, n=1, cutoff=0.5)
            message = f"unknown key; did you mean {near[0]}?" if near else f"unknown key; known keys: {', '.join(keys)}"
            behind = behind or [variable for at, variable in variables.items() if at.startswith(f"{here}.")]
        case "union_tag_invalid":
            behind = [variable for at, variable in variables.items() if at.startswith(f"{here}.")]
            here += ".kind"
            near = difflib.get_close_matches(error["ctx"]["tag"], _KINDS, n=1, cutoff=0.7)
            message = f"{error['ctx']['tag']!r} is not a kind of provider; kinds: {', '.join(_KINDS)}"
            message += f"; did you mean {near[0]}?" if near else ""
        case "model_type" | "dict_type" | "dataclass_type" | "model_attributes_type" | "union_tag_not_found":
            message = "should be a mapping of settings"
    return f"{here} ({', '.join(behind)}): {message}" if behind else f"{here}: {message}"


def _place(location: tuple[int | str, ...]) -> tuple[list[str], list[str]]:
    """The path of an error as its author wrote it, without labels of union members, and the keys there are."""
    path: list[str] = []
    kind: Any = Config
    keys: list[str] = []
    for step in location:
        if get_origin(kind) is Annotated:
            kind = _KINDS.get(str(step))
            continue
        if get_origin(kind) in (dict, tuple):
            kind = get_args(kind)[1 if get_origin(kind) is dict else 0]
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            keys = sorted(kind.model_fields)
            kind = kind.model_fields[str(step)].annotation if step in kind.model_fields else None
        elif isinstance(kind, type) and dataclasses.is_dataclass(kind):
            keys = sorted(field.name for field in dataclasses.fields(kind))
            kind = None
        else:
            break
        path.append(str(step))
    return path, keys


def _reachable(address: str, *, insecure: bool) -> str:
    host = address.rpartition(":")[0]
    if not insecure and not _is_loopback(host):
        raise ValueError(
            f"{host} is reachable from other machines and nothing authenticates callers; listen on 127.0.0.1, "
            "or set server.insecure: true behind a proxy that does"
        )
    return address


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
