"""Who calls: callers by the digests of their keys.

Keys are kept and compared as SHA-256 digests only, so the gateway need not hold a key that opens it. One look into a
dictionary finds the caller: how long that takes tells of digests, which nobody can choose, and not of keys.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from parley_server.core.context import Context
from parley_server.core.errors import CredentialsMissing, Unauthenticated

_BEARER = "bearer "


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody with a key. `tenant`: whose data it is; callers of one tenant may share answers."""

    name: str
    tenant: str


class Callers:
    """All who may call, by the SHA-256 digest of each of their keys."""

    def __init__(self, by_digest: Mapping[bytes, Caller]) -> None:
        self._by_digest = dict(by_digest)

    def identify(self, ctx: Context) -> None:
        """Say in `ctx` who calls. Raises CredentialsMissing, Unauthenticated."""
        if not ctx.key:
            raise CredentialsMissing("this gateway asks for a key: authorization: Bearer KEY, or x-api-key: KEY")
        caller = self._by_digest.get(ctx.key)
        ctx.key = b""
        if caller is None:
            raise Unauthenticated("the gateway does not know the key that was shown")
        ctx.caller, ctx.tenant = caller.name, caller.tenant


def digest(key: str) -> bytes:
    """What is kept of a key: 32 bytes."""
    return hashlib.sha256(key.encode()).digest()


def bearer(authorization: str) -> str:
    """The key in the value of `authorization`. A value of another scheme stays whole, and is nobody's key."""
    value = authorization.strip()
    return value[len(_BEARER) :].strip() if value[: len(_BEARER)].lower() == _BEARER else value
