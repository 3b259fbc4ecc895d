"""Tokens of Google Cloud, by google-auth: from a key of one's own, or from whatever it finds in the surroundings.

google-auth reads the environment itself (GOOGLE_APPLICATION_CREDENTIALS, the login of gcloud, GCE_METADATA_HOST): that
is what application default credentials are. It blocks, so it runs in a thread.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC
from importlib import util
from typing import Any

import orjson

from parley_server.core.errors import CredentialsRejected, GatewayError, Unavailable
from parley_server.core.secret import Secret
from parley_server.dialects import hints
from parley_server.providers.auth.tokens import Token

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_TIMEOUT = 20.0  # seconds, of one request for a token
_USUAL_LIFE = 600.0  # seconds; where a token does not say how long it holds
_KINDS = ("service_account", "authorized_user", "external_account")


def is_installed() -> bool:
    """Whether the extra `google` is."""
    try:
        return util.find_spec("google.auth") is not None and util.find_spec("urllib3") is not None
    except ModuleNotFoundError:  # not even the package around it
        return False


def key_document(text: str) -> Mapping[str, Any]:
    """A key as Google Cloud gives it out: JSON with a type. Raises ValueError for anything else, repeating nothing."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict) or found.get("type") not in _KINDS:
        raise ValueError(f"not a key of Google Cloud: JSON whose type is one of {', '.join(_KINDS)}")
    if "executable" in (found.get("credential_source") or {}):
        raise ValueError("a key that runs a program is left to application default credentials")
    return found


def tokens(clock: Callable[[], float], key: Secret | None = None) -> Callable[[], Awaitable[Token]]:
    """Fetches tokens, by `key` (a text that `key_document` takes) or else by application default credentials.

    `clock` gives Unix time.
    """
    found: list[Any] = []  # the credentials, once they are; by one task at a time, as TokenAuth promises

    async def fetch() -> Token:
        value, life = await asyncio.to_thread(_fetch, found, key)
        return Token(Secret(value), clock() + life)

    return fetch


def _fetch(found: list[Any], key: Secret | None) -> tuple[str, float]:
    """A new token and the seconds that it holds. Blocks."""
    import urllib3  # the extra `google`, as the next ones
    from google.auth import exceptions
    from google.auth.transport.urllib3 import Request

    try:
        with urllib3.PoolManager(timeout=urllib3.Timeout(_TIMEOUT), retries=False) as pool:
            request = Request(pool)  # type: ignore[no-untyped-call]  # google-auth is typed in parts
            if not found:
                found.append(_credentials(key, request))
            credentials = found[0]
            credentials.refresh(request)
    except exceptions.DefaultCredentialsError:  # its text tells how to use gcloud
        raise CredentialsRejected("google-auth found no usable credentials of Google Cloud") from None
    except exceptions.TransportError:
        raise Unavailable("the token server of Google Cloud cannot be reached") from None
    except exceptions.GoogleAuthError as error:
        raise _refused(error) from None
    if not credentials.token:
        raise Unavailable("google-auth gave no token")
    expiry = credentials.expiry  # UTC, without saying so
    life = _USUAL_LIFE if expiry is None else expiry.replace(tzinfo=UTC).timestamp() - time.time()
    return credentials.token, life


def _refused(error: Any) -> GatewayError:
    said = hints.provider_text(str(error.args[0]) if error.args else "")
    kind = Unavailable if error.retryable else CredentialsRejected
    return kind(f"the token server of Google Cloud refuses: {said}" if said else "no token of Google Cloud can be had")


def _credentials(key: Secret | None, request: Any) -> Any:
    import google.auth
    from google.auth import aws, identity_pool
    from google.oauth2 import credentials, service_account

    if key is None:
        return google.auth.default(scopes=[SCOPE], request=request)[0]
    document = key_document(key.reveal())
    match document:
        case {"type": "service_account"}:
            return service_account.Credentials.from_service_account_info(document, scopes=[SCOPE])  # type: ignore[no-untyped-call]
        case {"type": "authorized_user"}:
            return credentials.Credentials.from_authorized_user_info(document, scopes=[SCOPE])  # type: ignore[no-untyped-call]
        case {"credential_source": {"environment_id": _}}:
            return aws.Credentials.from_info(document, scopes=[SCOPE])  # type: ignore[no-untyped-call]
    return identity_pool.Credentials.from_info(document, scopes=[SCOPE])  # type: ignore[no-untyped-call]
