"""The limits of a provider, counted together with the other gateways that show it the same keys.

Each gateway keeps its own count and its own fair queue, and what both let through is asked of the store: one step for a
call that need not wait, one for as many as may go next where a queue has formed. That a store is asked for every call
costs less than a tenth of the call; parts of the limit that are lent to each gateway would be cheaper, and either idle
where they are not needed or be used later than they are counted, which the provider would see as too much.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from parley_server.core.errors import StateUnavailable
from parley_server.core.quota import Quota
from parley_server.pipeline.upstream_limits.room import Held, Keys, LimitsPolicy, Room, Waiting, one_key
from parley_server.stores.counters import Counters, Decision, Grant, Limit
from parley_server.stores.keyvalue import StoreUnavailable

_TOGETHER = 64  # calls of a queue that are asked for in one step
_ASK_AGAIN = 1.0  # seconds until a store that had no room is asked again, though it said longer: others give back


class SharedLimits:
    """What gateways count together: `limits` of "requests" and "tokens". `group` names those of a key."""

    def __init__(self, counters: Counters, limits: Mapping[str, Limit], group: Callable[[int], str]) -> None:
        self._counters = counters
        self._kinds = tuple(limits)
        self._limits = tuple(limits.values())
        self._group = group

    async def take(self, key: int, calls: Sequence[tuple[int, float]]) -> Decision:
        """Reserve so many requests and tokens for each of `calls`. Raises StateUnavailable where it must not go on."""
        costs = [self._costs(requests, tokens) for requests, tokens in calls]
        try:
            return await self._counters.take(self._group(key), self._limits, costs)
        except StoreUnavailable:
            raise StateUnavailable(
                "limits of providers are kept in a store that cannot be asked now, and no call goes on without them",
                retry_after=_ASK_AGAIN,
            ) from None

    def settle(self, grant: Grant, requests: int, tokens: float) -> None:
        """So much was used of what was reserved."""
        self._counters.settle(grant, self._costs(requests, tokens))

    def nothing(self, key: int) -> Grant:
        """Holds nothing of a key yet; what is settled by it is used then."""
        none = (0,) * len(self._limits)
        return Grant(self._group(key), self._limits, none, none)

    def _costs(self, requests: int, tokens: float) -> list[int]:
        return [requests if kind == "requests" else math.ceil(tokens) for kind in self._kinds]


class SharedRoom(Room):
    """A room whose limits are those of several gateways together."""

    def __init__(self, quota: Callable[[], Quota], policy: LimitsPolicy, shared: SharedLimits) -> None:
        super().__init__(quota, policy)
        self._shared = shared
        self._front: deque[Waiting] = deque()  # who was next and found no room, before all that is in the queue
        self._full: dict[int, tuple[float, float]] = {}  # by key: when to ask again, and until when it is full
        self._asking: asyncio.Task[None] | None = None

    def grab(self, tokens: float, keys: Keys = one_key, requests: int = 1) -> Held | None:
        """Nobody has a turn whom the store has not let in."""
        return None

    async def take(
        self,
        caller: Callable[[], str],
        priority: int,
        tokens: float,
        patience: float,
        keys: Keys = one_key,
        requests: int = 1,
    ) -> Held | None:
        while not self._waiting:
            held, _ = self._reserved(tokens, requests, keys)
            if held is None:
                break
            if held.reservation is None or await self._granted(held, tokens):
                return held
        return await super().take(caller, priority, tokens, patience, keys, requests)

    def expected_wait(self, tokens: float, keys: Keys = one_key, requests: int = 1) -> float:
        now = self._clock()
        full = [self._full.get(key, (0.0, 0.0))[1] - now for key in keys()]
        return max(super().expected_wait(tokens, keys, requests), min(full, default=0.0))

    def shown(self, held: Held, key: int, tokens: float) -> None:
        if held.grant is not None:
            self._shared.settle(held.grant, 0, 0.0)
        held.grant = self._shared.nothing(key)
        super().shown(held, key, tokens)

    def settle(self, held: Held, tokens: float) -> None:
        if held.grant is not None:
            self._shared.settle(held.grant, held.requests, tokens)
        super().settle(held, tokens)

    def refund(self, held: Held) -> None:
        if held.grant is not None:
            self._shared.settle(held.grant, 0, 0.0)
        super().refund(held)

    def _reserved(self, tokens: float, requests: int, keys: Keys) -> tuple[Held | None, float]:
        usable, now = keys(), self._clock()
        free = [key for key in usable if self._full.get(key, (0.0, 0.0))[0] <= now]
        if usable and not free:
            return None, min(self._full[key][0] for key in usable) - now
        return super()._reserved(tokens, requests, lambda: free)

    async def _granted(self, held: Held, tokens: float) -> bool:
        """Whether the store lets one call in that nobody is before."""
        try:
            decision = await self._shared.take(held.key, [(held.requests, self.quota(held.key).fits(tokens))])
        except BaseException:
            self._undo(held)
            raise
        if decision.grants:
            held.grant = decision.grants[0]
            return True
        self._is_full(held.key, decision.wait)
        self._undo(held)
        return False

    def _serve(self) -> None:
        """Ask the store for as many as may go next by our own count."""
        if self._asking is not None:
            return
        batch: list[tuple[Waiting, Held]] = []
        while self._waiting and len(batch) < _TOGETHER:
            waiting = self._front.popleft() if self._front else self._queue.take()
            if waiting is None:
                break
            if waiting.turn.done():
                continue
            held, wait = self._reserved(waiting.tokens, waiting.requests, waiting.keys)
            if held is None:
                self._front.appendleft(waiting)
                self._come_back(wait)
                break
            batch.append((waiting, held))
        if batch:
            self._asking = asyncio.create_task(self._ask(batch))

    async def _ask(self, batch: Sequence[tuple[Waiting, Held]]) -> None:
        refused: list[Waiting] = []
        try:
            for key in dict.fromkeys(held.key for _, held in batch):
                refused += await self._ask_of(key, [one for one in batch if one[1].key == key])
        finally:
            self._front.extendleft(reversed(refused))
            self._asking = None
            self._serve()

    async def _ask_of(self, key: int, calls: Sequence[tuple[Waiting, Held]]) -> list[Waiting]:
        """Let in whom the store lets in; gives those whom it does not, in order."""
        grants: Sequence[Grant] = ()
        error: StateUnavailable | None = None
        asked = [(waiting, held) for waiting, held in calls if held.reservation is not None]
        try:
            if asked:
                decision = await self._shared.take(key, [(held.requests, waiting.tokens) for waiting, held in asked])
                grants = decision.grants
                if len(grants) < len(asked):
                    self._is_full(key, decision.wait)
        except StateUnavailable as unavailable:
            error = unavailable
        for (_, held), grant in zip(asked, grants, strict=False):
            held.grant = grant
        refused = []
        for waiting, held in calls:
            is_in = held.grant is not None or held.reservation is None
            if waiting.turn.done():  # its caller has left meanwhile
                self._undo(held)
            elif error is not None and not is_in:
                self._undo(held)
                waiting.turn.set_exception(error)
                self._gone(waiting)
            elif is_in:
                waiting.turn.set_result(held)
                self._gone(waiting)
            else:
                self._undo(held)
                refused.append(waiting)
        return refused

    def _undo(self, held: Held) -> None:
        if held.grant is not None:
            self._shared.settle(held.grant, 0, 0.0)
        if held.reservation is not None:
            self.quota(held.key).refund(held.reservation)

    def _is_full(self, key: int, wait: float) -> None:
        now = self._clock()
        self._full[key] = (now + min(wait, _ASK_AGAIN), now + wait)

    @staticmethod
    def _clock() -> float:
        return asyncio.get_running_loop().time()
