"""`grpc.health.v1` on the data port, and the names that are reported there and on the admin port."""

from __future__ import annotations

from typing import Any

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1._async import HealthServicer
from grpc_health.v1.health import SERVICE_NAME as HEALTH_SERVICE

SERVICE = "parley.v1.GatewayService"
__all__ = ["HEALTH_SERVICE", "NAMES", "NOT_SERVING", "SERVICE", "SERVING", "Health"]

NAMES = ("", SERVICE, "liveness", "readiness", "startup")
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Health(HealthServicer):
    """Check and Watch of the library, and List, which it lacks."""

    def __init__(self) -> None:
        super().__init__()
        self._server_status = dict.fromkeys(NAMES, NOT_SERVING)

    async def List(
        self, request: health_pb2.HealthListRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> health_pb2.HealthListResponse:
        statuses = {name: health_pb2.HealthCheckResponse(status=status) for name, status in self._server_status.items()}
        return health_pb2.HealthListResponse(statuses=statuses)

    async def serve(self) -> None:
        """Everything is SERVING from now on."""
        for name in NAMES:
            await self.set(name, SERVING)
