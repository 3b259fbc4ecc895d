"""Prompt-cache breakpoints: at most four, each for five minutes or an hour, the longer ones first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.duration_pb2 import Duration

from parley import v1
from parley_server.dialects.base import Wishes

_MOST = 4
_SHORT, _LONG = 300, 3600  # seconds


class Breakpoints:
    """Marks the blocks of one body. First `mark` what the request marks, then `settle` the whole."""

    def __init__(self, options: v1.PromptCacheOptions, wishes: Wishes) -> None:
        self._mode = options.mode
        self._wishes = wishes
        self._default = {"type": "ephemeral"}
        if options.HasField("ttl") and self._mode != v1.PromptCacheOptions.MODE_OFF:
            self._default = self._lasting(options.ttl, "prompt_cache.ttl")

    def mark(self, block: dict[str, Any], breakpoint_: v1.CacheBreakpoint, path: str) -> None:
        """The cached prefix ends with `block`. `path` is that of the part or tool."""
        if self._mode == v1.PromptCacheOptions.MODE_OFF:
            return
        own = breakpoint_.HasField("ttl")
        block["cache_control"] = (
            self._lasting(breakpoint_.ttl, f"{path}.cache_breakpoint.ttl") if own else dict(self._default)
        )

    def _lasting(self, ttl: Duration, path: str) -> dict[str, str]:
        seconds = ttl.seconds + ttl.nanos / 1e9
        offered, word = (_SHORT, "5m") if seconds <= _SHORT else (_LONG, "1h")
        if seconds != offered:
            self._wishes.unmet(path, f"the Messages API caches for 5 minutes or for 1 hour: {word} was sent", "CLAMPED")
        return {"type": "ephemeral", "ttl": word}

    def settle(self, body: dict[str, Any]) -> None:
        """Make the marks of `body` acceptable: the oldest of too many go, and none outlives the one before it."""
        automatic = self._mode == v1.PromptCacheOptions.MODE_AUTO
        if automatic:
            body["cache_control"] = self._default  # the API itself marks the last block it can; that is one of the four
        marked = list(_marked(body))
        surplus = len(marked) + automatic - _MOST
        if surplus > 0:
            problem = f"the oldest {surplus} of the breakpoints were left out: the Messages API takes {_MOST}"
            self._wishes.unmet("prompt_cache", problem, "CACHE_BREAKPOINTS_DROPPED")
            for block in marked[:surplus]:
                del block["cache_control"]
            marked = marked[surplus:]
        long = automatic and self._default.get("ttl") == "1h"
        for block in reversed(marked):
            if block["cache_control"].get("ttl") == "1h":
                long = True
            elif long:
                problem = "a breakpoint ahead of one of 1 hour must live as long: 1h was sent"
                self._wishes.unmet("prompt_cache", problem, "CLAMPED")
                block["cache_control"] = {"type": "ephemeral", "ttl": "1h"}


def _marked(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Everything in a body that carries a mark, in the order of the cached prefix."""
    for blocks in (body.get("tools", ()), body.get("system", ()), *(turn["content"] for turn in body["messages"])):
        for block in blocks:
            content = block.get("content")
            inner = content if isinstance(content, list) else ()
            yield from (part for part in inner if isinstance(part, dict) and part.get("cache_control"))
            if block.get("cache_control"):
                yield block
