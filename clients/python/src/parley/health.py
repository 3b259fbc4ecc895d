"""`grpc.health.v1` for one question."""

from __future__ import annotations

from enum import StrEnum

from google.protobuf.wrappers_pb2 import Int32Value, StringValue

CHECK = "/grpc.health.v1.Health/Check"

# HealthCheckRequest is a string in field 1 and HealthCheckResponse an enum in field 1, so on the wire they are these
# well-known messages. That saves the users of this SDK a distribution that wants a newer protobuf than they may have.
Request = StringValue
Response = Int32Value


class Health(StrEnum):
    """What a server says of itself; the members are strings."""

    UNKNOWN = "unknown"
    SERVING = "serving"
    NOT_SERVING = "not_serving"

    @classmethod
    def of(cls, response: Response) -> Health:
        return {1: cls.SERVING, 2: cls.NOT_SERVING}.get(response.value, cls.UNKNOWN)
