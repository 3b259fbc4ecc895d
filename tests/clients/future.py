"""A server of a later version: it says things in `parley.v1` that the clients of this version have not heard of."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_status import rpc_status

from parley import v1

TEXT = "hello from the future"
_UNKNOWN_FIELD = b"\xa2\x06\x02\x08\x01"  # field 100, a message
_REASON: Any = 99  # no finish reason


def _bytes(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data


def _chat() -> bytes:
    parts = [v1.Part(text=TEXT[:5]), v1.Part(), v1.Part(text=TEXT[5:])]
    parts[1].MergeFromString(_UNKNOWN_FIELD)  # a kind of part
    message = v1.Message(role=v1.ROLE_ASSISTANT, parts=parts)
    response = v1.ChatResponse(
        id="resp_1", model="future/model", message=message, native_finish_reason="teleported", finish_reason=_REASON
    )
    return _bytes(response) + _UNKNOWN_FIELD


def _events() -> list[bytes]:
    event = v1.StreamChatResponse
    kind = v1.Part()
    kind.MergeFromString(_UNKNOWN_FIELD)
    completed = v1.ResponseCompleted(finish_reason=_REASON, native_finish_reason="teleported")
    known = [
        event(sequence=1, started=v1.ResponseStarted(response_id="resp_1", model="future/model")),
        event(sequence=2, part_started=v1.PartStarted(part_index=0, part=v1.Part(text=""))),
        event(sequence=3, part_delta=v1.PartDelta(part_index=0, text=TEXT[:5])),
        event(sequence=5, part_started=v1.PartStarted(part_index=1, part=kind)),
        event(sequence=6, part_completed=v1.PartCompleted(part_index=1, part=kind)),
        event(sequence=7, part_delta=v1.PartDelta(part_index=0, text=TEXT[5:])),
        event(sequence=8, part_completed=v1.PartCompleted(part_index=0, part=v1.Part(text=""))),
        event(sequence=9, completed=completed),
    ]
    said = [_bytes(one) for one in known]
    said.insert(3, _bytes(event(sequence=4)) + _UNKNOWN_FIELD)  # a kind of event
    return said


async def _answer(request: v1.ChatRequest, context: Any) -> bytes:
    if request.model == "future/tired":
        status = status_pb2.Status(code=grpc.StatusCode.UNAVAILABLE.value[0], message="the provider dreams")
        status.details.add().Pack(error_details_pb2.ErrorInfo(reason="PROVIDER_DREAMING", domain="parley"))
        rich: Any = rpc_status.to_status(status)
        pushback = ("grpc-retry-pushback-ms", "-1")
        await context.abort(rich.code, rich.details, (pushback, *rich.trailing_metadata))
    return _chat()


async def _stream(request: v1.StreamChatRequest, context: Any) -> AsyncIterator[bytes]:
    for event in _events():
        yield event


async def serve() -> tuple[grpc.aio.Server, str]:
    """The server, started on 127.0.0.1, and its address."""
    server = grpc.aio.server()
    handlers: dict[str, Any] = {
        "Chat": grpc.unary_unary_rpc_method_handler(_answer, v1.ChatRequest.FromString),
        "StreamChat": grpc.unary_stream_rpc_method_handler(_stream, v1.StreamChatRequest.FromString),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("parley.v1.GatewayService", handlers),))
    health = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    for service in ("", "parley.v1.GatewayService"):
        await health.set(service, health_pb2.HealthCheckResponse.SERVING)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, f"127.0.0.1:{port}"
