"""Cache points: at most four, the longer-lived ones first, never at the beginning or right behind a document."""

from __future__ import annotations

from typing import Any

from google.protobuf.duration_pb2 import Duration

from parley import v1
from parley_server.dialects.base import Wishes
from parley_server.dialects.bedrock.families import Family

_MOST = 4
_SHORT, _LONG = 300, 3600  # seconds

Point = dict[str, str]
"""The inside of a `cachePoint` block."""


class CachePoints:
    """Makes the cache points of one body. First `point` for what the request marks, then `settle` the whole."""

    def __init__(self, options: v1.PromptCacheOptions, family: Family, wishes: Wishes) -> None:
        self._off = options.mode == v1.PromptCacheOptions.MODE_OFF
        self._family = family
        self._wishes = wishes
        self._default: Point = {"type": "default"}
        if options.HasField("ttl") and not self._off:
            self._default = self._lasting(options.ttl, "prompt_cache.ttl")
        if options.mode == v1.PromptCacheOptions.MODE_AUTO:
            wishes.unmet("prompt_cache.mode", "Converse places no cache points by itself")
        if options.key:
            wishes.unmet("prompt_cache.key", "Converse has no affinity key")

    def point(self, breakpoint_: v1.CacheBreakpoint, path: str, *, tool: bool = False) -> Point | None:
        """The cache point that `breakpoint_` asks for; None where there can be none."""
        if self._off:
            return None
        if not self._family.cache_points or (tool and self._family.cache_points != "all"):
            where = "tools" if tool else "prompts"
            self._wishes.unmet(f"{path}.cache_breakpoint", f"this model takes no cache points in {where}")
            return None
        if breakpoint_.HasField("ttl"):
            return self._lasting(breakpoint_.ttl, f"{path}.cache_breakpoint.ttl")
        return dict(self._default)

    def _lasting(self, ttl: Duration, path: str) -> Point:
        if not self._family.cache_lifetimes:
            self._wishes.unmet(path, "this model's cache has a lifetime of its own")
            return {"type": "default"}
        seconds = ttl.seconds + ttl.nanos / 1e9
        offered, word = (_SHORT, "5m") if seconds <= _SHORT else (_LONG, "1h")
        if seconds != offered:
            self._wishes.unmet(path, f"Bedrock caches for 5 minutes or for 1 hour: {word} was sent", "CLAMPED")
        return {"type": "default", "ttl": word}

    def settle(self, *lists: list[dict[str, Any]]) -> None:
        """Make the points in `lists`, given in the order of the prompt, acceptable.

        The oldest of too many go, and none outlives the one before it.
        """
        found = [(blocks, block) for blocks in lists for block in blocks if "cachePoint" in block]
        surplus = len(found) - _MOST
        if surplus > 0:
            problem = f"the oldest {surplus} of the breakpoints were left out: Bedrock takes {_MOST}"
            self._wishes.unmet("prompt_cache", problem, "CACHE_BREAKPOINTS_DROPPED")
            for blocks, block in found[:surplus]:
                blocks[:] = [other for other in blocks if other is not block]
            found = found[surplus:]
        long = False
        for _, block in reversed(found):
            point = block["cachePoint"]
            if point.get("ttl") == "1h":
                long = True
            elif long:
                problem = "a breakpoint ahead of one of 1 hour must live as long: 1h was sent"
                self._wishes.unmet("prompt_cache", problem, "CLAMPED")
                point["ttl"] = "1h"
