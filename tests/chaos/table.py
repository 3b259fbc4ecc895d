"""What must come of a fault under a policy, for whole answers, streams, and streams of tool calls.

A cell is how the call ends, how many requests reached the main and the other target (before a slash: the attempts that
the call tells of, where these are not all the requests), and which text the caller has: `main` or `other` (whole
answers of these targets), `part` (the beginning of main's), `both` (that beginning, gone on with by the other target)
or `-` (none).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from grpc import StatusCode

Mode = Literal["unary", "stream", "tools"]

ENDS: dict[str, tuple[StatusCode, str]] = {
    "ok": (StatusCode.OK, ""),
    "cut": (StatusCode.UNAVAILABLE, "STREAM_INTERRUPTED"),
    "late": (StatusCode.UNAVAILABLE, "PROVIDER_TIMEOUT"),
    "mad": (StatusCode.INTERNAL, "PROVIDER_PROTOCOL_ERROR"),
    "busy": (StatusCode.UNAVAILABLE, "PROVIDER_OVERLOADED"),
    "limit": (StatusCode.RESOURCE_EXHAUSTED, "PROVIDER_RATE_LIMITED"),
    "open": (StatusCode.UNAVAILABLE, "PROVIDER_CIRCUIT_OPEN"),
}
"""Words of the table: code and reason."""

POLICIES = {
    "once": "one attempt",
    "retries": "three attempts at the main target",
    "fallback": "three attempts, the last one at the other target",
    "breaker": "the second of two calls, of which the first failure opens the circuit of the main target",
    "hedging": "as fallback, and the other target is asked as well after a quarter of a second",
    "restart": "as fallback, and a stream that breaks off is started again",
    "continue": "as fallback, and a text that breaks off is gone on with",
}

_TABLE = """
fault     mode    once          retries       fallback      breaker       hedging       restart       continue
well      any     ok 1+0 main   ok 1+0 main   ok 1+0 main   ok 1/2+0 main ok 1+0 main   ok 1+0 main   ok 1+0 main
slow      any     ok 1+0 main   ok 1+0 main   ok 1+0 main   ok 1/2+0 main ok 1+1 other  ok 1+0 main   ok 1+0 main
cut       unary   cut 1+0 -     cut 3+0 -     ok 2+1 other  open 0/1+0 -  ok 2+1 other
stall     unary   late 1+0 -    late 3+0 -    ok 2+1 other  open 0/1+0 -  ok 1+1 other
malformed unary   mad 1+0 -     mad 3+0 -     ok 2+1 other  open 0/1+0 -  ok 2+1 other
in-band   unary   busy 1+0 -    busy 3+0 -    ok 2+1 other  open 0/1+0 -  ok 2+1 other
cut       before  cut 1+0 -     cut 3+0 -     ok 2+1 other  open 0/1+0 -  ok 2+1 other  ok 2+1 other  ok 2+1 other
stall     before  late 1+0 -    late 3+0 -    ok 2+1 other  open 0/1+0 -  ok 1+1 other  ok 2+1 other  ok 2+1 other
malformed before  mad 1+0 -     mad 3+0 -     ok 2+1 other  open 0/1+0 -  ok 2+1 other  ok 2+1 other  ok 2+1 other
in-band   before  busy 1+0 -    busy 3+0 -    ok 2+1 other  open 0/1+0 -  ok 2+1 other  ok 2+1 other  ok 2+1 other
cut       stream  cut 1+0 part  cut 1+0 part  cut 1+0 part  open 0/1+0 -  cut 1+0 part  ok 1+1 other  ok 1+1 both
stall     stream  cut 1+0 part  cut 1+0 part  cut 1+0 part  open 0/1+0 -  cut 1+0 part  ok 1+1 other  ok 1+1 both
malformed stream  mad 1+0 part  mad 1+0 part  mad 1+0 part  open 0/1+0 -  mad 1+0 part  ok 1+1 other  ok 1+1 both
in-band   stream  busy 1+0 part busy 1+0 part busy 1+0 part open 0/1+0 -  busy 1+0 part ok 1+1 other  ok 1+1 both
cut       tools   cut 1+0 part  cut 1+0 part  cut 1+0 part  open 0/1+0 -  cut 1+0 part  ok 1+1 other  cut 1+0 part
stall     tools   cut 1+0 part  cut 1+0 part  cut 1+0 part  open 0/1+0 -  cut 1+0 part  ok 1+1 other  cut 1+0 part
malformed tools   mad 1+0 part  mad 1+0 part  mad 1+0 part  open 0/1+0 -  mad 1+0 part  ok 1+1 other  mad 1+0 part
in-band   tools   busy 1+0 part busy 1+0 part busy 1+0 part open 0/1+0 -  busy 1+0 part ok 1+1 other  busy 1+0 part
storm     any     limit 1+0 -   limit 3+0 -   ok 2+1 other  open 0/3+0 -  ok 1+1 other  ok 2+1 other  ok 2+1 other
flapping  any     busy 1+0 -    ok 2+0 main   ok 2+0 main   open 0/1+0 -  ok 2+0 main   ok 2+0 main   ok 2+0 main
"""
_MODES: dict[str, tuple[tuple[Mode, bool], ...]] = {
    "any": (("unary", False), ("stream", False), ("tools", False)),
    "unary": (("unary", False),),
    "before": (("stream", False), ("tools", False)),
    "stream": (("stream", True),),
    "tools": (("tools", True),),
}
"""Words of the second column: modes, and whether the fault comes behind the first content."""


@dataclass(frozen=True)
class Cell:
    """One call and what must come of it."""

    fault: str
    mode: Mode
    begun: bool
    """The fault comes behind the first content."""
    policy: str
    code: StatusCode
    reason: str
    attempts: int
    main: int
    other: int
    text: str

    def __str__(self) -> str:
        return f"{self.fault}{' inside' if self.begun else ''}, {self.mode}, {self.policy}"


def cells() -> Iterator[Cell]:
    """The table, cell by cell."""
    head, *rows = _TABLE.strip().splitlines()
    policies = head.split()[2:]
    for row in rows:
        fault, modes, rest = row.split(None, 2)
        found = re.findall(r"(\w+) (?:(\d+)/)?(\d+)\+(\d+) (\w+|-)", rest)
        for policy, (end, attempts, main, other, text) in zip(policies, found, strict=False):
            for mode, begun in _MODES[modes]:
                if mode == "unary" and policy in ("restart", "continue"):
                    continue  # for streams only
                code, reason = ENDS[end]
                made = int(attempts or int(main) + int(other))
                yield Cell(fault, mode, begun, policy, code, reason, made, int(main), int(other), text)
