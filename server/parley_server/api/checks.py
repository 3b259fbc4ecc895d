"""Checks of single values, which the checks of requests are made of. Each says what is wrong, at which path."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Protocol

import jsonschema_rs
import orjson
from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.duration_pb2 import Duration

from parley import v1

_JSON_DEPTH = 128
_SCHEMA_BYTES = 256 * 1024

Say = Callable[[str, str], None]
"""Called with the path of a field and what is wrong with it."""


def seconds(duration: Duration) -> float:
    """A protobuf duration in seconds."""
    return duration.seconds + duration.nanos / 1e9


def positive(
    holder: v1.RoutingOptions | v1.PromptCacheOptions | v1.ResponseCacheOptions, name: str, path: str, say: Say
) -> None:
    """The duration `name` of `holder` is above 0, if it is set."""
    if holder.HasField(name) and seconds(getattr(holder, name)) <= 0:  # type: ignore[arg-type]
        say(f"{path}.{name}", "must be above 0")


def in_range(value: float, low: float, high: float, path: str, say: Say) -> None:
    """A number is within its bounds, both included."""
    if not low <= value <= high:  # also catches NaN, which compares as false
        say(path, f"is {value:g}; {low:g} to {high:g} are allowed")


class Enum(Protocol):
    """The class of an enum of the contract."""

    @property
    def DESCRIPTOR(self) -> EnumDescriptor: ...


def known_enum(value: int, enum: Enum, path: str, say: Say) -> None:
    """A value is one that this server knows."""
    if value and value not in enum.DESCRIPTOR.values_by_number:
        say(path, f"{value} is not a value this server knows")


def json_object(text: str, path: str, say: Say) -> None:
    """A text is a JSON object, and not too deep."""
    problem = _json_problem(text)
    if problem:
        say(path, problem)


def _json_problem(text: str) -> str:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return f"is not JSON: {error.msg} at character {error.pos}"
    if not isinstance(value, dict):
        return "must be a JSON object"
    return "" if _depth_within(value, _JSON_DEPTH) else f"is nested more than {_JSON_DEPTH} levels deep"


def _depth_within(value: object, limit: int) -> bool:
    level: Iterable[object] = [value]
    for _ in range(limit):
        level = [child for node in level for child in _children(node)]
        if not level:
            return True
    return False


def _children(node: object) -> Iterable[object]:
    match node:
        case dict():
            return [v for v in node.values() if isinstance(v, dict | list)]
        case list():
            return [v for v in node if isinstance(v, dict | list)]
        case _:
            return ()


def schema(text: str, path: str, say: Say) -> None:
    """A text is a JSON Schema, and not too large."""
    if len(text) > _SCHEMA_BYTES or len(text.encode()) > _SCHEMA_BYTES:
        say(path, "is larger than 256 KiB")
        return
    problem = _schema_problem(text)
    if problem:
        say(path, problem)


@functools.lru_cache(maxsize=256)
def _schema_problem(text: str) -> str:
    """Why `text` is not a JSON Schema. Remembered, since a service sends the same tools with every request."""
    problem = _json_problem(text)
    if problem:
        return problem
    try:
        jsonschema_rs.meta.validate(orjson.loads(text))
    except jsonschema_rs.ValidationError as error:
        where = "/".join(str(step) for step in error.instance_path)
        return f"is not a JSON Schema: {error.message[:200]}" + (f" (at /{where})" if where else "")
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        return f"is not a JSON Schema: {str(error)[:200]}"
    return ""
