"""The gateway as a process sees it: it listens, starts, takes another configuration, drains and stops.

What a call passes is built in `assembly.py`, anew for every configuration.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import grpc
import structlog
import uvloop
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server

from parley.v1.gateway_service_pb2_grpc import add_GatewayServiceServicer_to_server
from parley_server import __version__, caching, shelves, telemetry, vitals
from parley_server.api import health, reflection
from parley_server.api.admin import AdminServer
from parley_server.api.cache import CacheAdmin
from parley_server.api.calls import Calls
from parley_server.api.gateway import GatewayServicer
from parley_server.api.handlers import Handlers
from parley_server.api.recordings import Recordings
from parley_server.assembly import Assembly
from parley_server.call_log import log_call
from parley_server.config import Config
from parley_server.config_revision import carried, digest, secrets
from parley_server.config_watch import Source
from parley_server.core.context import Context
from parley_server.core.gauges import Gauges
from parley_server.core.scrub import hide
from parley_server.hints import CircuitHints
from parley_server.listening import bound, certificates, server_options
from parley_server.questions import Questions
from parley_server.reload import Reloader
from parley_server.scrape import ScrapeServer
from parley_server.stores.health import PURPOSES
from parley_server.transports.mock import MockTransport

_HEALTH_TIMEOUT = 1.0
_CLEANUP_TIMEOUT = 5.0
_FLUSH_TIMEOUT = 5.0
_BEAT = 0.5
_MOMENT = 0.05
_DESERTED_WITHIN = 1.0
_LAST = 0.1

log = structlog.get_logger("parley")


class Gateway:
    """A gateway: `start()`, then it serves on `port` until `stop()`."""

    def __init__(self, settings: Config) -> None:
        hide(secrets(settings))
        self.settings = settings
        self.port = 0
        self.admin_port = 0
        self.metrics_port = 0
        self.calls = Calls()
        self.stores = shelves.build(settings)
        resume = settings.resume
        self.recordings = Recordings(
            self.stores.streams,
            self.calls,
            window=resume.window,
            ahead=resume.max_bytes // 2,
            messages=self.stores.messages("resume"),
            gateway=self.stores.presence.gateway,
            refuses=lambda: self.stores.health.refuses("resume"),
        )
        self._telemetry = telemetry.start(settings.telemetry, scraped=settings.admin.metrics_address is not None)
        self._revision = 1
        self._refused = False
        self.answers = caching.build(settings, self.stores)
        self.hints: CircuitHints | None = None
        if self.stores.shared:
            self.hints = CircuitHints(self.stores.messages("limits"), self.stores.presence.gateway)
        self.questions = Questions(self.answers, self.stores)
        self._assembly = Assembly(
            settings,
            self._telemetry,
            self.stores,
            digest=digest(settings),
            answers=self.answers,
            hints=self.hints,
            similar=self.questions,
        )
        self._retiring: dict[asyncio.Task[None], Assembly] = {}
        self._changing = asyncio.Lock()
        self._stopping = False
        self._health = health.Health()
        self._admin: AdminServer | None = None
        self._scrapes: ScrapeServer | None = None
        self._certificates = certificates(settings.server)
        self._tasks: list[asyncio.Task[None]] = []
        self.calls.over = self._when_over(settings)
        self.gauges = Gauges()
        self.gauges.add("calls", lambda: len(self.calls))
        vitals.show_assembly(self.gauges, lambda: self._assembly, self._assemblies)
        vitals.show_cache(self.gauges, self.answers, self.questions)
        self.gauges.add("stores_down", lambda: len(self.stores.health.degraded))
        self.gauges.add("store_failures", lambda: self.stores.health.failures)
        self.gauges.add("config_revision", lambda: self._revision)
        self.gauges.add("config_refused", lambda: int(self._refused))

    @property
    def open_upstream(self) -> int:
        """Answers of providers that have not been closed, mocks left out."""
        return vitals.open_upstream(self._assemblies())

    def _assemblies(self) -> list[Assembly]:
        """The one in use, and those whose last calls are under way."""
        return [self._assembly, *self._retiring.values()]

    @property
    def mocks(self) -> dict[str, MockTransport]:
        """The mock providers, by name."""
        return self._assembly.mocks

    async def start(self) -> None:
        """Listen and serve. Raises OSError if an address cannot be had."""
        try:
            await self.stores.start()
            self.answers.start()
            await self._assembly.start()
            self._server = self._listen()
        except BaseException:
            await self._assembly.aclose()
            await self.answers.aclose()
            await self.questions.aclose()
            await self.stores.aclose()
            raise
        self._tasks.append(asyncio.create_task(self.recordings.listen()))
        if self.hints is not None:
            self._tasks.append(asyncio.create_task(self.hints.run(lambda *hint: self._assembly.warn(*hint))))
        await self._server.start()
        self._telemetry.observe(self.gauges)
        if self._telemetry.measures is not None:
            delays = vitals.watch_event_loop(self._telemetry.measures.event_loop_delay.record)
            self._tasks.append(asyncio.create_task(delays))
        if self._scrapes is not None:
            self._scrapes.start()
        if self._admin is not None:
            self._admin.start()
            self._admin.serve(True)
            self._tasks.append(asyncio.create_task(self._beat(self._admin)))
        await self._health.serve()
        log.info(
            "serving",
            port=self.port,
            admin_port=self.admin_port,
            metrics_port=self.metrics_port,
            providers=sorted(self._assembly.members),
            version=__version__,
            revision=self._revision,
            digest=self._assembly.info.config_digest,
        )

    async def reload(self, settings: Config) -> None:
        """Serve calls under `settings` from now on; those under way end as they began.

        What only a restart can change stays as it is. Raises what providers make of their settings: then nothing has
        changed.
        """
        async with self._changing:
            settings, waiting = carried(self.settings, settings)
            if waiting:
                log.warning("needs_restart", paths=waiting)
            new = digest(settings)
            if new == self._assembly.info.config_digest or self._stopping:
                self._is_refused(False)
                log.info("config_unchanged", revision=self._revision, digest=new)
                return
            hide(secrets(settings))
            begun = time.monotonic()
            fresh = await self._assembled(settings, new)
            if self._stopping:
                await fresh.aclose()
                return
            old, self._assembly = self._assembly, fresh
            fresh.inherit(old)
            caching.adapt(self.answers, settings, self.stores)
            self._revision += 1
            self._refused = False
            # Nothing is awaited between these: no call sees half of each configuration.
            servicer = self._servicer
            servicer.pipelines, servicer.models, servicer.info = fresh.pipelines, fresh.models, fresh.info
            servicer.max_stall = settings.streams.max_stall
            self.calls.over = self._when_over(settings)
            if self._certificates is not None and (tls := settings.server.tls) is not None:
                self._certificates.replace(*tls.pem())
            if settings.log != self.settings.log:
                telemetry.log_to_stderr(settings.log.level, settings.log.format)
            self.stores.health.follow(settings.redis.on_failure.modes(), settings.redis.replicas)
            self.settings = settings
            task = asyncio.create_task(old.retire())
            self._retiring[task] = old
            task.add_done_callback(self._retired)
            log.info(
                "config_reloaded",
                revision=self._revision,
                digest=new,
                providers=sorted(fresh.members),
                running=old.in_use.calls,
                seconds=round(time.monotonic() - begun, 3),
            )

    def refuse(self) -> None:
        """A configuration that came after the one in use was no good."""
        self._is_refused(True)

    def _is_refused(self, refused: bool) -> None:
        self._refused = self._servicer.info.config_refused = refused

    async def _assembled(self, settings: Config, new: str) -> Assembly:
        same = settings.catalog == self.settings.catalog
        fresh = await asyncio.to_thread(
            Assembly,
            settings,
            self._telemetry,
            self.stores,
            revision=self._revision + 1,
            digest=new,
            catalog=self._assembly.catalog if same else None,
            answers=self.answers,
            hints=self.hints,
            similar=self.questions,
        )
        try:
            await fresh.start(self._assembly)
        except BaseException:
            await fresh.aclose()
            raise
        return fresh

    def _retired(self, task: asyncio.Task[None]) -> None:
        del self._retiring[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("bug", exc_info=error)

    async def stop(self, drain: float | None = None) -> None:
        """NOT_SERVING first; running calls get `drain` seconds, then SHUTTING_DOWN; all is cleaned up at the end."""
        self._stopping = True
        if self._admin is not None:
            self._admin.serve(False)
        with contextlib.suppress(TimeoutError):  # a Watch stream of a client that hangs must not hold up the exit
            await asyncio.wait_for(self._health.enter_graceful_shutdown(), _HEALTH_TIMEOUT)
        await asyncio.sleep(self.settings.server.drain_delay)
        drain = self.settings.server.drain if drain is None else drain
        if drain:
            await self._deserted()
        refusing = asyncio.create_task(self._server.stop(drain + _CLEANUP_TIMEOUT))
        running = len(self.calls)
        log.info("draining", seconds=drain, **self.gauges.read())
        cut = 0
        drained = await self.calls.drained(drain)
        if drained:
            await asyncio.wait((refusing,), timeout=_LAST)  # for what came just before the door was closed
            drained = await self.calls.drained(drain)
        if not drained:
            cut = self.calls.cut()
            await self.calls.cleaned_up(_CLEANUP_TIMEOUT)  # their finally blocks run before all is closed
        await self._server.stop(0)  # ends the Watch streams, which would use up any grace
        await refusing
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        retiring = dict(self._retiring)
        for retirement in retiring:
            retirement.cancel()
        await asyncio.gather(*retiring, return_exceptions=True)
        for built in (*retiring.values(), self._assembly):
            await built.aclose()
        await self.answers.aclose()
        await self._assembly.settle()
        await self.questions.aclose()
        await self.stores.aclose()
        await asyncio.to_thread(self._telemetry.shutdown, _FLUSH_TIMEOUT)
        if self._scrapes is not None:
            await asyncio.to_thread(self._scrapes.stop)
        if self._admin is not None:
            await asyncio.to_thread(self._admin.stop)
        log.info("stopped", drained=running - cut, cut_off=cut, open_upstream_streams=self.open_upstream)

    async def _deserted(self) -> None:
        """Wait until no call has come for a moment, though not for long.

        A call that is on its way while gRPC closes its door is lost, and its client told CANCELLED. Clients that watch
        our health have gone elsewhere by then.
        """
        loop = asyncio.get_running_loop()
        latest = loop.time() + _DESERTED_WITHIN
        begun = -1
        while begun != self.calls.begun and loop.time() < latest:
            begun = self.calls.begun
            await asyncio.sleep(_MOMENT)

    def _when_over(self, settings: Config) -> Callable[[Context], None] | None:
        """What is to be done with a call that is over; None: nothing."""
        measures = self._telemetry.measures
        if not settings.log.calls:
            return None if measures is None else measures.call

        def over(ctx: Context) -> None:
            if measures is not None:
                measures.call(ctx)
            log_call(ctx)

        return over

    def _listen(self) -> grpc.aio.Server:
        settings = self.settings.server
        server = grpc.aio.server(options=server_options(settings))
        built = self._assembly
        self._servicer = GatewayServicer(
            built.pipelines,
            built.models,
            built.info,
            self.calls,
            self.recordings,
            max_stall=self.settings.streams.max_stall,
        )
        handlers: Any = Handlers(server)
        add_GatewayServiceServicer_to_server(self._servicer, handlers)
        add_HealthServicer_to_server(self._health, handlers)
        if settings.reflection:
            reflection.add(handlers, [health.SERVICE, health.HEALTH_SERVICE])
        if self._certificates is None:
            self.port = bound(server.add_insecure_port, settings.address)
        else:
            credentials = self._certificates.credentials()
            self.port = bound(lambda address: server.add_secure_port(address, credentials), settings.address)
        if self.settings.admin.enabled:
            admin = self.settings.admin
            cache = CacheAdmin(caching.Cached(self.answers), asyncio.get_running_loop())
            self._admin = AdminServer(stalled_after=admin.stalled_after, stores=PURPOSES, cache=cache)
            self.admin_port = bound(self._admin.bind, admin.address)
        if self._telemetry.registry is not None and (address := self.settings.admin.metrics_address) is not None:
            registry = self._telemetry.registry
            self._scrapes = bound(lambda address: ScrapeServer(registry, address), address)
            self.metrics_port = self._scrapes.port
        return server

    async def _beat(self, admin: AdminServer) -> None:
        while True:
            admin.beat()
            admin.show_stores(self.stores.health.degraded)
            await asyncio.sleep(_BEAT)


def serve(settings: Config, source: Source) -> None:
    """Serve until SIGTERM or SIGINT, drain, return. A second signal cuts the drain short. Raises OSError.

    `settings` are what `source` said, and are replaced by what it says later.
    """
    telemetry.log_to_stderr(settings.log.level, settings.log.format)
    uvloop.run(_serve(settings, source))


def _has_terminal() -> bool:
    """Whether somebody runs this in a window; closing that sends SIGHUP as well, and means that it should end."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


async def _serve(settings: Config, source: Source) -> None:
    loop = asyncio.get_running_loop()
    first, second = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: second.set() if first.is_set() else first.set())
    gateway = Gateway(settings)
    reloader = Reloader(source, gateway)
    attended = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN and _has_terminal()  # ignored: nohup
    loop.add_signal_handler(signal.SIGHUP, lambda: first.set() if attended and not _has_terminal() else reloader.ask())
    await gateway.start()
    gc.collect()
    gc.freeze()  # what is there now lives as long as the process: full collections need not look at it again
    reloading = asyncio.create_task(reloader.run())
    await first.wait()
    reloading.cancel()
    await asyncio.gather(reloading, return_exceptions=True)
    log.info("stopping", running=len(gateway.calls), delay=gateway.settings.server.drain_delay)
    stopping = asyncio.create_task(gateway.stop())
    hurry = asyncio.create_task(second.wait())
    await asyncio.wait((stopping, hurry), return_when=asyncio.FIRST_COMPLETED)
    if not stopping.done():
        gateway.calls.cut()
    await stopping
    hurry.cancel()
