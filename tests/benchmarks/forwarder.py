"""The floor: the least code that answers Chat and StreamChat from an OpenAI-style upstream. `forwarder PORT UPSTREAM`

It uses the stack of the gateway as well as it can be used (uvloop, grpc.aio, the HTTP transport called directly, one
message for all that one upstream read delivered) and nothing of the gateway: no validation, deadlines, retries, usage
accounting or traces; no error of the upstream is understood. What the gateway costs beyond this is what it adds.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import grpc
import httpx
import orjson
import uvloop
from httpx_aiohttp import AiohttpTransport

from parley import v1

_ROLES = {v1.ROLE_SYSTEM: "system", v1.ROLE_USER: "user", v1.ROLE_ASSISTANT: "assistant"}
_FINISH = {"stop": v1.FINISH_REASON_STOP}
_TIMEOUTS = {"timeout": httpx.Timeout(60, connect=5).as_dict()}

Context = grpc.aio.ServicerContext[Any, Any]


class Forwarder:
    """Two methods that take a parsed request; what they answer is serialised already."""

    def __init__(self, upstream_port: int) -> None:
        self._url = httpx.URL(f"http://127.0.0.1:{upstream_port}/v1/chat/completions")
        self._headers = httpx.Headers(
            {
                "host": f"127.0.0.1:{upstream_port}",
                "authorization": "Bearer sk-0123456789abcdef0123456789abcdef",
                "content-type": "application/json",
                "accept-encoding": "identity",
                "user-agent": "forwarder",
            }
        )
        self._wire = AiohttpTransport(
            client=lambda: aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar()
            )
        )

    async def chat(self, request: v1.ChatRequest, _context: Context) -> bytes:
        data = orjson.loads(b"".join([block async for block in self._blocks(_body(request, stream=False))]))
        choice, usage = data["choices"][0], data["usage"]
        response = v1.ChatResponse(
            id=data["id"],
            model=data["model"],
            message=v1.Message(role=v1.ROLE_ASSISTANT, parts=[v1.Part(text=choice["message"]["content"])]),
            finish_reason=_FINISH[choice["finish_reason"]],
            usage=v1.Usage(
                input_tokens=usage["prompt_tokens"],
                output_tokens=usage["completion_tokens"],
                total_tokens=usage["total_tokens"],
            ),
        )
        return response.SerializeToString()

    async def stream_chat(self, request: v1.StreamChatRequest, context: Context) -> None:
        write = context.write
        rest = b""
        sequence = 0
        async for block in self._blocks(_body(request.request, stream=True)):
            *events, rest = (rest + block if rest else block).split(b"\n\n")
            fragments = []
            for event in events:
                if event.startswith(b"data: ") and event != b"data: [DONE]":
                    choices = orjson.loads(event[6:])["choices"]
                    if choices and (fragment := choices[0]["delta"].get("content")):
                        fragments.append(fragment)
            if fragments:
                sequence += 1
                delta = v1.PartDelta(text="".join(fragments))
                message = v1.StreamChatResponse(sequence=sequence, part_delta=delta)
                await write(message.SerializeToString())

    async def _blocks(self, body: bytes) -> AsyncIterator[bytes]:
        request = httpx.Request("POST", self._url, headers=self._headers, content=body, extensions=_TIMEOUTS)
        response = await self._wire.handle_async_request(request)
        try:
            if response.status_code != 200:
                raise RuntimeError(f"the upstream answered {response.status_code}")
            async for block in response.stream:  # type: ignore[union-attr]  # an asynchronous one
                yield block
        finally:
            await response.aclose()


def _body(request: v1.ChatRequest, *, stream: bool) -> bytes:
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [{"role": _ROLES[message.role], "content": message.parts[0].text} for message in request.messages],
        "temperature": request.sampling.temperature,
        "max_tokens": request.sampling.max_output_tokens,
    }
    if stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    return orjson.dumps(body)


async def _serve(port: int, upstream_port: int) -> None:
    forwarder = Forwarder(upstream_port)
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Chat": grpc.unary_unary_rpc_method_handler(forwarder.chat, v1.ChatRequest.FromString),
        "StreamChat": grpc.unary_stream_rpc_method_handler(forwarder.stream_chat, v1.StreamChatRequest.FromString),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("parley.v1.GatewayService", methods),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    gc.collect()
    gc.freeze()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), int(sys.argv[2])))
