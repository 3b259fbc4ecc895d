"""In which order targets are asked. Pure: an order is a function of what the options are like now.

Whatever the order, targets that are left alone for having failed come last, the one that may be asked first leading;
they stay options, since all may be in that state. Where nothing else decides, the order is that in which they are
listed.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, TypeAlias, TypeVar

from parley import v1
from parley_server.core.standing import Standing

EXPLORATION = 0.03
"""Share of calls that STRATEGY_LATENCY gives to a target which is not the fastest, to learn whether it is now."""
PREFIX = 8192
"""Bytes of a prompt by which STRATEGY_AFFINITY knows it again."""
UNTOLD = 0.5
"""Share of a quota that is assumed to be left where the provider does not say."""
_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0
_INSTRUCTIONS = (v1.ROLE_SYSTEM, v1.ROLE_DEVELOPER)

Strategy: TypeAlias = v1.RoutingOptions.Strategy.ValueType


class Option(Protocol):
    """A target that may be asked."""

    @property
    def key(self) -> str:
        """Its name, the same in every process."""

    @property
    def weight(self) -> int:
        """Its share, relative to those of the others; 0: only after them."""

    @property
    def standing(self) -> Standing:
        """Its live state."""

    @property
    def cost(self) -> int | None:
        """What the call should cost there, in billionths of a US dollar; None: unknown."""


AnOption = TypeVar("AnOption", bound=Option)


@dataclass(slots=True)
class Call:
    """What an order may depend on besides the options. `draw`: where a weighted choice falls; `random`: any chance."""

    streaming: bool = True
    prefix: Callable[[], bytes] = bytes
    draw: Callable[[], float] = random.random
    random: Callable[[], float] = field(default=random.random)


class Spread:
    """Numbers in [0, 1), each far from the few before it: so shares come out right within a few calls, not thousands.

    Steps of the golden ratio from a random start, which differs from process to process.
    """

    def __init__(self, random: Callable[[], float] = random.random) -> None:
        self._last = random()

    def __call__(self) -> float:
        self._last = (self._last + _GOLDEN) % 1.0
        return self._last


def order(options: Sequence[AnOption], strategy: Strategy, call: Call) -> list[AnOption]:
    """`options` in the order in which they are asked."""
    if len(options) < 2:
        return list(options)
    waits = [option.standing.wait() for option in options]
    well = [option for option, wait in zip(options, waits, strict=True) if wait <= 0.0]
    ill = sorted(
        ((wait, number) for number, wait in enumerate(waits) if wait > 0.0), key=lambda one: one[0]
    )  # stable: equals as listed
    rest = [options[number] for _, number in ill]
    match strategy:
        case v1.RoutingOptions.STRATEGY_WEIGHTED:
            return weighted(well, call.draw()) + rest
        case v1.RoutingOptions.STRATEGY_LATENCY:
            return fastest(well, call) + rest
        case v1.RoutingOptions.STRATEGY_COST:
            return cheapest(well) + rest
        case v1.RoutingOptions.STRATEGY_LEAST_BUSY:
            return least_busy(well) + rest
        case v1.RoutingOptions.STRATEGY_USAGE:
            return least_used(well) + rest
        case v1.RoutingOptions.STRATEGY_AFFINITY:
            return nearest(well, call.prefix()) + rest
        case _:
            return well + rest


def weighted(options: Sequence[AnOption], draw: float) -> list[AnOption]:
    """Each first as often as its weight says, if `draw` is uniform in [0, 1); what is left of it places the rest."""
    left, last = [o for o in options if o.weight > 0], [o for o in options if o.weight <= 0]
    ordered: list[AnOption] = []
    while left:
        total = sum(option.weight for option in left)
        at = draw * total
        for option in left[:-1]:
            if at < option.weight:
                break
            at -= option.weight
        else:
            option = left[-1]
        draw = min(at / option.weight, 1.0 - 2**-53)  # uniform again, within the piece that was hit
        left.remove(option)
        ordered.append(option)
    return ordered + last


def fastest(options: Sequence[AnOption], call: Call) -> list[AnOption]:
    """By time to content. One that nobody has tried lately goes first, for one call at a time; now and then another."""
    latency = partial(_latency, streaming=call.streaming)
    known = sorted((option for option in options if option.standing.is_known()), key=latency)
    new = [option for option in options if not option.standing.is_known()]
    untried = [option for option in new if not option.standing.in_flight]
    being_tried = [option for option in new if option.standing.in_flight]
    if not untried and len(known) > 1 and call.random() < EXPLORATION:
        known.insert(0, known.pop(1 + int(call.random() * (len(known) - 1))))
    return untried + known + being_tried


def _latency(option: Option, *, streaming: bool) -> float:
    return option.standing.latency(streaming=streaming)


def cheapest(options: Sequence[AnOption]) -> list[AnOption]:
    """By expected cost; those of unknown price after all others."""
    return sorted(options, key=lambda option: math.inf if option.cost is None else option.cost)


def least_busy(options: Sequence[AnOption]) -> list[AnOption]:
    """By what each has to do already, for its weight."""
    return sorted(
        options,
        key=lambda option: (option.standing.busy() + 1) / option.weight if option.weight > 0 else math.inf,
    )


def least_used(options: Sequence[AnOption]) -> list[AnOption]:
    """By the share of its rate limits that each has left, the most first."""
    return sorted(options, key=lambda option: -_quota(option))


def _quota(option: Option) -> float:
    quota = option.standing.quota()
    return UNTOLD if quota is None else quota


def nearest(options: Sequence[AnOption], prefix: bytes) -> list[AnOption]:
    """Equal prefixes find the same target, whoever else comes or goes (rendezvous hashing); full targets give way."""
    by_score = sorted(options, key=lambda option: -_score(option, prefix))
    return sorted(by_score, key=lambda option: option.standing.is_full())


def _score(option: Option, prefix: bytes) -> float:
    hashed = hashlib.blake2b(option.key.encode(), key=prefix[:64], digest_size=7).digest()
    share = (int.from_bytes(hashed) + 0.5) / 2**56
    return -option.weight / math.log(share)


def prefix_of(request: object) -> bytes:
    """A digest of how a prompt begins: `prompt_cache.key` if there is one, else instructions, tools and first turn.

    That is what the turns of one conversation have in common, and what caches of providers go by.
    """
    if not isinstance(request, v1.ChatRequest):
        return b""
    hashed = hashlib.blake2b(digest_size=16)
    if request.prompt_cache.key:
        hashed.update(request.prompt_cache.key.encode())
        return hashed.digest()
    room = PREFIX
    for text in _beginning(request):
        piece = text[:room].encode()
        hashed.update(piece)
        hashed.update(b"\0")
        room -= len(piece)
        if room <= 0:
            break
    return hashed.digest()


def _beginning(request: v1.ChatRequest) -> list[str]:
    texts: list[str] = []
    for tool in request.tools:
        texts += (tool.function.name, tool.function.description, tool.function.parameters_json_schema)
        texts.append(tool.provider_tool.json)
    size = sum(map(len, texts))
    for message in request.messages:
        for part in message.parts:
            texts.append(part.text)
            size += len(part.text)
            if size >= PREFIX:
                return texts
        if message.role not in _INSTRUCTIONS:
            break
    return texts
