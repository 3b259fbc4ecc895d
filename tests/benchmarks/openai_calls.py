"""Calls of OpenAI's chat completions, with the same prompt, checked alike: what other gateways are asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson

from tests.benchmarks import prompt
from tests.benchmarks.job import Job, Result, check

_TIMEOUT = aiohttp.ClientTimeout(600)


@asynccontextmanager
async def calls(job: Job, result: Result) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
    """What makes one call. Connections are kept, one for each call in flight."""
    url = f"http://{job.address}/v1/chat/completions"
    body = orjson.dumps(prompt.openai(job.model, stream=job.kind == "stream"))
    headers = {"content-type": "application/json", **job.headers}
    connector = aiohttp.TCPConnector(limit=0)
    expected = prompt.answer(job.length)

    async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=_TIMEOUT) as session:

        async def call(_number: int) -> None:
            async with session.post(url, data=body) as response:
                if response.status != 200:
                    raise ValueError(f"HTTP status {response.status}: {(await response.text())[:200]}")
                if job.kind == "chat":
                    text = orjson.loads(await response.read())["choices"][0]["message"]["content"]
                    result.messages += 1
                else:
                    text = "".join([fragment async for fragment in _fragments(response, result)])
            check(text, expected)

        yield call


async def _fragments(response: aiohttp.ClientResponse, result: Result) -> AsyncIterator[str]:
    """The pieces of text of a stream. Raises ValueError if it is not complete."""
    rest = b""
    async for block in response.content.iter_any():
        *events, rest = (rest + block).split(b"\n\n")
        for event in events:
            if event == b"data: [DONE]":
                return
            result.messages += 1
            if text := _text(event):
                yield text
    raise ValueError("the stream ended before its end")


def _text(event: bytes) -> str:
    """Of one event, empty if it brings none."""
    chunk: dict[str, Any] = orjson.loads(event.removeprefix(b"data: "))
    if "error" in chunk:
        raise ValueError(f"an error within the stream: {event[:200]!r}")
    choices = chunk["choices"]
    return (choices[0]["delta"].get("content") or "") if choices else ""
