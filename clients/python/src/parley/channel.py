"""How the SDK connects: address, credentials, limits, retries, keepalive. Plain data, for both clients."""

from __future__ import annotations

import ipaddress
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from typing import Any

import grpc

SERVICE = "parley.v1.GatewayService"
DEFAULT_ADDRESS = "127.0.0.1:50051"

Options = Sequence[tuple[str, int | str]]
Headers = tuple[tuple[str, str | bytes], ...]

_MIB = 1024 * 1024


def service_config(*, wait_for_ready: bool = False) -> dict[str, Any]:
    """The gRPC service config of the SDK, as JSON data; change what you like and pass it to a client.

    Calls that could not reach a gateway are retried with backoff. What a gateway gave up on is not: it has made its own
    attempts, and says so with a pushback that gRPC honours. Calls go round the addresses that say they are healthy.
    """

    def retried(attempts: int, initial: str, longest: str) -> dict[str, Any]:
        return {
            "waitForReady": wait_for_ready,
            "retryPolicy": {
                "maxAttempts": attempts,
                "initialBackoff": initial,
                "maxBackoff": longest,
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }

    cheap = [{"service": SERVICE, "method": method} for method in ("ListModels", "GetModel", "GetServerInfo")]
    return {
        "loadBalancingConfig": [{"round_robin": {}}],
        "healthCheckConfig": {"serviceName": SERVICE},
        "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
        "methodConfig": [
            {"name": [{"service": SERVICE}], **retried(3, "0.25s", "4s")},
            {"name": cheap, **retried(4, "0.1s", "2s")},
        ],
    }


OPTIONS: Options = (
    ("grpc.max_receive_message_length", 64 * _MIB),  # gRPC's default, 4 MiB, is 300 vectors of 3072 floats
    ("grpc.max_send_message_length", 64 * _MIB),  # the server has the say: 32 MiB unless configured otherwise
    ("grpc.per_rpc_retry_buffer_size", 32 * _MIB),  # beyond it nothing is retried, and the default is 256 KiB
    ("grpc.keepalive_time_ms", 30_000),  # well above the 10 s that the gateway accepts
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),  # without it a peer that hangs is noticed after a minute only
)


@dataclass(frozen=True, slots=True)
class Dial:
    """Where to connect, and how. The token is never shown."""

    address: str
    credentials: grpc.ChannelCredentials | None = field(repr=False)
    headers: Headers = field(repr=False)
    options: Options = field(repr=False)

    def plain(self) -> Dial:
        """The same without service config: no balancing, no retries, no health gate."""
        return replace(self, options=[option for option in self.options if option[0] != "grpc.service_config"])


def dial(
    address: str | None,
    *,
    token: str | None,
    tls: bool | grpc.ChannelCredentials | None,
    config: Mapping[str, Any],
    options: Options,
) -> Dial:
    """The settings of a channel. `address` and `token` come from PARLEY_ADDRESS and PARLEY_TOKEN if None.

    Raises ValueError where a token would travel in clear beyond this machine without `tls=False` having been said.
    """
    environment = os.environ  # noqa: TID251  # the rule is for the server; a client is told by its surroundings
    address = address or environment.get("PARLEY_ADDRESS") or DEFAULT_ADDRESS
    if "://" in address and not address.startswith(("dns://", "xds://", "unix://")):
        raise ValueError(f"{address}: an address is host:port; TLS is a separate argument, tls=True")
    token = environment.get("PARLEY_TOKEN", "") if token is None else token
    if token and tls is None and not _is_local(address):
        raise ValueError(f"the token would travel in clear to {address}: pass tls=True, or tls=False if that is meant")
    return Dial(
        address=address,
        credentials=grpc.ssl_channel_credentials() if tls is True else tls or None,
        headers=(("authorization", f"Bearer {token}"),) if token else (),
        options=[
            *OPTIONS,
            ("grpc.primary_user_agent", f"parley-python/{version()}"),
            ("grpc.service_config", json.dumps(config)),
            *options,
        ],
    )


def call_headers(fixed: Headers, given: Mapping[str, str | bytes]) -> Headers:
    """The metadata of a call: the client's, the caller's, and the current trace if OpenTelemetry is in use."""
    return (*fixed, *_trace().items(), *((key.lower(), value) for key, value in given.items()))


def _trace() -> Mapping[str, str]:
    """The W3C headers of the current span. A program that has not imported OpenTelemetry has none."""
    if "opentelemetry.trace" not in sys.modules:
        return {}
    from opentelemetry import propagate

    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return {key.lower(): value for key, value in carrier.items()}


def version() -> str:
    """Version of the installed distribution."""
    try:
        return metadata.version("parley-client")
    except metadata.PackageNotFoundError:  # run from a source tree
        return "0"


def _is_local(address: str) -> bool:
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    host = address.removeprefix("dns:").lstrip("/").rpartition(":")[0].strip("[]") or address
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
