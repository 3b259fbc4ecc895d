"""The composition root: builds every object from the configuration, starts, serves, drains.

The order of the layers is readable here: `Gateway._per_call` and `Gateway._per_target`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import hashlib
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

import grpc
import structlog
import uvloop
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FileDescriptor
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server

from parley import v1
from parley.v1 import gateway_service_pb2
from parley.v1.gateway_service_pb2_grpc import add_GatewayServiceServicer_to_server
from parley_server import __version__, config, telemetry
from parley_server.api import health, reflection, validate
from parley_server.api.admin import AdminServer
from parley_server.api.calls import Calls
from parley_server.api.gateway import GatewayServicer, Pipelines, features
from parley_server.api.models import Models
from parley_server.catalog import Catalog
from parley_server.config import Config
from parley_server.core.circuit import Circuit, CircuitPolicy
from parley_server.core.context import Operation
from parley_server.core.errors import GatewayError
from parley_server.core.service import Layer, Service, stack
from parley_server.core.target import Target
from parley_server.pipeline.breaker import Breaker
from parley_server.pipeline.bulkhead import Bulkhead, BulkheadPolicy, Places
from parley_server.pipeline.check import Check
from parley_server.pipeline.deadline import Deadline
from parley_server.pipeline.meter import Meter
from parley_server.pipeline.retry import Retry, RetryBudget, RetryPolicy
from parley_server.pipeline.router import Candidate, Router
from parley_server.pipeline.timeout import Limits, Timeout
from parley_server.pipeline.trace import Trace
from parley_server.pipeline.trace_attempt import TraceAttempt
from parley_server.providers.base import Provider
from parley_server.providers.directory import Directory, probe
from parley_server.providers.endpoint import EmbedEndpoint, RerankEndpoint, Wire
from parley_server.providers.kind import Shared
from parley_server.providers.kinds import known
from parley_server.providers.registry import Registry
from parley_server.providers.stepped import chat_endpoint
from parley_server.transports.http import HttpTransport
from parley_server.transports.mock import MockTransport

_HEALTH_TIMEOUT = 1.0
_PROBE_TIMEOUT = 1.0
_CLEANUP_TIMEOUT = 5.0
_FLUSH_TIMEOUT = 5.0
_BEAT = 0.5
_STACKS = 1024

log = structlog.get_logger("parley")


@dataclass(slots=True)
class TargetHealth:
    """What is remembered of a target: of its failures, and of who is asking it now."""

    retries: RetryBudget
    circuit: Circuit | None
    places: Places | None


class Gateway:
    """A gateway: `start()`, then it serves on `port` until `stop()`."""

    def __init__(self, settings: Config) -> None:
        self.settings = settings
        self.port = 0
        self.admin_port = 0
        self.mocks: dict[str, MockTransport] = {}
        self.calls = Calls()
        self.transport = HttpTransport()
        self._catalog = Catalog.load(settings.catalog.overlay.rows())
        self._telemetry = telemetry.start(settings.telemetry)
        self._health = health.Health()
        self._admin: AdminServer | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._state = functools.lru_cache(maxsize=8 * _STACKS)(self._new_health)
        self._candidate = functools.lru_cache(maxsize=_STACKS)(self._resolve)

    async def start(self) -> None:
        """Listen and serve. Raises OSError if an address cannot be had."""
        providers = await self._providers()
        self._directory = Directory(providers, self._catalog, self.transport, on_change=self._candidate.cache_clear)
        self._registry = Registry(providers, self._directory)
        self._server = self._listen(providers)
        await self._server.start()
        self._tasks.append(asyncio.create_task(self._directory.keep_fresh(self.settings.refresh_models)))
        if self._admin is not None:
            self._admin.start()
            self._admin.serve(True)
            self._tasks.append(asyncio.create_task(self._beat(self._admin)))
        await self._health.serve()
        log.info(
            "serving", port=self.port, admin_port=self.admin_port, providers=sorted(providers), version=__version__
        )

    async def stop(self, drain: float | None = None) -> None:
        """NOT_SERVING first; running calls get `drain` seconds, then SHUTTING_DOWN; all is cleaned up at the end."""
        if self._admin is not None:
            self._admin.serve(False)
        with contextlib.suppress(TimeoutError):  # a Watch stream of a client that hangs must not hold up the exit
            await asyncio.wait_for(self._health.enter_graceful_shutdown(), _HEALTH_TIMEOUT)
        await asyncio.sleep(self.settings.server.drain_delay)
        drain = self.settings.server.drain if drain is None else drain
        refusing = asyncio.create_task(self._server.stop(drain + _CLEANUP_TIMEOUT))
        running = len(self.calls)
        cut = 0
        if not await self.calls.drained(drain):
            cut = self.calls.cut()
            await self.calls.cleaned_up(_CLEANUP_TIMEOUT)  # their finally blocks run before all is closed
        await self._server.stop(0)  # ends the Watch streams, which would use up any grace
        await refusing
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.transport.aclose()
        for transport in self.mocks.values():
            await transport.aclose()
        await asyncio.to_thread(self._telemetry.shutdown, _FLUSH_TIMEOUT)
        if self._admin is not None:
            await asyncio.to_thread(self._admin.stop)
        log.info("stopped", drained=running - cut, cut_off=cut)

    def _per_call(self, check: Check) -> Service:
        """What every call passes, outermost first."""
        server = self.settings.server
        layers: list[Layer] = [Deadline(server.default_deadline, server.max_deadline), check]
        if self._telemetry.tracer is not None:
            layers.insert(0, Trace(self._telemetry.tracer, capture=self.settings.telemetry.capture_content))
        router = Router(self._candidate, self.settings.retry.max_attempts, max_wait=self.settings.breaker.max_wait)
        return stack(*layers, service=router)

    def _per_target(self, provider: Provider, target: Target, endpoint: Service) -> Service:
        """What every attempt at one target passes, outermost first."""
        retry, clocks = self.settings.retry, self.settings.timeouts
        policy = RetryPolicy(retry.attempts_per_target, retry.base, retry.cap, retry.max_retry_after)
        price = target.card.pricing if target.card is not None and target.card.HasField("pricing") else None
        health = self._state(str(target))
        layers: list[Layer] = [Retry(policy, asyncio.sleep, random.random, health.retries)]
        if health.circuit is not None and provider.breaks:
            layers.append(Breaker(target, health.circuit))
        if health.places is not None:
            layers.append(Bulkhead(target, health.places, time.monotonic))
        layers.append(Meter(target, price))
        if self._telemetry.tracer is not None:
            capture = self.settings.telemetry.capture_content
            name = provider.semconv_name or provider.name
            layers.append(TraceAttempt(self._telemetry.tracer, target, name, provider.base_url, capture=capture))
        layers.append(Timeout(Limits(clocks.connect, clocks.first_content, clocks.idle, clocks.total), target))
        return stack(*layers, service=endpoint)

    def _new_health(self, _target: str) -> TargetHealth:
        """The state of a target, which outlives its stacks: these are made anew whenever the models are listed."""
        retry, breaker, places = self.settings.retry, self.settings.breaker, self.settings.bulkhead
        known = breaker.model_dump(exclude={"enabled", "max_wait"})
        limits = BulkheadPolicy(places.concurrency, places.queue, places.max_wait) if places.concurrency else None
        return TargetHealth(
            retries=RetryBudget(retry.budget_share, retry.budget),
            circuit=Circuit(CircuitPolicy(**known), time.monotonic) if breaker.enabled else None,
            places=Places(limits, time.monotonic) if limits is not None else None,
        )

    def _resolve(self, model: str, operation: Operation) -> Candidate:
        """The target behind a model name with its stack; remembered until the list of models changes."""
        provider, target = self._registry.resolve(model, operation)
        wire = Wire(provider, target, self.transport, connect_timeout=self.settings.timeouts.connect)
        endpoint: Service
        match operation:
            case "chat":
                endpoint = chat_endpoint(provider, wire)
            case "embed" if provider.embed is not None:
                endpoint = EmbedEndpoint(wire, provider.embed)
            case "rerank" if provider.rerank is not None:
                endpoint = RerankEndpoint(wire, provider.rerank)
            case _:
                raise AssertionError("the registry resolves to providers that do the operation")
        return Candidate(target, self._per_target(provider, target, endpoint))

    async def _providers(self) -> dict[str, Provider]:
        """The configured providers, without those that are wanted only if they answer and do not."""
        shared, kinds = Shared(self.transport), known()
        cards: dict[str, Provider] = {}
        for name, settings in self.settings.providers.items():
            provider = cards[name] = kinds[settings.kind].card(name, settings, shared)
            if isinstance(provider.transport, MockTransport):
                self.mocks[name] = provider.transport
            if settings.only_if_reachable:
                try:
                    async with asyncio.timeout(_PROBE_TIMEOUT):
                        await probe(cards[name], self.transport)
                except (GatewayError, TimeoutError):
                    del cards[name]
        return cards

    def _listen(self, providers: dict[str, Provider]) -> grpc.aio.Server:
        settings = self.settings.server
        server = grpc.aio.server(options=_server_options(settings))
        info = v1.GetServerInfoResponse(
            version=__version__,
            features=features(),
            providers=sorted(providers),
            max_request_bytes=settings.max_request_bytes,
            schema_digest=_schema_digest(),
        )
        policy = v1.UNSUPPORTED_POLICY_WARN
        if self.settings.unsupported_policy == "error":
            policy = v1.UNSUPPORTED_POLICY_ERROR
        pipelines = Pipelines(
            self._per_call(Check(validate.chat)),
            self._per_call(Check(validate.embed)),
            self._per_call(Check(validate.rerank)),
            policy,
        )
        servicer = GatewayServicer(pipelines, Models(self._directory), info, self.calls)
        add_GatewayServiceServicer_to_server(servicer, server)
        add_HealthServicer_to_server(self._health, server)
        if settings.reflection:
            reflection.add(server, [health.SERVICE, health.HEALTH_SERVICE])
        self.port = _bound(server.add_insecure_port, settings.address)
        if self.settings.admin.enabled:
            admin = self.settings.admin
            self._admin = AdminServer(stalled_after=admin.stalled_after)
            self.admin_port = _bound(self._admin.bind, admin.address)
        return server

    async def _beat(self, admin: AdminServer) -> None:
        while True:
            admin.beat()
            await asyncio.sleep(_BEAT)


def models_offline(settings: Config) -> list[v1.Model]:
    """The models that configuration and catalogue know, in order of ID. Asks nobody."""
    transport, kinds = HttpTransport(), known()
    cards = {name: kinds[given.kind].card(name, given, Shared(transport)) for name, given in settings.providers.items()}
    catalog = Catalog.load(settings.catalog.overlay.rows())
    return list(Directory(cards, catalog, transport, on_change=lambda: None).after(""))


def _bound(add_port: Callable[[str], int], address: str) -> int:
    """The port that `address` was bound to. Raises OSError in words that help."""
    try:
        port = add_port(address)
    except RuntimeError:
        port = 0
    if not port:
        raise OSError(f"cannot listen on {address}: is another process using it?")
    return port


def _server_options(settings: config.Server) -> list[tuple[str, int]]:
    """Channel options. `maximum_concurrent_rpcs` is not among them: it would reject health checks as well."""
    return [
        ("grpc.so_reuseport", 0),  # a second server on this port is a mistake, not half of the calls
        ("grpc.enable_channelz", 1),
        ("grpc.max_receive_message_length", settings.max_request_bytes),
        ("grpc.max_send_message_length", settings.max_response_bytes),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.ping_timeout_ms", 20_000),  # without it a hung peer is noticed after a minute only
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),  # both names: which one counts differs by version
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ]


def _schema_digest() -> str:
    """SHA-256 over the descriptors of `parley.v1`, in the order of their names."""
    files: dict[str, bytes] = {}

    def visit(file: FileDescriptor) -> None:
        if file.name not in files and file.package == "parley.v1":
            copy = descriptor_pb2.FileDescriptorProto()
            file.CopyToProto(copy)
            files[file.name] = copy.SerializeToString(deterministic=True)
            for dependency in file.dependencies:
                visit(dependency)

    visit(gateway_service_pb2.DESCRIPTOR)
    return hashlib.sha256(b"".join(files[name] for name in sorted(files))).hexdigest()


def serve(settings: Config) -> None:
    """Serve until SIGTERM or SIGINT, drain, return. A second signal cuts the drain short. Raises OSError."""
    telemetry.log_to_stderr(settings.log.level, settings.log.format)
    uvloop.run(_serve(settings))


async def _serve(settings: Config) -> None:
    loop = asyncio.get_running_loop()
    first, second = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: second.set() if first.is_set() else first.set())
    gateway = Gateway(settings)
    await gateway.start()
    gc.collect()
    gc.freeze()  # what is there now lives as long as the process: full collections need not look at it again
    await first.wait()
    log.info("draining", running=len(gateway.calls), seconds=settings.server.drain)
    stopping = asyncio.create_task(gateway.stop())
    hurry = asyncio.create_task(second.wait())
    await asyncio.wait((stopping, hurry), return_when=asyncio.FIRST_COMPLETED)
    if not stopping.done():
        gateway.calls.cut()
    await stopping
    hurry.cancel()
