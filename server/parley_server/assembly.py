"""Everything that is built from one configuration: providers, models, the state of targets, the stacks of layers.

The order of the layers is readable here: `Assembly._per_call` and `Assembly._per_target`.
"""

from __future__ import annotations

import asyncio
import functools
import random
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from parley import v1
from parley_server import __version__, caching, semconv
from parley_server.api import validate
from parley_server.api.contract import features, schema_digest
from parley_server.api.gateway import Pipelines
from parley_server.api.models import Models
from parley_server.catalog import Catalog
from parley_server.config import Config
from parley_server.config_callers import known_callers, owned
from parley_server.config_limits import plans
from parley_server.core.circuit import Circuit, CircuitPolicy
from parley_server.core.context import Operation
from parley_server.core.errors import GatewayError
from parley_server.core.instruments import Histogram
from parley_server.core.routes import Candidate, Route
from parley_server.core.service import Layer, Service, stack
from parley_server.core.standing import Standing
from parley_server.core.target import Target
from parley_server.dialects.rate_limits import rate_limits
from parley_server.hints import CircuitHints
from parley_server.members import Member, TargetHealth, bind
from parley_server.pipeline.admit import Admit
from parley_server.pipeline.authenticate import Authenticate
from parley_server.pipeline.breaker import Breaker
from parley_server.pipeline.bulkhead import Bulkhead, BulkheadPolicy, Places
from parley_server.pipeline.cache import Answers, Cache, EmbedCache
from parley_server.pipeline.cache import Target as CacheTarget
from parley_server.pipeline.check import Check
from parley_server.pipeline.deadline import Deadline
from parley_server.pipeline.enough import Enough
from parley_server.pipeline.in_use import InUse
from parley_server.pipeline.meter import Meter
from parley_server.pipeline.observe import Observe
from parley_server.pipeline.prefill import Prefill, takes_prefill
from parley_server.pipeline.recover import Recover
from parley_server.pipeline.retry import Retry, RetryBudget, RetryPolicy
from parley_server.pipeline.router import Router
from parley_server.pipeline.shared import Claims, Join, Keyed, Memory, SharePolicy
from parley_server.pipeline.timeout import Limits, Timeout
from parley_server.pipeline.trace import Trace
from parley_server.pipeline.trace_attempt import TraceAttempt
from parley_server.pipeline.upstream_limits import UpstreamLimits
from parley_server.providers.base import Provider
from parley_server.providers.directory import Directory, probe
from parley_server.providers.endpoint import EmbedEndpoint, RerankEndpoint, Wire
from parley_server.providers.kind import Shared
from parley_server.providers.kinds import known
from parley_server.providers.registry import Registry
from parley_server.providers.stepped import chat_endpoint
from parley_server.questions import Questions
from parley_server.routing import Routing, hedges
from parley_server.shelves import Stores
from parley_server.telemetry import Telemetry
from parley_server.transports.http import HttpTransport
from parley_server.transports.mock import MockTransport

_PROBE_TIMEOUT = 1.0
_LISTING_TIMEOUT = 5.0
_LATE = 60.0  # seconds that the end of a call may take, after its deadline
_STACKS = 1024
_TARGETS = 8 * _STACKS


class Assembly:
    """What serves calls under one configuration: `pipelines`, `models` and `info`, between `start()` and `aclose()`.

    One that replaces another is started with it: what the new settings leave alone is taken over, be it connections,
    tokens, lists of models, or what is remembered of targets. `catalog`: if it is built already. `answers` and
    `similar`: those that are cached, and the index of their questions, which outlive it.
    """

    def __init__(
        self,
        settings: Config,
        telemetry: Telemetry,
        stores: Stores,
        *,
        revision: int = 1,
        digest: str = "",
        catalog: Catalog | None = None,
        answers: Answers | None = None,
        hints: CircuitHints | None = None,
        similar: Questions | None = None,
    ) -> None:
        self.settings = settings
        self.stores = stores
        self.members: dict[str, Member] = {}
        self.in_use = InUse()
        self._revision, self._digest = revision, digest
        self._tracer, self._measures = telemetry.tracer, telemetry.measures
        self.catalog = catalog or Catalog.load(settings.catalog.overlay.rows())
        self.healths: dict[str, TargetHealth] = {}
        """By target, those that have been asked."""
        self.memory = Memory(self._share(), time.monotonic, self._claims())
        self._callers = None if settings.callers is None else known_callers(settings.callers)
        self._plans = plans(owned(settings.callers), settings.tenants, settings.limits)
        self._answers = answers or caching.build(settings, stores)
        self._hints = hints
        self._similar = similar or Questions(self._answers, stores)
        self._race, races = hedges(settings.hedging, settings.routes)
        self._routing = Routing(settings.routes, races)
        self._candidate = functools.lru_cache(maxsize=_STACKS)(self._resolve)
        self._cache_target = functools.lru_cache(maxsize=_STACKS)(self._stands_for)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def mocks(self) -> dict[str, MockTransport]:
        """The mock providers, by name."""
        wires = {name: member.provider.transport for name, member in self.members.items()}
        return {name: wire for name, wire in wires.items() if isinstance(wire, MockTransport)}

    def known_as(self, provider: str, model: str) -> str:
        """What metrics call a model: callers may ask for names that nobody has heard of."""
        known = self._directory.lists(f"{provider}/{model}") or self._routing.names(provider, model)
        return model if known else semconv.OTHER

    async def start(self, before: Assembly | None = None) -> None:
        """Find out which providers are there, build the stacks, begin to list models.

        Where there was something before, the models of new providers are waited for, if not for long: calls that name
        them must not fail for having come too early. `aclose()` is needed also if this raises.
        """
        if before is not None:
            self.memory = before.memory
        await self._gather({} if before is None else before.members)
        providers = {name: member.provider for name, member in self.members.items()}
        directory = self._directory = Directory(providers, self.catalog, on_change=self._forget_candidates)
        self._registry = Registry(providers, directory)
        self.pipelines = self._pipelines()
        self.models = Models(self._routing.listed(directory))
        self.info = v1.GetServerInfoResponse(
            version=__version__,
            features=features(),
            providers=sorted(providers),
            max_request_bytes=self.settings.server.max_request_bytes,
            schema_digest=schema_digest(),
            config_revision=self._revision,
            config_digest=self._digest,
        )
        if before is not None:
            kept = [name for name, member in self.members.items() if before.members.get(name) is member]
            directory.adopt(before._directory, kept)
            with suppress(TimeoutError):
                async with asyncio.timeout(_LISTING_TIMEOUT):
                    await directory.refresh(providers.keys() - kept)
        self._tasks.append(asyncio.create_task(directory.keep_fresh(self.settings.refresh_models)))

    def inherit(self, before: Assembly) -> None:
        """Take over what `before` remembers of targets whose providers and policies are the same."""
        self.memory.policy = self._share()
        if self.memory.claims is not None:
            self.memory.claims.lasts = self._longest_call()
        for name, health in before.healths.items():
            provider = name.partition("/")[0]
            if provider in self.members and self.members[provider] is before.members.get(provider):
                self.healths[name] = self._adapted(name, health, before.settings)

    async def retire(self) -> None:
        """Stop what runs in the background, wait until the last call is over, and close what nobody else needs."""
        await self._rest()
        await self.in_use.over()
        await self.aclose()

    async def aclose(self) -> None:
        """Stop what runs in the background and close the connections to providers that nobody else needs."""
        await self._rest()
        self._forget_candidates()
        members, self.members = self.members, {}
        for member in members.values():
            await member.leave()

    async def settle(self) -> None:
        """Tell other gateways what came of calls with idempotency keys, within a moment."""
        if self.memory.claims is not None:
            await self.memory.claims.aclose()

    async def _rest(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    def _pipelines(self) -> Pipelines:
        policy = v1.UNSUPPORTED_POLICY_WARN
        if self.settings.unsupported_policy == "error":
            policy = v1.UNSUPPORTED_POLICY_ERROR
        join = Join(self.memory, enabled=self.settings.join.enabled, around=self.in_use)
        policies = self.settings.cache.policies({name: route.cache for name, route in self.settings.routes.items()})
        near = None
        if self.settings.cache.enabled:
            near = self._similar.near(self.settings.cache.semantic, stack(self.in_use, service=self._router()))
        chats = Cache(self._answers, policies, self._cache_target, join, near)
        embeddings = EmbedCache(self._answers, policies, self._cache_target, join)
        return Pipelines(
            self._per_call(Check(validate.chat, chats.knows), chats),
            self._per_call(Check(validate.embed), embeddings),
            self._per_call(Check(validate.rerank), join),
            policy,
            self._callers,
        )

    def _per_call(self, check: Check, shared: Layer) -> Service:
        """What every call passes, outermost first. `shared`: what gives one answer to several calls."""
        server = self.settings.server
        layers: list[Layer] = [self.in_use, Deadline(server.default_deadline, server.max_deadline)]
        if self._callers is not None:
            layers.append(Authenticate(self._callers))
        layers.append(check)
        if self._plans:
            measures = None if self._measures is None else self._measures.limits
            layers.append(Admit(self.stores.counters, self._plans, self.settings.limits.expected_output, measures))
        layers += [Keyed(self.memory, around=self.in_use), shared, Recover()]
        if self._tracer is not None:
            layers.insert(1, Trace(self._tracer, capture=self.settings.telemetry.capture_content))
        return stack(*layers, service=self._router())

    def _router(self) -> Router:
        return Router(
            self._candidate,
            self.settings.retry.max_attempts,
            max_wait=self.settings.breaker.max_wait,
            race=self._race,
        )

    def _forget_candidates(self) -> None:
        self._candidate.cache_clear()
        self._cache_target.cache_clear()

    def _stands_for(self, model: str, operation: Operation) -> CacheTarget:
        """What a model name stands for, as far as the cache can tell answers apart by it."""
        if model in self.settings.routes:
            return self._routing.cache_target(model)
        try:
            found = self._candidate(model, operation)
        except GatewayError:  # the router will say so, unless a fallback answers
            return CacheTarget(model, primary=model)
        name = str(found.target) if isinstance(found, Candidate) else model
        return CacheTarget(name, primary=name)

    def _claims(self) -> Claims | None:
        """The idempotency keys of all gateways; None if there is only this one."""
        stores = self.stores
        if not stores.shared:
            return None
        return Claims(
            stores.keyvalue("idempotency"),
            stores.presence,
            stores.seals,
            time.monotonic,
            lasts=self._longest_call(),
            refuses=lambda: stores.health.mode("idempotency") == "closed",
        )

    def _longest_call(self) -> float:
        return self.settings.server.max_deadline + _LATE

    def _share(self) -> SharePolicy:
        return SharePolicy(self.settings.idempotency.window, self.settings.idempotency.max_bytes)

    def _per_target(self, provider: Provider, target: Target, operation: Operation, endpoint: Service) -> Service:
        """What every attempt at one target passes, outermost first."""
        retry, clocks = self.settings.retry, self.settings.timeouts
        own = self.settings.providers[provider.name].retry
        retry = retry if own is None else retry.model_copy(update=own.model_dump(exclude_none=True))
        policy = RetryPolicy(
            retry.attempts_per_target,
            retry.base,
            retry.cap,
            retry.max_retry_after,
            least=clocks.least,
            classes=frozenset(retry.classes),
            statuses=frozenset(retry.statuses),
        )
        price = target.card.pricing if target.card is not None and target.card.HasField("pricing") else None
        health = self._health(str(target))
        name, measures, counted = provider.semconv_name or provider.name, self._measures, None
        waits: dict[str, Histogram] = {}
        if measures is not None:
            known_as = self.known_as(provider.name, target.model)
            counted = measures.attempts(operation, name, target, known_as)
            waits = {queue: measures.waits(provider.name, known_as, queue) for queue in ("bulkhead", "limits")}
        layers: list[Layer] = [Retry(policy, asyncio.sleep, random.random, health.retries)]
        if takes_prefill(target):
            layers.insert(0, Prefill())
        if health.circuit is not None and provider.breaks:
            layers.append(Breaker(target, health.circuit))
        if health.places is not None:
            layers.append(Bulkhead(target, health.places, time.monotonic, waits.get("bulkhead")))
        room = self.members[provider.name].room(target.model)
        bind(health, provider, room)
        if room is not None:
            keys = functools.partial(provider.auth.usable, target.model)
            split = {"requests": endpoint.requests} if isinstance(endpoint, EmbedEndpoint) else {}
            layers.append(UpstreamLimits(target, room, keys, waits=waits.get("limits"), **split))
        layers += [Enough(clocks.least), Observe(health.standing), Meter(target, price, counted)]
        if self._tracer is not None:
            capture = self.settings.telemetry.capture_content
            layers.append(TraceAttempt(self._tracer, target, name, provider.base_url, capture=capture))
        layers.append(Timeout(Limits(clocks.connect, clocks.first_content, clocks.idle, clocks.total), target))
        return stack(*layers, service=endpoint)

    def _health(self, target: str) -> TargetHealth:
        """The state of a target, which outlives its stacks: these are made anew whenever the models are listed."""
        health = self.healths.pop(target, None) or self._new_health(target)
        self.healths[target] = health
        if len(self.healths) > _TARGETS:
            del self.healths[next(iter(self.healths))]  # the one that was not needed for longest
        return health

    def warn(self, target: str, seconds: float) -> None:
        """Another gateway has given a target up for so long."""
        if target.partition("/")[0] in self.members and (circuit := self._health(target).circuit) is not None:
            circuit.warn(seconds)

    def _adapted(self, target: str, health: TargetHealth, was: Config) -> TargetHealth:
        """`health` of a target, which grew under the settings `was`, as far as the policies are the same now."""
        now, fresh = self.settings, self._new_health(target)
        return TargetHealth(
            retries=health.retries if now.retry == was.retry else fresh.retries,
            circuit=health.circuit if now.breaker == was.breaker else fresh.circuit,
            places=health.places if now.bulkhead == was.bulkhead else fresh.places,
            standing=health.standing,
        )

    def _new_health(self, target: str) -> TargetHealth:
        retry, breaker, places = self.settings.retry, self.settings.breaker, self.settings.bulkhead
        known = breaker.model_dump(exclude={"enabled", "max_wait"})
        limits = BulkheadPolicy(places.concurrency, places.queue, places.max_wait) if places.concurrency else None
        circuit = Circuit(CircuitPolicy(**known), time.monotonic) if breaker.enabled else None
        if circuit is not None and self._hints is not None:
            circuit.on_open = functools.partial(self._hints.opened, target)
        return TargetHealth(
            retries=RetryBudget(retry.budget_share, retry.budget),
            circuit=circuit,
            places=Places(limits, time.monotonic) if limits is not None else None,
            standing=Standing(time.monotonic, rate_limits),
        )

    def _resolve(self, model: str, operation: Operation) -> Candidate | Route:
        """The route or the target behind a model name, with its stack; remembered until the list of models changes."""
        if model in self.settings.routes:
            return self._routing.route(model, operation, self._candidate)
        provider, target = self._registry.resolve(model, operation)
        wire = Wire(provider, target, connect_timeout=self.settings.timeouts.connect)
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
        health = self._health(str(target))
        return Candidate(target, self._per_target(provider, target, operation, endpoint), health.standing)

    async def _gather(self, before: Mapping[str, Member]) -> None:
        """The configured providers, without those that are wanted only if they answer and do not."""
        kinds = known()
        for name, settings in self.settings.providers.items():
            old = before.get(name)
            if old is not None and old.settings == settings:
                old.users += 1
                self.members[name] = old
                continue
            wire = HttpTransport()
            card = kinds[settings.kind].card(name, settings, Shared(wire))
            card = replace(card, transport=card.transport or wire, region=card.region or settings.region)
            member = self.members[name] = Member(settings, card, wire, counters=self.stores.shared_counters)
            if settings.only_if_reachable:
                try:
                    async with asyncio.timeout(_PROBE_TIMEOUT):
                        await probe(member.provider)
                except (GatewayError, TimeoutError):
                    del self.members[name]
                    await member.leave()


def models_offline(settings: Config) -> list[v1.Model]:
    """The models that configuration and catalogue know, in order of ID. Asks nobody."""
    transport, kinds = HttpTransport(), known()
    cards = {name: kinds[given.kind].card(name, given, Shared(transport)) for name, given in settings.providers.items()}
    catalog = Catalog.load(settings.catalog.overlay.rows())
    directory = Directory(cards, catalog, on_change=lambda: None)
    return list(Routing(settings.routes).listed(directory).after(""))
