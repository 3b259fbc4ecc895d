"""Calls under trace, as the gateway stacks the layers, for tests."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal

from parley import v1
from parley_server import telemetry
from parley_server.core.service import Service, stack
from parley_server.core.target import Target
from parley_server.pipeline.deadline import Deadline
from parley_server.pipeline.meter import Meter
from parley_server.pipeline.retry import Retry, RetryPolicy
from parley_server.pipeline.timeout import Limits, Timeout
from parley_server.pipeline.trace import Trace
from parley_server.pipeline.trace_attempt import TraceAttempt
from tests.fakes import delta, opened, started

FIRST = [started(), opened(), delta("Hel")]
PRICE = v1.ModelPricing(input_nano_usd=10**9, output_nano_usd=10**9)
SERVER = "parley.v1.GatewayService/StreamChat"
CLIENT = "chat gpt-5.1"


@dataclass
class Settings:
    """The settings of telemetry."""

    enabled: bool = True
    traces: bool = True
    metrics: bool = False
    by_caller: bool = False
    protocol: Literal["grpc", "http/protobuf"] = "grpc"
    service_name: str = "parley"


def traced(
    tracing: telemetry.Telemetry, service: Service, *, capture: bool = False, limits: Limits | None = None
) -> Service:
    """The layers of a call and of its target in their order."""
    tracer, target = tracing.tracer, Target("openai", "gpt-5.1")
    assert tracer is not None
    per_target = stack(
        Retry(RetryPolicy(), asyncio.sleep, lambda: 0.0),
        Meter(target, PRICE),
        TraceAttempt(tracer, target, "openai", "https://api.openai.com/v1", capture=capture),
        Timeout(limits or Limits()),
        service=service,
    )
    return stack(Trace(tracer, capture=capture), Deadline(600, 3600), service=per_target)


async def finish(tracing: telemetry.Telemetry) -> None:
    """Sends what is left to send."""
    await asyncio.to_thread(tracing.shutdown, 5.0)
