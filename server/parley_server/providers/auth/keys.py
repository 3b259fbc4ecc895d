"""Credentials that do not change."""

from __future__ import annotations

from collections.abc import Mapping

from parley_server.core.secret import Secret
from parley_server.providers.auth.base import Auth
from parley_server.transports.base import Outgoing


class _Lasting(Auth):
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
