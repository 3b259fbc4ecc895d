"""Where state is kept that outlives a call, and what happens while it is not there."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field, FilePath, model_validator

from parley_server.settings import NO_SECRET, Seconds, SecretRef, Section
from parley_server.stores.health import Mode, Purpose

_SCHEMES = re.compile(r"rediss?(\+sentinel|\+cluster)?")
_FORMS = "redis://host:6379/0, redis+sentinel://host:26379,host:26379/primary/0 or redis+cluster://host:6379,host:6379"
_PORTS = {"": 6379, "+sentinel": 26379, "+cluster": 6379}


def _url(text: str) -> str:
    url = urlsplit(text)
    if not _SCHEMES.fullmatch(url.scheme) or not url.netloc or not text.isprintable() or " " in text:
        raise ValueError(f"write {_FORMS}, with rediss for TLS")
    if "@" in url.netloc or "password" in url.query:
        raise ValueError("the URL holds no credentials: they would be in logs; use redis.username and redis.password")
    if url.query or url.fragment:
        raise ValueError(f"the URL ends with its path: write {_FORMS}")
    kind = url.scheme.removeprefix("rediss").removeprefix("redis")
    hosts = _hosts(url.netloc, _PORTS[kind])
    parts = [unquote(part) for part in url.path.split("/")[1:] if part]
    match kind:
        case "" if len(hosts) > 1:
            raise ValueError("several hosts are redis+sentinel://… or redis+cluster://…")
        case "+sentinel" if not parts:
            raise ValueError("after the Sentinels comes the name of the primary: redis+sentinel://host:26379/primary")
        case "+cluster" if parts:
            raise ValueError("a cluster has no numbered databases: the URL ends with its hosts")
    numbers = parts[1:] if kind == "+sentinel" else parts
    if len(numbers) > 1 or not all(number.isascii() and number.isdecimal() for number in numbers):
        raise ValueError(f"the database is a number: {_FORMS}")
    return text


def _hosts(netloc: str, usual: int) -> tuple[tuple[str, int], ...]:
    hosts = []
    for text in netloc.split(","):
        one = urlsplit(f"//{text}")
        if not one.hostname:
            raise ValueError(f"{text!r} is not host or host:port (IPv6 hosts are written in brackets)")
        hosts.append((one.hostname, one.port or usual))  # .port raises ValueError if it is none
    return tuple(hosts)


class RedisTls(Section):
    """Certificates for rediss:// URLs. Files in PEM."""

    ca_file: FilePath | None = Field(
        None, description="Who may sign the server's certificate; the system's list if unset."
    )
    cert_file: FilePath | None = Field(None, description="The certificate that the gateway shows, with its chain.")
    key_file: FilePath | None = Field(None, description="The key of that certificate, where it is a file of its own.")
    verify: bool = Field(True, description="Check the server's certificate and its name. Only ever off for a trial.")


class OnFailure(Section):
    """What happens while a store cannot be asked, by what it is for."""

    cache: Literal["open", "closed"] = Field(
        "open", description="Calls go on with what this gateway has cached itself, or those that want it are refused."
    )
    limits: Literal["local", "closed", "open"] = Field(
        "local",
        description="Each gateway keeps the limit divided by `replicas`, or refuses calls, or lets all through.",
    )
    idempotency: Literal["closed", "local"] = Field(
        "closed", description="Calls with an idempotency key are refused, or known to this gateway only."
    )
    resume: Literal["degraded", "closed"] = Field(
        "degraded", description="Streams can be resumed at this gateway only, or are refused if they asked for it."
    )

    def modes(self) -> dict[Purpose, Mode]:
        """By purpose."""
        return {"cache": self.cache, "limits": self.limits, "idempotency": self.idempotency, "resume": self.resume}


class RedisSettings(Section):
    """A Redis-compatible server, version 6.2 or later, that several gateways share.

    All but `replicas` and `on_failure` is read at start only.
    """

    url: Annotated[str, AfterValidator(_url)] | None = Field(
        None, description=f"Where it is: {_FORMS}; rediss for TLS. Unset: nothing is shared."
    )
    username: str | None = Field(None, description="ACL user; the default user if unset.")
    password: SecretRef = Field(NO_SECRET, description="The user's password.")
    sentinel_username: str | None = Field(None, description="ACL user at the Sentinels.")
    sentinel_password: SecretRef = Field(NO_SECRET, description="Its password.")
    tls: RedisTls = RedisTls()
    prefix: str = Field("parley:", max_length=64, description="What every key and channel begins with.")
    connections: int = Field(
        4, ge=1, le=64, description="Connections; requests that wait for one share the next write."
    )
    connect_timeout: Seconds = Field(0.25, description="Seconds a connection may take, TLS and log-in included.")
    timeout: Seconds = Field(0.5, description="Seconds an answer may take.")
    slow: Seconds = Field(
        0.15, description="Seconds after which answers, if it is all of them, are too slow to be of use."
    )
    replicas: int = Field(1, ge=1, le=10_000, description="Gateways that share it, for `on_failure.limits: local`.")
    on_failure: OnFailure = OnFailure()

    @model_validator(mode="after")
    def _installed(self) -> RedisSettings:
        if self.url is not None and importlib.util.find_spec("redis") is None:
            raise ValueError("Redis needs a package that is not installed: pip install 'parley-server[redis]'")
        return self

    @property
    def kind(self) -> Literal["standalone", "sentinel", "cluster"]:
        """How the servers at `url` are organised."""
        scheme = urlsplit(self.url or "").scheme
        return (
            "sentinel" if scheme.endswith("+sentinel") else "cluster" if scheme.endswith("+cluster") else "standalone"
        )

    @property
    def encrypted(self) -> bool:
        """Whether `url` asks for TLS."""
        return (self.url or "").startswith("rediss")

    @property
    def hosts(self) -> tuple[tuple[str, int], ...]:
        """Host and port of the server, of the Sentinels, or of some of a cluster's nodes."""
        url = urlsplit(self.url or "")
        return _hosts(url.netloc, _PORTS[url.scheme.removeprefix("rediss").removeprefix("redis")])

    @property
    def path(self) -> list[str]:
        """What follows the hosts: the name of a primary for Sentinels, the number of a database."""
        return [unquote(part) for part in urlsplit(self.url or "").path.split("/")[1:] if part]

    @property
    def primary(self) -> str:
        """What Sentinels call the primary."""
        return self.path[0] if self.kind == "sentinel" else ""

    @property
    def database(self) -> int:
        """The number of the database."""
        numbers = self.path[1:] if self.kind == "sentinel" else self.path
        return int(numbers[0]) if numbers else 0

    @property
    def name(self) -> str:
        """The server, as error messages name it."""
        hosts = ", ".join(f"{host}:{port}" for host, port in self.hosts)
        match self.kind:
            case "sentinel":
                return f"Redis ({self.primary} of the Sentinels at {hosts})"
            case "cluster":
                return f"Redis (cluster of {hosts})"
            case _:
                return f"Redis at {hosts}"


class StorageSettings(Section):
    """A file for state that outlives the process, shared by the gateways of one machine. Read at start only."""

    path: Path | None = Field(
        None,
        description="An SQLite database, made if need be, on a local disk. Unset: kept in memory. Unused with Redis.",
    )
    max_bytes: int = Field(
        1024**3,
        ge=4 * 1024**2,
        le=1024**5,
        description="Most that the file may grow to; above nine tenths of it, cached answers are forgotten.",
    )
