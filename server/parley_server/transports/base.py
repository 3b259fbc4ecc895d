"""What the driver of a provider needs of a wire."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One HTTP request, complete. `url` is absolute; header names are in lower case."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)  # carries the credential
    body: bytes = field(repr=False)


class Incoming(Protocol):
    """An HTTP response whose body may still be arriving. Whoever got it closes it, read or unread."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The decoded body, in blocks as they arrive: never waits for more than there is.

        Raises StreamInterrupted if the connection breaks before the end of the body.
        """
        ...

    @property
    def arrived(self) -> bool:
        """Whether the body is here to its end, read or not: to close the response then keeps the connection."""
        ...

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises ProtocolError if it is larger than `limit` bytes."""
        ...

    async def aclose(self) -> None:
        """Give the connection back if the body has arrived whole, close it otherwise."""
        ...


class Transport(Protocol):
    """Sends requests. Shared by all targets of a gateway; safe for any number of calls at a time."""

    async def send(self, request: Outgoing, *, connect_timeout: float) -> Incoming:
        """The response, once its head has arrived.

        Raises Unavailable if no connection could be had (DNS, refused, TLS) or it broke before the head came, and
        AttemptTimeout if connecting took more than `connect_timeout` seconds. Waiting for the head is not bounded here.
        """
        ...

    async def aclose(self) -> None:
        """Close all idle connections; those of running calls end with the calls."""
        ...
