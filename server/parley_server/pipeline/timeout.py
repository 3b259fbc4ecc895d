"""Four named clocks over one attempt: connect, first content, idle, total.

The innermost layer around a target's endpoint, so that everybody further out (the meter, the trace, later the breaker)
sees *why* an attempt ended rather than a cancellation. `connect` is kept by the transport, which alone knows when it is
connecting; it is listed here because the four are configured together. The deadline of the call is kept by another
layer, which ends every attempt that would outlast it: a clock that could only ring later is not wound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from google.protobuf.duration_pb2 import Duration

from parley import v1
from parley_server.core.context import Context
from parley_server.core.errors import AttemptTimeout, GatewayError, StreamInterrupted
from parley_server.core.reply import Batches, Reply
from parley_server.core.service import Service
from parley_server.core.target import Target
from parley_server.pipeline.watch import TimeIsUp, Watch


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds that one attempt may take for what; infinity: any time."""

    connect: float = 10.0
    """To have a connection, TLS included."""
    first_content: float = 300.0
    """From the start to the first content of a streamed answer. Models may think for minutes before they speak."""
    idle: float = 120.0
    """Between two reads of a streamed answer that bring something."""
    total: float = 600.0
    """From start to end; the only one that bounds a unary answer, unless the caller asks for a first output in time."""


class Timeout:
    """Raises AttemptTimeout before the answer has begun, StreamInterrupted after, and names the clock that ran out.

    `request.routing.attempt_timeout` and `first_output_timeout` take the place of `total` and `first_content`.
    `target`: who was too slow, for the error to say.
    """

    def __init__(self, limits: Limits, target: Target | None = None) -> None:
        self._limits = limits
        self._target = target

    def __call__(self, inner: Service) -> Service:
        async def timed(request: Any, ctx: Context) -> Reply[Any]:
            limits = self._limits
            total, first = limits.total, limits.first_content if ctx.streaming else math.inf
            if request.HasField("routing"):
                total, first = _wishes(request.routing, total, first)
            ctx.idle = limits.idle
            remaining = ctx.remaining()
            if remaining is not None and remaining < min(first, total, limits.idle if ctx.streaming else total):
                return await inner(request, ctx)
            watch = Watch()
            start = watch.time()
            try:
                with watch.until(start + min(first, total)):
                    reply = await inner(request, ctx)
            except BaseException as error:
                watch.close()
                if isinstance(error, TimeIsUp):
                    raise self._named(_too_late(first, total)) from None
                raise
            reply.on_over(lambda _: watch.close())
            return reply.through(lambda batches: self._timed(batches, watch, limits.idle, start + total, total))

        return timed

    async def _timed(self, batches: Batches, watch: Watch, idle: float, end: float, total: float) -> Batches:
        while True:
            due = min(watch.time() + idle, end)
            try:
                with watch.until(due):
                    batch = await anext(batches)
            except StopAsyncIteration:
                return
            except TimeIsUp:
                raise self._named(_silent(idle) if due < end else _too_long(total)) from None
            yield batch

    def _named(self, error: GatewayError) -> GatewayError:
        if self._target is not None:
            provider, model = self._target.provider, self._target.model
            error.provider_error = v1.ProviderError(provider=provider, model=model)
            error.facts |= {"provider": provider, "model": model}
        return error


def _wishes(routing: v1.RoutingOptions, total: float, first: float) -> tuple[float, float]:
    if routing.HasField("attempt_timeout"):
        total = _seconds(routing.attempt_timeout)
    if routing.HasField("first_output_timeout"):
        first = _seconds(routing.first_output_timeout)
    return total, first


def _too_late(first: float, total: float) -> AttemptTimeout:
    if first < total:
        return AttemptTimeout(
            f"no content within {first:g} s (first content timeout)", facts=_facts("firstContent", first)
        )
    return AttemptTimeout(f"no answer within {total:g} s (attempt timeout)", facts=_facts("total", total))


def _silent(idle: float) -> StreamInterrupted:
    return StreamInterrupted(f"the provider was silent for {idle:g} s (idle timeout)", facts=_facts("idle", idle))


def _too_long(total: float) -> StreamInterrupted:
    return StreamInterrupted(
        f"the answer was not complete after {total:g} s (attempt timeout)", facts=_facts("total", total)
    )


def _facts(clock: str, seconds: float) -> dict[str, str]:
    return {"timeout": clock, "seconds": f"{seconds:g}"}


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9
