"""How a provider wants to be shown the key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from parley_server.core.secret import Secret
from parley_server.transports.base import Outgoing


class Auth(Protocol):
    """Gives the headers that authenticate a request. A flow may have to fetch or renew a token first."""

    async def headers(self, request: Outgoing, /) -> Mapping[str, str]:
        """Headers to add to `request`, which is complete but for them.

        Raises CredentialsRejected or Unavailable where a token cannot be had.
        """
        ...

    def rejected(self, status: int, /) -> bool:
        """The provider answered 401 or 403. True if it was to a token that may be stale: ask again with a new one."""
        ...


class _Lasting:
    """A credential that does not change: what was refused once is refused again."""

    def rejected(self, _status: int) -> bool:
        return False


class Open(_Lasting):
    """No credential: local servers."""

    async def headers(self, _request: Outgoing) -> Mapping[str, str]:
        return {}


class Header(_Lasting):
    """The key in a header of its own, such as `x-api-key`."""

    def __init__(self, name: str, key: Secret) -> None:
        self._headers = {name: key.reveal()} if key else {}

    async def headers(self, _request: Outgoing) -> Mapping[str, str]:
        return self._headers

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self._headers)})"


class Bearer(Header):
    """`authorization: Bearer <key>`; nothing at all without a key, since an empty bearer gives a confusing 401."""

    def __init__(self, key: Secret) -> None:
        super().__init__("authorization", Secret(f"Bearer {key.reveal()}") if key else key)
