"""An answer as the cache keeps it, and as bytes."""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass

from parley import v1
from parley_server.core import usage as counting

_HEAD = struct.Struct("<dffQqqqHHH")  # what is of fixed size; the last three are lengths of texts


@dataclass(frozen=True, slots=True)
class Saved:
    """What an answer cost when it was made: tokens, and billionths of a US dollar (0 where that is not known)."""

    input_tokens: int = 0
    output_tokens: int = 0
    nano_usd: int = 0


@dataclass(slots=True, eq=False)
class Entry:
    """An answer. Nobody changes it, except for `checked`."""

    data: bytes
    """The response as it is given from the cache: nothing billed, no attempts."""
    made: float
    """When it was asked for, Unix time."""
    ttl: float
    """Seconds that it is good for."""
    grace: float
    """Seconds that it may be given after that, if need be."""
    revision: int
    """Of the purges that were known when it was asked for."""
    tenant: str
    target: str
    """What the request named: provider/model, or a route."""
    answered: str
    """Who answered: provider/model."""
    namespace: str
    saved: Saved
    checked: int = 0
    """How many purges it has been held against, in the order they became known here."""

    def is_fresh(self, now: float) -> bool:
        """Whether it is still good."""
        return now < self.made + self.ttl

    def left(self, now: float) -> float:
        """Seconds that it is of any use."""
        return self.made + self.ttl + self.grace - now

    def age(self, now: float) -> int:
        """Whole seconds since it was asked for."""
        return max(0, int(now - self.made))

    def pack(self) -> bytes:
        """All of it but `tenant` and `checked`, as bytes."""
        texts = [text.encode() for text in (self.target, self.answered, self.namespace)]
        saved = self.saved
        head = _HEAD.pack(
            *(self.made, self.ttl, self.grace, self.revision),
            *(saved.input_tokens, saved.output_tokens, saved.nano_usd),
            *map(len, texts),
        )
        return b"".join([head, *texts, self.data])

    @classmethod
    def unpack(cls, packed: bytes, tenant: str) -> Entry:
        """What `pack` gave. Raises ValueError if it cannot be that."""
        try:
            made, ttl, grace, revision, inputs, outputs, cost, *lengths = _HEAD.unpack_from(packed)
            at = _HEAD.size
            texts = []
            for length in lengths:
                texts.append(sys.intern(packed[at : at + length].decode()))  # the same few, again and again
                at += length
        except struct.error as error:
            raise ValueError(str(error)) from None
        target, answered, namespace = texts
        saved = Saved(inputs, outputs, cost)
        return cls(packed[at:], made, ttl, grace, revision, tenant, target, answered, namespace, saved)


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
