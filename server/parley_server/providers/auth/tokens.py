"""Tokens that expire: fetched once for all callers, renewed before they are missed.

A token that still holds is given out at once, whatever goes on behind it: renewing, failing, waiting to try again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context, ContextVar
from dataclasses import dataclass

from parley import v1
from parley_server.core.errors import CredentialsRejected, GatewayError, Unavailable
from parley_server.core.secret import Secret
from parley_server.providers.auth.base import Auth
from parley_server.transports.base import Outgoing

_FETCH_TIMEOUT = 30.0  # seconds; all callers wait for the same fetch, so it may not hang
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0  # seconds between attempts that fail
_LONGEST_WISH = 600.0  # seconds; a token server that asks for more is asked earlier all the same
_JUST_NOW = 30.0  # seconds; a younger token that is refused is refused for another reason than its age
_LARGEST_SHARE = 0.25  # of a token's life: short-lived ones would be renewed all along otherwise

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Token:
    """What a token server gave."""

    value: Secret
    expires_at: float
    """Unix time."""


_shown: ContextVar[Token | None] = ContextVar("the token that the request of this task carries", default=None)


class TokenAuth(Auth):
    """`authorization: <scheme> <token>`, the token from `fetch`.

    `fetch` is called by one task at a time, never by that of a caller, and raises CredentialsRejected or Unavailable.
    `clock` gives Unix time. A token is renewed in the background from `refresh_ahead` seconds before it expires, or
    from the last quarter of its life if that is later. `header` is in lower case; without `scheme` the token is alone.
    """

    def __init__(
        self,
        fetch: Callable[[], Awaitable[Token]],
        clock: Callable[[], float] = time.time,
        *,
        refresh_ahead: float = 300.0,
        scheme: str = "Bearer",
        header: str = "authorization",
        fetch_timeout: float = _FETCH_TIMEOUT,
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._refresh_ahead = refresh_ahead
        self._scheme = scheme
        self._header = header
        self._fetch_timeout = fetch_timeout
        self._token: Token | None = None
        self._fetched_at = 0.0
        self._renew_at = 0.0
        self._fetching: asyncio.Task[None] | None = None
        self._failure: GatewayError | None = None
        self._failures = 0
        self._not_before = 0.0  # no attempt earlier than this, after one that failed

    async def token(self) -> Token:
        """A token that has not expired. Raises CredentialsRejected or Unavailable where none can be had."""
        now = self._clock()
        token = self._token
        if token is None or now >= token.expires_at:
            token = await self._fetched()
        elif now >= self._renew_at and now >= self._not_before:
            _ = self._running_fetch()  # in the background
        return token

    async def headers(self, _request: Outgoing) -> Mapping[str, str]:
        """The header with the token."""
        token = await self.token()
        _shown.set(token)
        value = token.value.reveal()
        return {self._header: f"{self._scheme} {value}" if self._scheme else value}

    def rejected(self, status: int) -> bool:
        """After a 401 forget the token that was refused, unless it is so young that its age cannot be the reason."""
        if status != 401:
            return False  # known, but not allowed: a new token of the same identity is not allowed either
        token, shown = self._token, _shown.get()
        if token is None or (shown is not None and shown is not token):
            return True  # somebody else had the same answer, and there is or will be a newer one
        if self._clock() - self._fetched_at < _JUST_NOW:
            return False
        self._token = None
        return True

    def __repr__(self) -> str:
        state = "none yet" if self._token is None else f"expires at {self._token.expires_at:.0f}"
        return f"TokenAuth({self._header}, {state})"

    async def _fetched(self) -> Token:
        """A new token. Whoever waits here can be cancelled: the fetch goes on for the others."""
        if self._fetching is None and self._failure is not None and (pause := self._not_before - self._clock()) > 0:
            raise _again(self._failure, pause)
        fetching = self._running_fetch()
        await asyncio.wait([fetching])
        token = self._token
        if fetching.cancelled():
            raise Unavailable("fetching a token was broken off")
        if self._failure is not None:
            raise _again(self._failure, max(self._not_before - self._clock(), 0.0))
        if token is None:  # refused by the provider in the moment it came
            raise Unavailable("the new token was refused at once")
        return token

    def _running_fetch(self) -> asyncio.Task[None]:
        """The one fetch under way, begun now if there is none."""
        if self._fetching is None:
            # in an empty context: the spans of the caller that happens to begin it are not those of the fetch
            self._fetching = asyncio.create_task(self._renew(), name="fetch a token", context=Context())
            self._fetching.add_done_callback(self._over)
        return self._fetching

    def _over(self, fetching: asyncio.Task[None]) -> None:
        if self._fetching is fetching:
            self._fetching = None

    async def _renew(self) -> None:
        """Fetch, and remember what came of it: the token, or why there is none and when to try again."""
        try:
            async with asyncio.timeout(self._fetch_timeout):
                token = await self._fetch()
        except GatewayError as error:
            self._failed(error)
        except TimeoutError:
            self._failed(Unavailable(f"the token server did not answer within {self._fetch_timeout:g} s"))
        except Exception as error:  # of a vendor's library, say; its text may hold anything and is not repeated
            self._failed(Unavailable(f"fetching a token failed: {type(error).__name__}"))
        else:
            now = self._clock()
            if token.expires_at <= now:
                self._failed(Unavailable("the token server gave a token that has expired already"))
                return
            self._failure, self._failures, self._not_before = None, 0, 0.0
            self._token, self._fetched_at = token, now
            self._renew_at = token.expires_at - min(self._refresh_ahead, (token.expires_at - now) * _LARGEST_SHARE)

    def _failed(self, error: GatewayError) -> None:
        if not isinstance(error, CredentialsRejected | Unavailable):
            error = Unavailable(error.message, retry_after=error.retry_after, provider_error=error.provider_error)
        pause = min(_FIRST_PAUSE * 2**self._failures, _LONGEST_PAUSE)
        self._failures = min(self._failures + 1, 16)
        self._failure = error
        self._not_before = self._clock() + max(pause, min(error.retry_after or 0.0, _LONGEST_WISH))
        if self._token is not None and self._clock() < self._token.expires_at:  # nobody else would hear of it
            _log.warning("renewing a token failed, the old one still holds: %s", error.message)


def _again(failure: GatewayError, pause: float) -> GatewayError:
    """The same failure for one more caller, to whose call it will be tied; `pause`: seconds until the next attempt."""
    said = None
    if failure.provider_error is not None:
        said = v1.ProviderError()
        said.CopyFrom(failure.provider_error)
    return type(failure)(
        failure.message,
        retry_after=pause if failure.retryable else None,
        provider_error=said,
        facts=failure.facts,
    )
