"""What the driver asks of a way to authenticate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from parley_server.transports.base import Outgoing


class Auth(Protocol):
    """Gives the headers that authenticate a request. A flow may have to fetch or renew a token first."""

    async def headers(self, request: Outgoing, /) -> Mapping[str, str]:
        """Headers to add to `request`, which is complete but for them.

        Raises CredentialsRejected or Unavailable where a token cannot be had.
        """
        ...

    def rejected(self, status: int, /) -> bool:
        """The provider answered 401 or 403. True if it was to a token that may be stale: ask again with a new one.

        Called by the task that called `headers`, so that a flow can tell which token is meant.
        """
        ...
