"""Asks a token server, over the gateway's own wire, and reads what it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any
from urllib.parse import urlencode

import orjson

from parley import v1
from parley_server.core.errors import CredentialsRejected, GatewayError, Unavailable
from parley_server.core.secret import Secret
from parley_server.dialects import hints
from parley_server.providers.auth.tokens import Token
from parley_server.transports.base import Incoming, Outgoing, Transport

_LARGEST_ANSWER = 256 * 1024  # bytes
_CONNECT_TIMEOUT = 10.0  # seconds
_TIMEOUT = 30.0  # seconds, for the whole exchange
_USUAL_LIFE = 600.0  # seconds; where the answer does not say how long the token holds
_TRY_LATER = (408, 425, 429)

Fields = Mapping[str, str | Secret]
"""What is sent; the secrets among it are never repeated."""


async def post_form(
    transport: Transport, url: str, form: Fields, headers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The JSON object that `url` answers to a form. Raises CredentialsRejected or Unavailable."""
    body = urlencode({name: _revealed(value) for name, value in form.items()}).encode()
    return await _ask(transport, url, body, "application/x-www-form-urlencoded", headers, _secrets(form))


async def post_json(
    transport: Transport, url: str, fields: Fields, headers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The JSON object that `url` answers to a flat JSON object. Raises CredentialsRejected or Unavailable."""
    body = orjson.dumps({name: _revealed(value) for name, value in fields.items()})
    return await _ask(transport, url, body, "application/json", headers, _secrets(fields))


async def get_json(transport: Transport, url: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The JSON object at `url`: a metadata server, say. Raises CredentialsRejected or Unavailable."""
    return await _ask(transport, url, b"", "", headers, ())


def token_of(answer: Mapping[str, Any], now: float, field: str = "access_token") -> Token:
    """The token of an answer. `now`: Unix time. Raises Unavailable if there is none.

    When it expires: `expires_in` (seconds from now), or else `expires_on`, `expires_at` or `expiration` (Unix time).
    """
    value = answer.get(field)
    if not isinstance(value, str) or not value.strip() or not (value.isascii() and value.isprintable()):
        raise Unavailable(f"the token server's answer holds no {field}")
    if (life := _number(answer.get("expires_in"))) is not None:
        return Token(Secret(value), now + life)
    for name in ("expires_on", "expires_at", "expiration"):
        if (when := _number(answer.get(name))) is not None:
            return Token(Secret(value), when)
    return Token(Secret(value), now + _USUAL_LIFE)


async def _ask(
    transport: Transport,
    url: str,
    body: bytes,
    content_type: str,
    headers: Mapping[str, str] | None,
    secrets: tuple[str, ...],
) -> dict[str, Any]:
    sent = {"accept": "application/json", **({"content-type": content_type} if content_type else {}), **(headers or {})}
    request = Outgoing("POST" if content_type else "GET", url, sent, body)
    try:
        async with asyncio.timeout(_TIMEOUT):
            incoming = await transport.send(request, connect_timeout=_CONNECT_TIMEOUT)
            async with aclosing(incoming):
                text = await incoming.read(_LARGEST_ANSWER)
    except TimeoutError:
        raise Unavailable(f"the token server did not answer within {_TIMEOUT:g} s") from None
    except GatewayError as error:  # of the wire, which speaks of "the provider"
        raise Unavailable(f"the token server cannot be asked: {error.message}") from None
    answer = _object(text)
    if incoming.status >= 300:
        raise _refusal(incoming, answer, secrets)
    if answer is None:
        raise Unavailable("the token server's answer is not a JSON object")
    return answer


def _refusal(incoming: Incoming, answer: Mapping[str, Any] | None, secrets: tuple[str, ...]) -> GatewayError:
    status = incoming.status
    code, message = _words(answer or {})
    for secret in secrets:  # some servers repeat what was sent
        code, message = code.replace(secret, "[redacted]"), message.replace(secret, "[redacted]")
    said = v1.ProviderError(http_status=status, code=hints.provider_text(code), message=hints.provider_text(message))
    words = f": {said.message or said.code}" if message or code else ""
    if 400 <= status < 500 and status not in _TRY_LATER:
        return CredentialsRejected(f"the token server refuses the credentials ({status}){words}", provider_error=said)
    return Unavailable(
        f"the token server answered {status}{words}",
        retry_after=hints.retry_after(incoming.headers),
        provider_error=said,
    )


def _words(answer: Mapping[str, Any]) -> tuple[str, str]:
    """Code and message: OAuth's `error` and `error_description`, or an object in `error`, or what vendors have."""
    match answer:
        case {"error": {"message": str(message), **more}}:
            return str(more.get("status") or more.get("code") or ""), message
        case {"error": str(code)}:
            return code, str(answer.get("error_description") or "")
        case _:
            code = answer.get("errorCode") or answer.get("error_code") or answer.get("code") or ""
            return str(code), str(answer.get("errorMessage") or answer.get("message") or "")


def _object(text: bytes) -> dict[str, Any] | None:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _number(value: Any) -> float | None:
    """A positive number of seconds, which some servers write as text."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if 0 < number < 1e11 else None


def _revealed(value: str | Secret) -> str:
    return value.reveal() if isinstance(value, Secret) else value


def _secrets(fields: Fields) -> tuple[str, ...]:
    return tuple(value.reveal() for value in fields.values() if isinstance(value, Secret) and value)
