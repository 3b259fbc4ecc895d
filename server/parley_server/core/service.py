"""A service is an asynchronous function from a request to a reply; a layer is a function from service to service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from parley import v1
from parley_server.core.context import Context
from parley_server.core.reply import Reply

Request = TypeVar("Request", v1.ChatRequest, v1.EmbedRequest, v1.RerankRequest, contravariant=True)
AnyRequest = v1.ChatRequest | v1.EmbedRequest | v1.RerankRequest


class Service(Protocol):
    """An asynchronous function from a request to a reply.

    It returns once the answer has begun (the commit point): whatever fails before is raised from here and may be tried
    again by a layer; whatever fails after is raised while the reply is read.
    """

    async def __call__(self, request: Any, ctx: Context, /) -> Reply[Any]: ...


Layer = Callable[[Service], Service]


def stack(*layers: Layer, service: Service) -> Service:
    """Wrap `service` in `layers`; the first one listed is the first to see a request."""
    for layer in reversed(layers):
        service = layer(service)
    return service
