"""A process that makes load: takes a `Job` as one line of JSON on standard input, answers with a `Result`, and so on.

It checks every answer against what the mock upstream says. Its own CPU time is not part of any figure.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Literal

import grpc
import uvloop

from parley import v1
from tests.benchmarks import prompt

_CALL_TIMEOUT = 600.0  # as the SDKs have it
_SERVICE = "/parley.v1.GatewayService/"


@dataclass(frozen=True)
class Job:
    """`requests` calls in a closed loop, `in_flight` of them at any time, each answered with `length` characters."""

    kind: Literal["chat", "stream"]
    address: str
    model: str
    requests: int
    in_flight: int
    length: int
    variety: int = 1
    """Different prompts that take turns."""
    first: int = 0
    """Which of them is the first."""
    cancel: bool = False
    """Cancel each stream when its first text has come."""
    pause: float = 0.0
    """Seconds a slow reader waits after the first text; a hundredth of it after every message."""


@dataclass
class Result:
    """`messages` that came, for all calls together. `error`: what went wrong, empty if nothing."""

    messages: int = 0
    error: str = ""


async def run(job: Job) -> Result:
    """Do the job; stops at the first thing that goes wrong."""
    result = Result()
    left = iter(range(job.first, job.first + job.requests))
    options: list[tuple[str, int]] = [("grpc.use_local_subchannel_pool", 1)]
    if job.pause:  # the small window of a phone, so that it is the gateway that has to wait
        options += [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65536)]
    async with grpc.aio.insecure_channel(job.address, options=options) as channel:
        await asyncio.wait_for(channel.channel_ready(), _CALL_TIMEOUT)
        one = {"chat": _chat, "stream": _stream}[job.kind]

        async def worker() -> None:
            call = await one(job, channel, result)
            for number in left:
                await call(number)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(job.in_flight):
                    group.create_task(worker())
        except* Exception as failed:
            result.error = "; ".join(repr(error) for error in failed.exceptions[:3])
    return result


async def _chat(job: Job, channel: grpc.aio.Channel, result: Result) -> Callable[[int], Awaitable[None]]:
    method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"{_SERVICE}Chat")
    requests = [prompt.request(job.model, number).SerializeToString() for number in range(job.variety)]
    expected = prompt.answer(job.length)

    async def call(number: int) -> None:
        request = requests[number % job.variety]
        response = v1.ChatResponse.FromString(await method(request, timeout=_CALL_TIMEOUT))
        result.messages += 1
        _check("".join(part.text for part in response.message.parts), expected)

    return call


async def _stream(job: Job, channel: grpc.aio.Channel, result: Result) -> Callable[[int], Awaitable[None]]:
    method: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(f"{_SERVICE}StreamChat")
    request = v1.StreamChatRequest(request=prompt.request(job.model)).SerializeToString()
    expected = prompt.answer(job.length)

    async def call(_number: int) -> None:
        fragments: list[str] = []
        stream = method(request, timeout=_CALL_TIMEOUT)
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
        _check("".join(fragments), expected)

    return call


def _check(text: str, expected: str) -> None:
    if text != expected:
        raise ValueError(f"{len(text)} characters came back instead of {len(expected)}, or others: {text[:60]!r}")


def main() -> None:
    """Do jobs until standard input ends."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for line in sys.stdin:
            print(json.dumps(asdict(runner.run(run(Job(**json.loads(line)))))), flush=True)


if __name__ == "__main__":
    main()
