"""One question to a health service, for checks of containers: cheap to import, since it is asked every few seconds."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_NAMES = health_pb2.HealthCheckResponse.ServingStatus


class UnknownNameError(Exception):
    """The server reports no health under that name."""


class NoAnswerError(Exception):
    """Nobody answered, or not with a health."""


def health_of(name: str, address: str, timeout: float) -> str:
    """SERVING or NOT_SERVING, as the server at `address` (host:port, in clear) says within `timeout` seconds.

    An address that is listened on everywhere is asked on this machine. Raises UnknownNameError or NoAnswerError.
    """
    host, _, port = address.rpartition(":")
    host = {"0.0.0.0": "127.0.0.1", "[::]": "127.0.0.1"}.get(host, host)  # noqa: S104  # asked, not listened on
    with grpc.insecure_channel(f"{host}:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            request = health_pb2.HealthCheckRequest(service=name)
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=timeout)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                raise UnknownNameError(f"{address} reports no health under the name {name!r}") from None
            raise NoAnswerError(f"{address}: {error.code().name}: {error.details()}") from None
    return str(_NAMES.Name(answer.status))
