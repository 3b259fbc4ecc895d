"""What the driver asks of a way to authenticate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from parley_server.core.context import Context
from parley_server.core.errors import GatewayError
from parley_server.transports.base import Outgoing


class Auth(Protocol):
    """Gives the headers that authenticate a request. A flow may have to fetch or renew a token first.

    Derive from it: what only those with several credentials need is here with what all others do.
    """

    async def headers(self, request: Outgoing, /) -> Mapping[str, str]:
        """Headers to add to `request`, which is complete but for them.

        Raises CredentialsRejected, RateLimited, QuotaExhausted or Unavailable where there is nothing to show.
        """
        ...

    def rejected(self, status: int, /) -> bool:
        """The provider answered 401 or 403. True if it was to a token that may be stale: ask again with a new one.

        Called by the task that called `headers`, so that a flow can tell which token is meant.
        """
        ...

    def for_request(self, _model: str, _ctx: Context | None = None, /) -> Auth:
        """What authenticates one request for a model: of several credentials it knows which one was shown.

        It begins with the one that `ctx.credential` names, if any, and leaves there which one it ended with.
        """
        return self

    def accepted(self) -> None:
        """The provider answered the request. Of what `for_request` gave, as the next one."""
        return

    def refused(self, _error: GatewayError, /) -> bool:
        """The provider refused the request, with `error`. True: ask again at once, another credential may do."""
        return False

    def usable(self, _model: str, /) -> Sequence[int]:
        """Numbers of the credentials that requests for a model may be made with now."""
        return (0,)
