"""How ports are taken, and what is said of connections when they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from parley_server import config
from parley_server.api.tls import Certificates
from parley_server.scrape import ScrapeServer

Bound = TypeVar("Bound", int, ScrapeServer)


def bound(bind: Callable[[str], Bound], address: str) -> Bound:
    """What comes of binding `address`: a port, 0 if it cannot be had. Raises OSError in words that help."""
    try:
        taken = bind(address)
    except (RuntimeError, OSError):
        taken = None
    if not taken:
        raise OSError(f"cannot listen on {address}: is another process using it?")
    return taken


def certificates(settings: config.Server) -> Certificates | None:
    """What the port shows; None if it speaks in clear."""
    return None if settings.tls is None else Certificates(*settings.tls.pem())


def server_options(settings: config.Server) -> list[tuple[str, int]]:
    """Channel options. `maximum_concurrent_rpcs` is not among them: it would reject health checks as well."""
    return [
        ("grpc.so_reuseport", 0),  # a second server on this port is a mistake, not half of the calls
        ("grpc.enable_channelz", 1),
        ("grpc.max_receive_message_length", settings.max_request_bytes),
        ("grpc.max_send_message_length", settings.max_response_bytes),
        *_ages(settings),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.ping_timeout_ms", 20_000),  # without it a hung peer is noticed after a minute only
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),  # both names: which one counts differs by version
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ]


def _ages(settings: config.Server) -> list[tuple[str, int]]:
    """When connections end, so that clients behind balancers that see no calls spread over new gateways."""
    ages = [
        ("grpc.max_connection_age_ms", settings.max_connection_age),
        ("grpc.max_connection_age_grace_ms", settings.max_connection_age_grace),
    ]
    return [(name, int(seconds * 1000)) for name, seconds in ages if seconds]
