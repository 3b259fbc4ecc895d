"""How a provider wants to be shown the key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from parley_server.core.secret import Secret


class Auth(Protocol):
    """Gives the headers that authenticate a request. A flow may have to fetch or renew a token first."""

    async def headers(self) -> Mapping[str, str]: ...


class Open:
    """No credential: local servers."""

    async def headers(self) -> Mapping[str, str]:
        return {}


class Header:
    """The key in a header of its own, such as `x-api-key`."""

    def __init__(self, name: str, key: Secret) -> None:
        self._headers = {name: key.reveal()} if key else {}

    async def headers(self) -> Mapping[str, str]:
        return self._headers

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self._headers)})"


class Bearer(Header):
    """`authorization: Bearer <key>`; nothing at all without a key, since an empty bearer gives a confusing 401."""

    def __init__(self, key: Secret) -> None:
        super().__init__("authorization", Secret(f"Bearer {key.reveal()}") if key else key)
