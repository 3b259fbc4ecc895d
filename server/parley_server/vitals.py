"""What is to be seen of a gateway at a moment, for its log and its metrics: looked up when somebody asks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from parley_server.assembly import Assembly
from parley_server.core.gauges import Gauges, Series
from parley_server.pipeline.cache import Answers
from parley_server.providers.auth import Keyring
from parley_server.questions import Questions

_LOOK: Final = 0.1  # seconds
_STATES: Final = {"closed": 0, "half-open": 1, "open": 2}


def show_assembly(gauges: Gauges, current: Callable[[], Assembly], every: Callable[[], Iterable[Assembly]]) -> None:
    """Add what the assembly in use holds, and what all of them do whose calls are under way."""
    gauges.add("open_upstream_streams", lambda: open_upstream(every()))
    gauges.add("queued", lambda: sum(_queued(built) for built in every()))
    gauges.add("shared_calls", lambda: len(current().memory.running))
    gauges.add("remembered_bytes", lambda: current().memory.size)
    gauges.add("open_circuits", lambda: _open_circuits(current()))
    gauges.add("keys_set_aside", lambda: _keys_set_aside(current()))
    gauges.add_series("circuits", lambda: _circuits(current()))
    gauges.add_series("active_attempts", lambda: _active_attempts(current()))


def show_cache(gauges: Gauges, answers: Answers, similar: Questions) -> None:
    """Add what the cache holds and has done."""
    gauges.add("similar_questions", lambda: similar.held)
    gauges.add("similar_lookups", lambda: similar.counts.lookups)
    gauges.add("similar_vetoed", lambda: similar.counts.vetoed)
    gauges.add("similar_late", lambda: similar.counts.late)
    gauges.add("similar_not_embedded", lambda: similar.counts.not_embedded)
    counts = answers.counts
    gauges.add("cached_answers", lambda: len(answers.memory))
    gauges.add("cached_bytes", lambda: answers.memory.size)
    gauges.add("cache_saved_nano_usd", lambda: counts.saved_nano_usd)
    gauges.add_series(
        "cache_lookups",
        lambda: {
            ("memory_hit",): counts.memory_hits,
            ("shared_hit",): counts.shared_hits,
            ("semantic_hit",): counts.semantic_hits,
            ("coalesced",): counts.coalesced,
            ("miss",): counts.misses,
        },
    )
    gauges.add_series(
        "cache_events",
        lambda: {
            ("stale_hit",): counts.stale_hits,
            ("write",): counts.writes,
            ("refused_write",): counts.refused_writes,
            ("eviction",): counts.evictions,
            ("corrupt",): counts.corrupt,
            ("store_failure",): counts.store_failures,
        },
    )
    gauges.add_series(
        "cache_saved_tokens",
        lambda: {("input",): counts.saved_input_tokens, ("output",): counts.saved_output_tokens},
    )


async def watch_event_loop(record: Callable[[float], None]) -> None:
    """Tell `record` the seconds by which the event loop comes back late, until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + _LOOK
        await asyncio.sleep(_LOOK)
        record(max(0.0, loop.time() - due))


def open_upstream(every: Iterable[Assembly]) -> int:
    """Answers of providers that have not been closed, mocks left out."""
    wires = {member.wire for built in every for member in built.members.values()}
    return sum(wire.open for wire in wires)


def _queued(built: Assembly) -> int:
    """Calls that wait for a target: for a place, or for its limits to have room."""
    rooms = [room for member in built.members.values() for room in member.rooms.values()]
    places = [health.places for health in built.healths.values() if health.places is not None]
    return sum(room.queued for room in rooms) + sum(place.queued for place in places)


def _open_circuits(built: Assembly) -> int:
    """Targets that are left alone for having failed too often."""
    circuits = [health.circuit for health in built.healths.values() if health.circuit is not None]
    return sum(circuit.state() == "open" for circuit in circuits)


def _keys_set_aside(built: Assembly) -> int:
    """Keys of providers with several that are refused, or whose accounts have no money."""
    auths = [member.provider.auth for member in built.members.values()]
    return sum(auth.set_aside for auth in auths if isinstance(auth, Keyring))


def _circuits(built: Assembly) -> Series:
    """By provider and model; of several that go by one name, the worst."""
    found: dict[tuple[str, ...], float] = {}
    for target, health in built.healths.items():
        if health.circuit is not None:
            name = _name(built, target)
            found[name] = max(found.get(name, 0), _STATES[health.circuit.state()])
    return found


def _active_attempts(built: Assembly) -> Series:
    """By provider and model."""
    found: dict[tuple[str, ...], float] = {}
    for target, health in built.healths.items():
        name = _name(built, target)
        found[name] = found.get(name, 0) + health.standing.in_flight
    return found


def _name(built: Assembly, target: str) -> tuple[str, ...]:
    provider, _, model = target.partition("/")
    return provider, built.known_as(provider, model)
