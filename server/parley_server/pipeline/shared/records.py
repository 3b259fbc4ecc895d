"""What gateways tell each other of calls with an idempotency key: that one is under way, and what came of it."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from parley import v1
from parley_server.core.errors import Bug, GatewayError, Unavailable, Violation
from parley_server.pipeline.shared.memory import Remembered

_FORM = b"1"  # another one for whatever changes what follows
_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in (v1.ChatResponse, v1.EmbedResponse, v1.RerankResponse)}


@dataclass(frozen=True, slots=True)
class Begun:
    """A call that `owner` makes. `lost`: it is over, and its answer was too long to be kept."""

    digest: bytes
    response_id: str
    owner: str
    lost: bool = False


def packed(record: Begun | Remembered) -> bytes:
    """The bytes that stand for a record."""
    head: dict[str, Any] = {"digest": record.digest.hex(), "response": record.response_id}
    data = b""
    if isinstance(record, Begun):
        head |= {"owner": record.owner, "lost": record.lost}
    else:
        warnings = [_text(warning.SerializeToString()) for warning in record.warnings]
        head |= {"kind": record.kind.__name__, "warnings": warnings}
        if record.error is not None:
            head["error"] = _told(record.error)
        data = record.data
    told = orjson.dumps(head)
    return b"".join([_FORM, len(told).to_bytes(4, "big"), told, data])


def unpacked(data: bytes, until: float) -> Begun | Remembered:
    """The record; an answer is remembered `until` then. Raises ValueError for what is none, or of another version."""
    if data[:1] != _FORM:
        raise ValueError("another version")
    end = 5 + int.from_bytes(data[1:5], "big")
    try:
        head = orjson.loads(data[5:end])
        digest, response_id = bytes.fromhex(head["digest"]), head["response"]
        if "owner" in head:
            return Begun(digest, response_id, head["owner"], head["lost"])
        warnings = tuple(v1.Warning.FromString(b64decode(text)) for text in head["warnings"])
        error = _meant(head["error"]) if "error" in head else None
        return Remembered(digest, response_id, _KINDS[head["kind"]], data[end:], warnings, error, until)
    except KeyError as missing:
        raise ValueError(f"it says nothing of {missing}") from None


def _told(error: Exception) -> dict[str, Any]:
    if not isinstance(error, GatewayError):  # its text stays where it happened
        error = Bug("internal error; quote the request ID of the call that met it")
    said = error.provider_error
    return {
        "class": type(error).__name__,
        "message": error.message,
        "retryable": error.retryable,
        "attempted": error.attempted,
        "retry_after": error.retry_after,
        "provider_error": None if said is None else _text(said.SerializeToString()),
        "violations": [[one.field, one.description, one.reason] for one in error.violations],
        "facts": error.facts,
    }


def _meant(told: dict[str, Any]) -> GatewayError:
    classes = {kind.__name__: kind for kind in _descendants(GatewayError)}
    said = told["provider_error"]
    error = classes.get(told["class"], Unavailable)(
        told["message"],
        retry_after=told["retry_after"],
        provider_error=None if said is None else v1.ProviderError.FromString(b64decode(said)),
        violations=[Violation(*one) for one in told["violations"]],
        facts=told["facts"],
    )
    error.retryable, error.attempted = told["retryable"], told["attempted"]
    return error


def _descendants(kind: type[GatewayError]) -> Iterator[type[GatewayError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _descendants(child)


def _text(data: bytes) -> str:
    return b64encode(data).decode()
