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

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, SerializeAsAny, ValidationError, ValidationInfo, field_validator

from parley_server.catalog.overlay import Overlay, text_of
from parley_server.config_cache import Cache
from parley_server.config_callers import CallersSection, owned
from parley_server.config_limits import Limits, TenantSettings
from parley_server.config_limits import problems as limits_problems
from parley_server.config_problems import Problem, problems_of, said
from parley_server.config_reach import Tls, check_reach, lacks_of
from parley_server.config_routes import Routes
from parley_server.config_routes import problems as routes_problems
from parley_server.config_semantic import problems as semantic_problems
from parley_server.config_sources import (
    ConfigError,
    override,
    parsed,
    standard_metrics_address,
    standard_telemetry,
)
from parley_server.providers.kind import Kind, KindError
from parley_server.providers.kinds import known
from parley_server.settings import Address, KindSettings, Name, Percent, Seconds, Section, Statuses, Trouble, note_file
from parley_server.stores.settings import RedisSettings, StorageSettings


class Server(Section):
    """The gRPC port that services call."""

    insecure: bool = Field(
        False,
        description="Listen beyond loopback without callers or without TLS. Only behind something that sees to both.",
    )
    tls: Tls | None = Field(None, description="Certificates to serve TLS with; in clear without.")
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
    max_connection_age: float = Field(
        1800,
        ge=0,
        le=604_800,
        description="Seconds after which a client is asked to connect anew, give or take a tenth; 0: never.",
    )
    max_connection_age_grace: float = Field(
        0, ge=0, le=604_800, description="Seconds its calls may go on after that; 0: as long as they take."
    )
    reflection: bool = Field(True, description="Serve gRPC reflection (v1 and v1alpha) for grpcurl and buf curl.")

    @field_validator("address")
    @classmethod
    def _guarded(cls, address: str, info: ValidationInfo) -> str:
        known = info.data
        if "tls" in known and not known.get("insecure"):  # else one of them is wrong, which is told already
            callers = bool((info.context or {}).get("callers"))
            check_reach(address, lacks_of(tls=known["tls"], callers=callers))
        return address


class Admin(Section):
    """The port of operators: health and channelz, on a thread of its own."""

    enabled: bool = Field(True, description="Serve the admin port.")
    insecure: bool = Field(
        False,
        description="Listen beyond loopback whatever `server` says. Only where something keeps strangers away.",
    )
    address: Address = Field("127.0.0.1:50052", description="Where to listen: host:port; port 0 takes any free one.")
    metrics_address: Address | None = Field(
        None,
        description="Where Prometheus finds metrics over HTTP: host:port, path /metrics; nowhere unless set, or if "
        "OTEL_METRICS_EXPORTER has prometheus among its values.",
    )
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
    classes: tuple[Trouble, ...] = Field(get_args(Trouble), description="Which troubles are tried again.")
    statuses: Statuses = Field((408, 425), description="Further HTTP statuses that are tried again.")
    budget_share: float = Field(
        0.2, ge=0, le=1, description="Retries that a target may get for each call, once those below are used up."
    )
    budget: float = Field(20, ge=0, le=10_000, description="Retries of a target at any time, whatever its calls.")


class Breaker(Section):
    """When a target that fails is left alone, and when it is tried again."""

    enabled: bool = Field(True, description="Leave targets alone that fail.")
    failures: int = Field(5, ge=1, le=1000, description="Failures in a row that open the circuit.")
    ratio: float = Field(0.5, gt=0, le=1, description="Share of failures in the window that opens it.")
    fewest: int = Field(20, ge=1, le=100_000, description="Outcomes in the window before the share counts.")
    window: Seconds = Field(30, description="Seconds that outcomes count.")
    cool: Seconds = Field(5, description="Seconds it stays open at first; doubles while probes fail.")
    cap: Seconds = Field(120, description="Longest time it stays open, in seconds, unless the provider names one.")
    probes: int = Field(1, ge=1, le=100, description="Calls at a time that try a target again.")
    max_wait: float = Field(
        10, ge=0, le=600, description="Seconds a call waits at most when every target is left alone; 0: not at all."
    )


class Bulkhead(Section):
    """How much a target is asked at a time."""

    concurrency: int = Field(0, ge=0, le=100_000, description="Answers under way for each target; 0: no limit.")
    queue: int = Field(1000, ge=0, le=1_000_000, description="Calls that may wait for a place.")
    max_wait: Seconds = Field(60, description="Seconds that one waits at most.")


class Hedging(Section):
    """Whether a second target is asked as well when the first one is slow, and how often. Both are paid for."""

    enabled: bool = Field(False, description="Ask the next target as well where the first is slow to begin.")
    delay: Seconds = Field(1, description="Seconds to the first content of a streamed answer before that happens.")
    whole_delay: Seconds = Field(10, description="Seconds to a whole answer before that happens.")
    percentile: Percent | None = Field(
        None,
        description="Wait instead as long as so many of a hundred answers of the target take, once enough are known.",
    )
    budget_share: float = Field(
        0.05, ge=0, le=1, description="Second targets that may be asked for each call, once those below are used up."
    )
    budget: float = Field(10, ge=0, le=10_000, description="Second targets that may be asked at any time.")


class Timeouts(Section):
    """The four clocks of an attempt, in seconds; all are bounded by the caller's deadline."""

    connect: Seconds = Field(10, description="To a connection.")
    first_content: Seconds = Field(300, description="To the first content. Models may think for minutes.")
    idle: Seconds = Field(120, description="Between two reads of a running stream.")
    total: Seconds = Field(1800, description="For the whole attempt.")
    least: float = Field(
        0.05, ge=0, le=60, description="What must be left of the deadline for an attempt to be begun at all."
    )


class Idempotency(Section):
    """How long answers are remembered for calls with the same `idempotency_key`."""

    window: Seconds = Field(600, description="Seconds an answer is remembered after its end.")
    max_bytes: int = Field(
        64 * 1024 * 1024,
        ge=64 * 1024,
        le=1024**4,
        description="Most that is kept of all answers, oldest forgotten first; no answer may take more than a quarter.",
    )


class Join(Section):
    """Whether equal requests that are under way at the same time are answered by one call to a provider."""

    enabled: bool = Field(
        False, description="Join embeddings, rerankings, and chats with a seed or a temperature of 0."
    )


class Streams(Section):
    """What streams may ask of the gateway."""

    max_stall: Seconds = Field(
        60, description="Seconds one event may wait for its client to take it before the stream is ended."
    )


class Resume(Section):
    """How long and how much of resumable streams is kept. Read at start only."""

    window: Seconds = Field(600, description="Seconds a stream is kept after its end.")
    max_bytes: int = Field(
        8 * 1024 * 1024,
        ge=4 * 1024 * 1024,
        le=1024**3,
        description="Most that is kept of one stream; a longer one loses its beginning.",
    )
    total_bytes: int = Field(
        256 * 1024 * 1024,
        ge=4 * 1024 * 1024,
        le=1024**4,
        description="Most that is kept of all streams; finished ones are forgotten first, oldest first.",
    )


class Telemetry(Section):
    """Traces and metrics over OTLP. Endpoints, headers, sampler, intervals are those of the OTEL_* variables."""

    enabled: bool = Field(False, description="Send them. On by itself if an OTLP endpoint variable is set.")
    traces: bool = Field(True, description="Send traces; not if OTEL_TRACES_EXPORTER is none.")
    metrics: bool = Field(True, description="Send metrics; not if OTEL_METRICS_EXPORTER is none.")
    protocol: Literal["grpc", "http/protobuf"] = Field(
        "grpc", description="OTLP protocol; OTEL_EXPORTER_OTLP_PROTOCOL unless set here."
    )
    service_name: str = Field("parley", description="service.name; OTEL_SERVICE_NAME unless set here.")
    by_caller: bool = Field(False, description="Count calls, tokens and cost by the names of callers as well.")
    capture_content: bool = Field(False, description="Record prompts and answers in spans. They are personal data.")


class Reload(Section):
    """When the configuration is read again. SIGHUP does it at any time."""

    interval: float = Field(
        2, ge=0, le=3600, description="Seconds between two looks at the files it comes from; 0: only SIGHUP counts."
    )


class Log(Section):
    """Logs, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe level that is written."
    )
    format: Literal["console", "json"] = Field("console", description="For people or for machines.")
    calls: bool = Field(False, description="Write a line for each call: how it ended, who answered, tokens and cost.")


def _file(value: object, info: ValidationInfo) -> object:
    """The content of the file that is named; anything else is taken for the content itself."""
    if not isinstance(value, str):
        return value
    try:
        note_file(info, Path(value))
        content = parsed(text_of(value))
    except ConfigError as error:
        raise ValueError(f"{value} is {error}") from None
    return {} if content is None else content


class Catalog(Section):
    """What is known of models beside what their providers say."""

    overlay: Annotated[Overlay, BeforeValidator(_file)] = Field(
        Overlay(), description="YAML or JSON file of models: prices, limits, capabilities on top of the catalogue's."
    )


class Config(Section):
    """Everything there is to set."""

    server: Server = Server()
    callers: CallersSection | None = Field(
        None, description="Who may call, by name. Without it everybody may; with it, whoever shows one of their keys."
    )
    tenants: dict[Name, TenantSettings] = Field({}, description="Those that callers belong to, by name.")
    limits: Limits = Limits()
    admin: Admin = Admin()
    providers: dict[Name, SerializeAsAny[KindSettings]] = Field(
        {}, description="By short name; a name that is a kind needs no `kind`."
    )
    routes: Routes = Field({}, description="By the name under which callers ask for them; it holds no '/'.")
    retry: Retry = Retry()
    breaker: Breaker = Breaker()
    bulkhead: Bulkhead = Bulkhead()
    hedging: Hedging = Hedging()
    timeouts: Timeouts = Timeouts()
    idempotency: Idempotency = Idempotency()
    join: Join = Join()
    cache: Cache = Cache()
    streams: Streams = Streams()
    resume: Resume = Resume()
    storage: StorageSettings = StorageSettings()
    redis: RedisSettings = RedisSettings()
    catalog: Catalog = Catalog()
    telemetry: Telemetry = Telemetry()
    log: Log = Log()
    reload: Reload = Reload()
    unsupported_policy: Literal["warn", "error"] = Field(
        "warn", description="What happens to wishes a model cannot meet if a request does not say."
    )
    refresh_models: Seconds = Field(300, description="Seconds between two listings of the providers' models.")

    @field_validator("admin")
    @classmethod
    def _guarded(cls, admin: Admin, info: ValidationInfo) -> Admin:
        server = info.data.get("server")
        if not admin.insecure and not (isinstance(server, Server) and server.insecure):
            for address in (admin.address if admin.enabled else None, admin.metrics_address):
                if address is not None:
                    check_reach(address, ["nothing authenticates operators"], section="admin")
        return admin


_TOP_SETTINGS = {name for name, field in Config.model_fields.items() if isinstance(field.default, str | int | float)}


def load(
    text: str,
    environ: Mapping[str, str],
    kinds: Mapping[str, Kind] | None = None,
    files: set[Path] | None = None,
) -> Config:
    """The configuration that `text` (YAML, may be empty) and `environ` describe. Raises ConfigError.

    Without a `providers` section: every provider whose usual key variable is set, a local Ollama if it answers, mock.
    `kinds`: kinds of providers there are, those that come with the gateway and with installed packages by default.
    Reads nothing else but the files that are referred to, which are added to `files`, and changes nothing else.
    """
    if kinds is None:
        try:
            kinds = known()
        except KindError as error:
            raise ConfigError([str(error)]) from None
    data = parsed(text)
    data = {} if data is None else data
    if not isinstance(data, dict):
        raise ConfigError(["the configuration is a mapping of sections, such as `server:` and `providers:`"])
    data = {section: settings for section, settings in data.items() if settings is not None}  # all lines commented out
    if "providers" not in data:
        data["providers"] = _usual_providers(kinds, environ)
    variables, problems = override(data, environ, _TOP_SETTINGS)
    if isinstance(data.setdefault("telemetry", {}), dict):
        data["telemetry"] = standard_telemetry(environ) | data["telemetry"]
    if (metrics_address := standard_metrics_address(environ)) and isinstance(data.setdefault("admin", {}), dict):
        data["admin"].setdefault("metrics_address", metrics_address)
    context = {"environ": environ, "files": set() if files is None else files, "callers": "callers" in data}
    found: list[Problem] = []
    if isinstance(data["providers"], dict):
        data["providers"], found = _providers(data["providers"], kinds, context)
    try:
        config = Config.model_validate(data, context=context)
    except ValidationError as error:
        found += problems_of(error, Config, ())
    else:
        problems += _unknown_owners(config, kinds)
        there = config.providers.keys() | {problem.above[-1] for problem in found}  # those with problems too
        problems += routes_problems(config.routes, there)
        problems += limits_problems(owned(config.callers), config.tenants)
        similar = {f"routes.{name}.cache.similar": route.cache.similar for name, route in config.routes.items()}
        problems += semantic_problems(config.cache.semantic, {"cache.similar": config.cache.similar, **similar}, there)
    problems += dict.fromkeys(said(problem, variables) for problem in found)
    if problems:
        raise ConfigError(problems)
    return config


def _unknown_owners(config: Config, kinds: Mapping[str, Kind]) -> list[str]:
    """Providers of the overlay that nobody has heard of. One that is not set up here may be so elsewhere."""
    names = sorted({*config.providers, *kinds})
    problems = []
    for name in config.catalog.overlay.providers:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
            hint = f"; did you mean {near[0]}?" if near else ""
            problems.append(f"catalog.overlay.providers.{name}: no provider goes by this name{hint}")
    return problems


def _usual_providers(kinds: Mapping[str, Kind], environ: Mapping[str, str]) -> dict[str, Any]:
    """The providers of a configuration that names none."""
    usual = {name: kind.usually(environ) for name, kind in kinds.items()}
    return {name: dict(settings) for name, settings in usual.items() if settings is not None}


def _providers(
    given: Mapping[Any, Any], kinds: Mapping[str, Kind], context: Mapping[str, Any]
) -> tuple[dict[Any, Any], list[Problem]]:
    """The settings of every provider as its kind has them, and what is wrong with the others."""
    done: dict[Any, Any] = {}
    problems: list[Problem] = []
    for name, settings in given.items():
        above = ("providers", str(name))
        if settings is not None and not isinstance(settings, dict):
            problems.append(Problem({"type": "model_type", "loc": (), "msg": ""}, None, above))
            continue
        said = {"kind": name, **(settings or {})}
        kind = kinds.get(str(said["kind"]))
        if kind is None:
            message = f"{str(said['kind'])!r} is not a kind of provider; kinds: {', '.join(kinds)}"
            near = difflib.get_close_matches(str(said["kind"]), kinds, n=1, cutoff=0.7)
            message += f"; did you mean {near[0]}?" if near else ""
            problems.append(Problem({"type": "kind", "loc": ("kind",), "msg": message}, None, above))
            continue
        try:
            done[name] = kind.settings.model_validate(said, context=dict(context))
        except ValidationError as error:
            problems += problems_of(error, kind.settings, above)
    return done, problems


def read(path: Path | None, files: set[Path] | None = None) -> Config:
    """The configuration in the file at `path`, if any, and in the environment of this process; see `load`."""
    try:
        text = path.read_text("utf-8") if path else ""
    except OSError as error:
        raise ConfigError([f"cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise ConfigError(["cannot be read: it is not UTF-8 text"]) from None
    return load(text, os.environ, files=files)
