"""What became of a call or an attempt, in the words of a gRPC status."""

from __future__ import annotations

from dataclasses import dataclass

from parley_server.core.context import Context
from parley_server.core.errors import Bug, DeadlineExceeded, GatewayError

NUMBERS = {
    "OK": 0,
    "CANCELLED": 1,
    "INVALID_ARGUMENT": 3,
    "DEADLINE_EXCEEDED": 4,
    "NOT_FOUND": 5,
    "RESOURCE_EXHAUSTED": 8,
    "FAILED_PRECONDITION": 9,
    "ABORTED": 10,
    "OUT_OF_RANGE": 11,
    "INTERNAL": 13,
    "UNAVAILABLE": 14,
    "UNAUTHENTICATED": 16,
}
"""Numbers of the status codes that the gateway gives."""

_NEARLY = 0.010  # seconds; who ends a call this shortly before its deadline has read it on another clock


@dataclass(frozen=True, slots=True)
class Verdict:
    """`code` is the name of a gRPC status code; failures have the reason of their `ErrorInfo` and a message too."""

    code: str
    reason: str = ""
    message: str = ""

    @property
    def number(self) -> int:
        """The code as a number."""
        return NUMBERS[self.code]


OK = Verdict("OK")
CANCELLED = Verdict("CANCELLED", "CANCELLED", "the caller cancelled the call")
OUTRUN = Verdict("CANCELLED", "OUTRUN", "another target answered first")
OVERDUE = Verdict(DeadlineExceeded.code.value, DeadlineExceeded.reason, "the deadline of the call is over")
BUG = Verdict(Bug.code.value, Bug.reason, "unexpected error")  # its text stays in the log


def verdict(error: BaseException | None, ctx: Context) -> Verdict:
    """The status that `error` stands for.

    None, and every exception that is no `Exception` (a cancelled task, a closed generator), mean that somebody outside
    lost interest: who raced it against another target, the deadline if it is over, else the caller.
    """
    match error:
        case GatewayError():
            return Verdict(error.code.value, error.reason, error.message)
        case Exception():
            return BUG
        case _ if ctx.outrun:
            return OUTRUN
        case _:
            remaining = ctx.remaining()
            return OVERDUE if remaining is not None and remaining <= _NEARLY else CANCELLED
