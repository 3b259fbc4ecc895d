"""An answer as the cache keeps it, and as bytes."""

from __future__ import annotations

import struct
from typing import NamedTuple

from parley import v1
from parley_server.core import usage as counting

_HEAD = struct.Struct("<dffQqqqHHHH")  # what is of fixed size; the last four are lengths of texts


class Saved(NamedTuple):
    """What an answer cost when it was made: tokens, and billionths of a US dollar (0 where that is not known)."""

    input_tokens: int = 0
    output_tokens: int = 0
    nano_usd: int = 0


_NOTHING = Saved()


class Entry:
    """An answer, as the bytes that it is kept as: one object for each, whatever they say.

    `made`: when it was asked for, Unix time. `ttl`: seconds that it is good for; `grace`: seconds that it may be given
    after that, if need be. `revision`: of the purges that were known when it was asked for.
    """

    __slots__ = ("_lengths", "grace", "made", "packed", "revision", "saved", "ttl")

    def __init__(self, packed: bytes) -> None:
        """What is `packed` in an entry. Raises ValueError if it cannot be that."""
        self.packed = packed
        try:
            head = _HEAD.unpack_from(packed)
        except struct.error as error:
            raise ValueError(str(error)) from None
        self.made: float = head[0]
        self.ttl: float = head[1]
        self.grace: float = head[2]
        self.revision: int = head[3]
        self.saved = Saved(*head[4:7])
        self._lengths: tuple[int, ...] = head[7:]

    @classmethod
    def of(
        cls,
        data: bytes,
        *,
        made: float,
        ttl: float,
        grace: float = 0.0,
        revision: int = 0,
        tenant: str = "",
        target: str = "",
        answered: str = "",
        namespace: str = "",
        saved: Saved = _NOTHING,
    ) -> Entry:
        """An entry that says all this."""
        texts = [text.encode() for text in (tenant, target, answered, namespace)]
        head = _HEAD.pack(made, ttl, grace, revision, *saved, *map(len, texts))
        return cls(b"".join([head, *texts, data]))

    @property
    def data(self) -> bytes:
        """The response as it is given from the cache: nothing billed, no attempts."""
        return self.packed[_HEAD.size + sum(self._lengths) :]

    @property
    def tenant(self) -> str:
        """Whose it is."""
        return self._text(0)

    @property
    def target(self) -> str:
        """What the request named: provider/model, or a route."""
        return self._text(1)

    @property
    def answered(self) -> str:
        """Who answered: provider/model."""
        return self._text(2)

    @property
    def namespace(self) -> str:
        """What the request set it apart by."""
        return self._text(3)

    def is_fresh(self, now: float) -> bool:
        """Whether it is still good."""
        return now < self.made + self.ttl

    def left(self, now: float) -> float:
        """Seconds that it is of any use."""
        return self.made + self.ttl + self.grace - now

    def age(self, now: float) -> int:
        """Whole seconds since it was asked for."""
        return max(0, int(now - self.made))

    def _text(self, index: int) -> str:
        start = _HEAD.size + sum(self._lengths[:index])
        return self.packed[start : start + self._lengths[index]].decode()


def saved_by(usage: v1.Usage) -> Saved:
    """What an answer with this usage cost."""
    return Saved(usage.input_tokens, usage.output_tokens, usage.cost.total_nano_usd)


def cached_form(response: v1.ChatResponse | v1.EmbedResponse) -> bytes:
    """A response as it is given from the cache. `response` is changed: what is of one call only goes."""
    response.ClearField("id")
    response.ClearField("model")
    response.ClearField("cache")
    if isinstance(response, v1.ChatResponse):
        response.ClearField("create_time")
    if response.HasField("route"):
        for name in ("attempts", "time_to_first_output", "total_duration"):
            response.route.ClearField(name)
    response.usage.CopyFrom(counting.from_cache(response.usage))
    return response.SerializeToString()
