"""Which shared calls are under way, and what came of those that are over."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from parley import v1
from parley.fold import unfold
from parley_server.core.context import Context
from parley_server.core.reply import Batches, Reply
from parley_server.pipeline.shared.answers import again, own

if TYPE_CHECKING:
    from parley_server.pipeline.shared.call import SharedCall
    from parley_server.pipeline.shared.claims import Claims

_OVERHEAD = 200  # bytes that an object takes beside its content, roughly
_SHARE = 4  # one answer gets a quarter of the memory at most

Key = tuple[str, str | bytes]
"""Caller, and idempotency key or what is asked."""


@dataclass(frozen=True, slots=True)
class SharePolicy:
    """For how long answers are remembered, and how much of them."""

    window: float = 600.0
    """Seconds that an answer with an idempotency key is remembered after its end."""
    max_bytes: int = 64 * 1024 * 1024
    """Of all answers, under way and remembered, roughly. The oldest are forgotten first. An answer that takes more than
    a quarter is not remembered, and a stream that does cannot be joined any more."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """An answer that is over; with `error` its beginning, and how it broke off."""

    digest: bytes
    response_id: str
    kind: type[Any]
    data: bytes
    warnings: tuple[v1.Warning, ...]
    error: Exception | None
    until: float

    @property
    def size(self) -> int:
        return len(self.data) + _OVERHEAD


class Memory:
    """Calls under way and answers remembered. It outlives the stacks that use it.

    `claims`: what other gateways know of keys; None if there are none.
    """

    def __init__(self, policy: SharePolicy, clock: Callable[[], float], claims: Claims | None = None) -> None:
        self.policy = policy
        self.claims = claims
        self.running: dict[Key, SharedCall] = {}
        self._clock = clock
        self._finished: OrderedDict[Key, Remembered] = OrderedDict()  # by their end, and so by when they expire
        self._bytes = 0

    @property
    def size(self) -> int:
        """Bytes that are kept, roughly."""
        return self._bytes

    def finished(self, key: Key) -> Remembered | None:
        """The answer remembered for a key."""
        now = self._clock()
        while self._finished and next(iter(self._finished.values())).until <= now:
            self._forget()
        return self._finished.get(key)

    def outcome(self, call: SharedCall) -> Remembered | None:
        """What came of a call; None if there is nothing that its callers have seen."""
        response = call.whole()
        if response is None:
            return None
        data, until = response.SerializeToString(), self._clock() + self.policy.window
        warnings = tuple(call.ctx.warnings)
        return Remembered(call.digest, call.ctx.response_id, type(response), data, warnings, call.error, until)

    def fits(self, entry: Remembered) -> bool:
        """Whether one answer may take so much."""
        return entry.size * _SHARE <= self.policy.max_bytes

    def remember(self, key: Key, entry: Remembered) -> None:
        """Keep what came of a call."""
        if self.take(entry.size):
            self._finished[key] = entry

    def take(self, size: int) -> bool:
        """Find room for so many bytes, at the cost of what is remembered; False if there is none."""
        while self._bytes + size > self.policy.max_bytes:
            if not self._finished:
                return False
            key = self._forget()
            if self.claims is not None:
                self.claims.forget(key)
        self._bytes += size
        return True

    def give_back(self, size: int) -> None:
        """So many bytes are not needed any more."""
        self._bytes -= size

    def _forget(self) -> Key:
        key, entry = self._finished.popitem(last=False)
        self._bytes -= entry.size
        return key


def replayed(done: Remembered, ctx: Context) -> Reply[Any]:
    """A remembered answer, as this caller gets it."""
    response = done.kind.FromString(done.data)
    if done.error is None:
        own(response, ctx, done.warnings, leads=False)
        return Reply.of(response)
    if not ctx.streaming:
        raise again(done.error)
    return Reply(response=None, batches=_broken(response, done.error), owner=None)


async def _broken(response: v1.ChatResponse, error: Exception) -> Batches:
    yield unfold(response)[:-1]
    raise again(error)
