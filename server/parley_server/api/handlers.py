"""How services get onto a server of grpc.aio: by name, and not registered. See decisions/0034."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import grpc


class Handlers:
    """What generated code adds services to, in the place of `server`.

    A registered method costs every call: for each of them grpc.aio keeps a future that it waits for together with all
    others, which came to 15 µs a call for ours. A method that is looked up by name costs nothing of the kind.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Add methods that are looked up by name."""
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Generated code adds them by name too."""
