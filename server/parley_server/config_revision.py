"""Tells configurations apart, and what of a new one a running gateway can take over. Pure."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from parley_server.config import Config
from parley_server.config_reach import Tls
from parley_server.core.secret import Secret
from parley_server.stores.settings import RedisSettings

NEEDS_RESTART = (
    "server.insecure",
    "server.address",
    "server.tls",
    "server.max_request_bytes",
    "server.max_response_bytes",
    "server.max_connection_age",
    "server.max_connection_age_grace",
    "server.reflection",
    "admin.enabled",
    "admin.insecure",
    "admin.address",
    "admin.metrics_address",
    "admin.stalled_after",
    "telemetry.enabled",
    "telemetry.traces",
    "telemetry.metrics",
    "telemetry.by_caller",
    "telemetry.protocol",
    "telemetry.service_name",
    "resume.window",
    "resume.max_bytes",
    "resume.total_bytes",
    "storage.path",
    "storage.max_bytes",
    *(f"redis.{name}" for name in RedisSettings.model_fields if name not in ("replicas", "on_failure")),
)
"""Settings that sockets, servers and exporters are made with: they stay what they were at start."""


def carried(old: Config, new: Config) -> tuple[Config, list[str]]:
    """`new` as far as a gateway that runs under `old` can take it over, and the paths of what has to wait."""
    waiting: list[str] = []
    for path in NEEDS_RESTART:
        section, _, name = path.partition(".")
        is_so, wanted = getattr(old, section), getattr(new, section)
        if _built(getattr(is_so, name)) != _built(getattr(wanted, name)):
            waiting.append(path)
            kept = wanted.model_copy(update={name: getattr(is_so, name)})
            new = new.model_copy(update={section: kept})
    return new, waiting


def _built(value: object) -> object:
    """What a socket is made with. Other certificates are shown without a new one."""
    return (Tls, value.client_ca is None) if isinstance(value, Tls) else value


def digest(config: BaseModel | Mapping[str, BaseModel]) -> str:
    """SHA-256 in hexadecimal over every setting; of secrets only their own digests go into it.

    Two gateways whose configurations have the same digest are set up alike, whatever their files look like.
    """
    return _sha256(json.dumps(_plain(config), sort_keys=True, default=str))


def secrets(value: Any) -> Iterator[str]:
    """The texts of all secrets in a configuration."""
    match value:
        case Secret():
            yield value.reveal()
        case BaseModel():
            for name in type(value).model_fields:
                yield from secrets(getattr(value, name))
        case Mapping():
            for item in value.values():
                yield from secrets(item)
        case str() | bytes():
            return
        case Collection():
            for item in value:
                yield from secrets(item)
        case _ if dataclasses.is_dataclass(value):
            for field in dataclasses.fields(value):
                yield from secrets(getattr(value, field.name))


def _plain(value: Any) -> Any:
    match value:
        case Secret():
            return {"secret": _sha256(value.reveal())}
        case BaseModel():
            return {name: _plain(getattr(value, name)) for name in type(value).model_fields}
        case bytes():
            return {"bytes": hashlib.sha256(value).hexdigest()}
        case str():
            return value
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case set() | frozenset():
            return sorted(json.dumps(_plain(item), sort_keys=True, default=str) for item in value)
        case Collection():
            return [_plain(item) for item in value]
        case _ if dataclasses.is_dataclass(value):
            return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        case _:
            return value


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
