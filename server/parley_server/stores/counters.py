"""What a store of counters does: check several limits and take from all of them or from none, in one step.

What a call will use is reserved when it comes (`take`) and made right when it is over (`settle`). What nobody settles,
because the process has died, is not lost for ever: windows and buckets forget it in their time, slots when their lease
runs out. All limits of one step belong to one *group*, which a cluster keeps on one node: a tenant, or an upstream.

Every store has a clock of its own. Each method raises StoreUnavailable where the store cannot be asked.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from parley_server.core.limits import Count, Rule

LEASE = 30.0
"""Seconds after which the slots of a process that has died are free again; those of living calls are renewed."""
LEASE_MS = int(LEASE * 1000)

_PROCESS = uuid.uuid4().hex[:12]
_numbers = itertools.count(1)


def new_holder() -> str:
    """A name for one call that no other process gives."""
    return f"{_PROCESS}-{next(_numbers)}"


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit of a group. `name` is its own within the group; it counts anew under another rule."""

    name: str
    rule: Rule
    key: str = field(init=False, repr=False, compare=False)
    """What it is kept under: a rule with other times cannot read what this one has counted."""

    def __post_init__(self) -> None:
        rule = self.rule
        marks = {"window": f"w{rule.per}", "bucket": f"b{rule.amount}/{rule.per}", "slots": "s"}
        object.__setattr__(self, "key", f"{self.name}:{marks[rule.way]}")


@dataclass(slots=True, eq=False)
class Grant:
    """What one call holds of each limit, in their order, until it is settled."""

    group: str
    limits: Sequence[Limit]
    costs: Sequence[int]
    marks: Sequence[int] = ()
    holder: str = ""
    """By which its slots are known."""
    here: bool = False
    """Whether this process alone has counted it, since the store that others share was not there."""


@dataclass(slots=True)  # not frozen, which would cost more than all else that is done with it
class Level:
    """How one limit stands. `left`: what may still be used, 0 at least. `reset`: seconds until all of it may."""

    left: int
    reset: float


@dataclass(slots=True)
class Decision:
    """What came of a `take`.

    `grants`: of the first calls, as many as there was room for. If not of all: `refused` is the number of the limit
    that the next call would have to wait for longest, for `wait` seconds, to the millisecond.
    `levels`: how the limits stand now.
    """

    grants: Sequence[Grant]
    levels: Sequence[Level]
    refused: int = -1
    wait: float = 0.0


class Counters(Protocol):
    """Limits by group and name."""

    async def take(self, group: str, limits: Sequence[Limit], calls: Sequence[Sequence[int]]) -> Decision:
        """Reserve what calls will use, all limits of one or none, in their order until there is no room for one.

        `calls`: for each call its cost by limit, in the order of `limits`; slots cost 1. A cost above a limit's amount
        counts as the amount: such a call goes when all else has gone.
        """
        ...

    def settle(self, grant: Grant, used: Sequence[int]) -> None:
        """The call is over and has used so much of each limit. At most once for a grant.

        A store in another process is told in the background. What it cannot be told it forgets in its time.
        """
        ...

    async def told(self) -> None:
        """Wait until the store knows of all that was settled, or cannot be told."""
        ...

    async def aclose(self) -> None:
        """Tell what is to be told, and renew no more."""
        ...


def fitted(limits: Sequence[Limit], calls: Sequence[Sequence[int]]) -> list[list[int]]:
    """`calls` with costs that can be had."""
    return [[min(cost, limit.rule.amount) for cost, limit in zip(call, limits, strict=True)] for call in calls]


def decide(
    group: str, limits: Sequence[Limit], counts: Sequence[Count], calls: Sequence[Sequence[int]], now: int, lease: int
) -> Decision:
    """`take` for stores that count in this process. `calls` can be had."""
    grants: list[Grant] = []
    refused, longest = -1, 0
    for call in calls:
        for number, count in enumerate(counts):
            wait = count.wait(now, call[number])
            if wait > longest:
                refused, longest = number, wait
        if refused >= 0:
            break
        holder = new_holder()
        marks = [count.take(now, cost, holder, lease) for count, cost in zip(counts, call, strict=True)]
        grants.append(Grant(group, limits, call, marks, holder))
    levels = [Level(max(int(count.left(now)), 0), count.reset(now) / 1000) for count in counts]
    return Decision(grants, levels, refused, longest / 1000)
