"""A process that makes load: takes a `Job` as one line of JSON on standard input, answers with a `Result`, and so on.

It checks every answer against what the mock upstream says. Its own CPU time is not part of any figure.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict

import grpc
import uvloop

from parley import v1
from tests.benchmarks import openai_calls, prompt
from tests.benchmarks.job import Job, Result, check

_CALL_TIMEOUT = 600.0  # as the SDKs have it
_SERVICE = "/parley.v1.GatewayService/"


async def run(job: Job) -> Result:
    """Do the job; stops at the first thing that goes wrong."""
    result = Result()
    left = iter(range(job.first, job.first + job.requests))
    async with _calls(job, result) as one:

        async def worker() -> None:
            for number in left:
                await one(number)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(job.in_flight):
                    group.create_task(worker())
        except* Exception as failed:
            result.error = "; ".join(repr(error) for error in failed.exceptions[:3])
    return result


@asynccontextmanager
async def _calls(job: Job, result: Result) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
    """What makes one call, by its number."""
    if job.api == "openai":
        async with openai_calls.calls(job, result) as one:
            yield one
        return
    options: list[tuple[str, int]] = [("grpc.use_local_subchannel_pool", 1)]
    if job.pause:  # the small window of a phone, so that it is the gateway that has to wait
        options += [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65536)]
    async with grpc.aio.insecure_channel(job.address, options=options) as channel:
        await asyncio.wait_for(channel.channel_ready(), _CALL_TIMEOUT)
        yield {"chat": _chat, "stream": _stream}[job.kind](job, channel, result)


def _chat(job: Job, channel: grpc.aio.Channel, result: Result) -> Callable[[int], Awaitable[None]]:
    metadata = tuple(job.headers.items())
    method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"{_SERVICE}Chat")
    requests = [prompt.request(job.model, number).SerializeToString() for number in range(job.variety)]
    expected = prompt.answer(job.length)

    async def call(number: int) -> None:
        request = requests[number % job.variety]
        response = v1.ChatResponse.FromString(await method(request, timeout=_CALL_TIMEOUT, metadata=metadata))
        result.messages += 1
        check("".join(part.text for part in response.message.parts), expected)

    return call


def _stream(job: Job, channel: grpc.aio.Channel, result: Result) -> Callable[[int], Awaitable[None]]:
    metadata = tuple(job.headers.items())
    method: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(f"{_SERVICE}StreamChat")
    request = v1.StreamChatRequest(request=prompt.request(job.model)).SerializeToString()
    expected = prompt.answer(job.length)

    async def call(_number: int) -> None:
        fragments: list[str] = []
        stream = method(request, timeout=_CALL_TIMEOUT, metadata=metadata)
        while (message := await stream.read()) is not grpc.aio.EOF:
            result.messages += 1
            event = v1.StreamChatResponse.FromString(message)  # type: ignore[arg-type]  # bytes: nothing deserialises
            if text := event.part_delta.text:
                if not fragments:
                    if job.cancel:
                        stream.cancel()
                        return
                    if job.pause:
                        await asyncio.sleep(job.pause)
                fragments.append(text)
            if job.pause:
                await asyncio.sleep(job.pause / 100)
        check("".join(fragments), expected)

    return call


def main() -> None:
    """Do jobs until standard input ends."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for line in sys.stdin:
            print(json.dumps(asdict(runner.run(run(Job(**json.loads(line)))))), flush=True)


if __name__ == "__main__":
    main()
