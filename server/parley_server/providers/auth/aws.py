"""Signatures of AWS (Signature Version 4), and where the credentials for them come from.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import Any
from urllib.parse import quote, urlsplit

import orjson

from parley_server.core.errors import CredentialsRejected
from parley_server.core.secret import Secret
from parley_server.providers.auth.base import Auth
from parley_server.providers.auth.tokens import Token, TokenAuth
from parley_server.transports.base import Outgoing

_ALGORITHM = "AWS4-HMAC-SHA256"
_SIGNED = ("content-type", "host", "x-amz-")
"""Beginnings of the headers that are signed: what the transport adds by itself it may add."""
_READ_AGAIN = 900.0  # seconds until credentials that do not expire are looked up again
_LOOK_UP_TIMEOUT = 60.0  # seconds; the chain asks several places, some of them over the network
_FIELD = "credentials"
_NO_TOKEN = Secret("")


@dataclass(frozen=True, slots=True)
class Credentials:
    """A key of AWS; `session_token` comes with those that expire."""

    access_key_id: str
    secret_access_key: Secret
    session_token: Secret = _NO_TOKEN


def sign(request: Outgoing, credentials: Credentials, region: str, service: str, now: datetime) -> dict[str, str]:
    """The headers that sign `request`, to be added to its own. `now`: in UTC."""
    url = urlsplit(request.url)
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    added = {"x-amz-date": stamp}
    if credentials.session_token:
        added["x-amz-security-token"] = credentials.session_token.reveal()
    signed = {name: value for name, value in request.headers.items() if name.startswith(_SIGNED)}
    signed |= {"host": _host(url.scheme, url.hostname or "", url.port), **added}
    names = sorted(signed)
    signed_names = ";".join(names)
    canonical = "\n".join(
        (
            request.method.upper(),
            quote(_without_dots(url.path), safe="/~"),  # encoded once more: so does every service but S3
            _query(url.query),
            *(f"{name}:{' '.join(signed[name].split())}" for name in names),
            "",
            signed_names,
            hashlib.sha256(request.body).hexdigest(),
        )
    )
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = b"AWS4" + credentials.secret_access_key.reveal().encode()
    for step in scope.split("/"):
        key = hmac.digest(key, step.encode(), "sha256")
    signature = hmac.digest(key, f"{_ALGORITHM}\n{stamp}\n{scope}\n{digest}".encode(), "sha256").hex()
    added["authorization"] = (
        f"{_ALGORITHM} Credential={credentials.access_key_id}/{scope}, "
        f"SignedHeaders={signed_names}, Signature={signature}"
    )
    return added


def _host(scheme: str, name: str, port: int | None) -> str:
    """As HTTP clients write it: without the port that the scheme has anyway."""
    host = f"[{name}]" if ":" in name else name
    return host if port in (None, {"http": 80, "https": 443}.get(scheme)) else f"{host}:{port}"


def _without_dots(path: str) -> str:
    """`path` without segments that are empty or dots, which servers resolve before they compare."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(segment)
    ends_in_slash = path.endswith("/") and bool(kept)
    return f"/{'/'.join(kept)}{'/' if ends_in_slash else ''}"


def _query(query: str) -> str:
    """The pairs of an encoded query in order."""
    if not query:
        return ""
    pairs = sorted(pair.partition("=")[::2] for pair in query.split("&"))
    return "&".join(f"{name}={value}" for name, value in pairs)


class AwsAuth(Auth):
    """Signs requests for one region, with a key that lasts or with what a chain of sources gives.

    `service`: by which name a URL's service signs. `clock`: Unix time.
    """

    def __init__(
        self,
        credentials: Credentials | Callable[[], Awaitable[tuple[Credentials, float]]],
        region: str,
        service: Callable[[str], str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`credentials`: these, or a way to fetch them, which also says when they expire (Unix time)."""
        self._region = region
        self._service = service
        self._clock = clock
        self._lasting = credentials if isinstance(credentials, Credentials) else None

        async def fetch() -> Token:
            if isinstance(credentials, Credentials):
                return Token(_packed(credentials), math.inf)
            fetched, expires_at = await credentials()
            return Token(_packed(fetched), expires_at)

        self._held = TokenAuth(fetch, clock, header=_FIELD, scheme="", fetch_timeout=_LOOK_UP_TIMEOUT)

    async def headers(self, request: Outgoing) -> Mapping[str, str]:
        """The signature. Raises CredentialsRejected or Unavailable where there are no credentials."""
        credentials = self._lasting
        if credentials is None:
            credentials = _unpacked((await self._held.headers(request))[_FIELD])
        now = datetime.fromtimestamp(self._clock(), UTC)
        return sign(request, credentials, self._region, self._service(request.url), now)

    def rejected(self, status: int) -> bool:
        """After a 403, which AWS says to credentials that have expired, look them up again, unless they are new."""
        return self._lasting is None and status in (401, 403) and self._held.rejected(401)

    def __repr__(self) -> str:
        source = "a chain of sources" if self._lasting is None else self._lasting.access_key_id[:4] + "…"
        return f"AwsAuth({self._region}, {source})"


def has_chain() -> bool:
    """Whether botocore is installed, which knows the places where credentials are kept."""
    return find_spec("botocore") is not None


def chain(profile: str, clock: Callable[[], float] = time.time) -> Callable[[], Awaitable[tuple[Credentials, float]]]:
    """Looks where AWS's own tools look: environment, profiles, SSO, web identity, containers, the machine's metadata.

    `profile`: of the files in ~/.aws; empty: as these tools choose. Raises CredentialsRejected if there are none.
    """

    async def fetch() -> tuple[Credentials, float]:
        return await asyncio.to_thread(_looked_up, profile, clock)  # it blocks, and the import alone takes a second

    return fetch


def _looked_up(profile: str, clock: Callable[[], float]) -> tuple[Credentials, float]:
    import botocore.session  # the extra `aws`; slow to import
    from botocore.exceptions import BotoCoreError

    try:
        found = botocore.session.Session(profile=profile or None).get_credentials()
        frozen = found.get_frozen_credentials() if found is not None else None
    except BotoCoreError as error:
        raise CredentialsRejected(f"looking up AWS credentials failed: {type(error).__name__}") from None
    if frozen is None or not frozen.access_key or not frozen.secret_key:
        raise CredentialsRejected("there are no AWS credentials in any of the usual places")
    expiry: Any = getattr(found, "_expiry_time", None)  # there is no public way to ask
    expires_at = expiry.timestamp() if isinstance(expiry, datetime) else clock() + _READ_AGAIN
    return Credentials(frozen.access_key, Secret(frozen.secret_key), Secret(frozen.token or "")), expires_at


def _packed(credentials: Credentials) -> Secret:
    parts = (credentials.access_key_id, credentials.secret_access_key.reveal(), credentials.session_token.reveal())
    return Secret(orjson.dumps(parts).decode())


def _unpacked(text: str) -> Credentials:
    key_id, secret, session = orjson.loads(text)
    return Credentials(key_id, Secret(secret), Secret(session))
