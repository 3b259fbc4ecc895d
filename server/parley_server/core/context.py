"""What travels with one call: who, until when, and what it has cost so far."""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal

from parley import v1

Operation = Literal["chat", "embed", "rerank"]
Clock = Callable[[], float]
"""Seconds on a clock that never goes back."""


@dataclass(slots=True)
class Ledger:
    """What the call has cost: one entry per finished attempt, in order, the one that answered last."""

    attempts: list[v1.Attempt] = field(default_factory=list)

    def cost_nano_usd(self) -> int | None:
        """Sum over the attempts whose price is known; None if none is."""
        known = [a.usage.cost.total_nano_usd for a in self.attempts if a.usage.HasField("cost")]
        return sum(known) if known else None


@dataclass(slots=True)
class AttemptBudget:
    """Attempts that the whole call may still make: retries and fallbacks draw on the same number.

    `reserved` of those `left` are kept for targets that have not been tried, out of reach of the first one's retries.
    """

    left: int = 1
    reserved: int = 0

    def take(self) -> bool:
        """Use one attempt; False if none is left."""
        if self.left <= 0:
            return False
        self.left -= 1
        return True

    def give_back(self) -> None:
        """The attempt was not made after all."""
        self.left += 1

    def allows_retry(self) -> bool:
        """Whether the target that has just failed may be asked again."""
        return self.left > self.reserved


@dataclass(slots=True, weakref_slot=True)
class Context:
    """One call. `deadline`, `received` and `first_output` are readings of `clock`; `received_at` is Unix time."""

    operation: Operation
    streaming: bool
    request_id: str
    response_id: str
    clock: Clock = time.monotonic
    received: float = 0.0
    received_at: float = 0.0
    deadline: float | None = None
    cancelled_when_due: bool = False
    """Whether whoever made the call cancels it at its deadline, so that none of our timers has to."""
    method: str = ""
    peer: Callable[[], str] = str
    """The caller's address as gRPC writes it, empty if unknown. Asked only by those who record it: it costs 15 µs."""
    key: bytes = b""
    """SHA-256 of the key that the caller shows, empty if it shows none; see `core/callers.py`."""
    caller: str = ""
    """Who makes the call, for what belongs to one caller only; empty while nothing authenticates callers."""
    tenant: str = ""
    """Whose data caches may share: callers of one tenant may be given each other's answers, others never."""
    model: str = ""
    """Model as the caller named it; empty where no model is asked."""
    idempotency_key: str = ""
    """The one given as metadata; at the edge it becomes that of the request."""
    cache_mode: str = ""
    """What metadata asks of the cache of answers; at the edge it becomes the mode of the request."""
    priority: int = 0
    """In queues, from -5 to 4: who has more goes first, though nobody waits for ever."""
    headers: dict[str, str] = field(default_factory=dict)
    """Metadata of the caller that layers may read: W3C trace context only."""
    outgoing: dict[str, str] = field(default_factory=dict)
    """Headers every upstream request of the call carries: W3C trace context of the attempt."""
    budget: AttemptBudget = field(default_factory=AttemptBudget)
    ledger: Ledger = field(default_factory=Ledger)
    warnings: list[v1.Warning] = field(default_factory=list)
    """Notes of layers and of the attempt under way, joined with those of the answer at the edge."""
    route: str = ""
    """Name of the route that the caller asked for, if it is one."""
    strategy: str = ""
    """How the targets were put in order, in lower case; empty where there was only one."""
    at_hand: tuple[bytes, Any] | None = None
    """The key that the request has in the cache of answers, and the answer if it is in memory; None: not looked for."""
    cache: v1.CacheInfo | None = None
    """What the cache of answers had to do with the call; None if it was not asked to do anything."""
    hedges: bool = False
    """Whether this is the side of a race between targets that was asked second."""
    outrun: bool = False
    """Whether this is one side of a race between targets, and the other one has answered."""
    broken: list[str] = field(default_factory=list)
    """Targets (provider/model) whose answer to this call broke off midway: the router asks them after all others, and
    goes on with the budget that is left."""
    continues: bool = False
    """Whether the request asks in its last two messages to go on with an answer that broke off."""
    idle: float = math.inf
    """Seconds that the attempt under way may be silent between two reads of its stream."""
    first_output: float | None = None
    ended: tuple[str, str] = ("OK", "")
    """How the call ended, as its caller was told: the name of a gRPC status code, and the reason of a failure."""
    initial: tuple[tuple[str, str], ...] = ()
    """Metadata that goes out ahead of the answer: what is left of the caller's limits."""
    answer_headers: Mapping[str, str] = field(default_factory=dict)
    """Of the last upstream response, names in lower case: what the provider said of its limits, for one."""
    credential: int | None = None
    """Which of the provider's keys the attempt is to be made with, and then which one it was made with; None: any."""
    trace: Any = None
    """What spans of attempts belong to, recorded or not; None: nothing is traced. See `pipeline/sampling.py`."""

    def who(self) -> str:
        """The caller's name, or its address where nothing authenticates callers: for queues that are fair to all."""
        return self.caller or self.peer()

    def remaining(self) -> float | None:
        """Seconds until the deadline (0 or less: it has passed); None without one."""
        return None if self.deadline is None else self.deadline - self.clock()


_CURRENT: ContextVar[weakref.ref[Context] | None] = ContextVar("parley_call", default=None)


def begin(ctx: Context) -> None:
    """From here on the current task, and those that it starts, work for this call: its log lines say so."""
    _CURRENT.set(weakref.ref(ctx))


def current() -> Context | None:
    """The call that the current task works for; None if for none, or for one that is over."""
    call = _CURRENT.get()
    return None if call is None else call()
