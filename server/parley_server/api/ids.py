"""ULIDs: 26 characters that sort by the time they were made, to the millisecond; the rest is random.

48 bits of Unix time in milliseconds and 80 random ones, in Crockford's base 32 and lower case (github.com/ulid/spec).
"""

from __future__ import annotations

import os
import time

_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = tuple(high + low for high in _DIGITS for low in _DIGITS)  # two digits, ten bits, at a time
_SHIFTS = tuple(range(120, -1, -10))


def ulid() -> str:
    """A new one. Not to be guessed, so it may stand for what it names."""
    value = time.time_ns() // 1_000_000 << 80 | int.from_bytes(os.urandom(10))
    return "".join([_PAIRS[value >> shift & 0x3FF] for shift in _SHIFTS])
