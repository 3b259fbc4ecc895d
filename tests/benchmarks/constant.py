"""What gRPC alone costs: parses a Chat request and answers the same bytes every time. `constant PORT TEXT_LENGTH`"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc
import uvloop

from parley import v1
from tests.benchmarks import prompt


async def _serve(port: int, text_length: int) -> None:
    parts = [v1.Part(text=prompt.answer(text_length))]
    response = v1.ChatResponse(id="resp_0", model="mock", message=v1.Message(role=v1.ROLE_ASSISTANT, parts=parts))
    answer = response.SerializeToString()

    async def chat(_request: v1.ChatRequest, _context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        return answer

    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Chat": grpc.unary_unary_rpc_method_handler(chat, v1.ChatRequest.FromString)
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("parley.v1.GatewayService", methods),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), int(sys.argv[2])))
