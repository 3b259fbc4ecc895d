"""What is counted as it happens, in the terms of those who count: calls, attempts, waits, decisions.

Attributes are looked up once, when a layer is built; what a call costs is a few additions.
"""

from __future__ import annotations

from typing import Literal

from parley import v1
from parley_server import semconv
from parley_server.core.context import Context, Operation
from parley_server.core.instruments import Counter, Families, Histogram
from parley_server.core.target import Target
from parley_server.core.verdict import OK, Verdict
from parley_server.metrics import RECORDED

_SYSTEM = "grpc"


class Measures:
    """Everything that is counted. `by_caller`: also by who calls, where callers have names."""

    def __init__(self, *, by_caller: bool = False) -> None:
        self.families = Families(RECORDED)
        self.by_caller = by_caller
        self.event_loop_delay = self.families.histograms["parley.event_loop.delay"].of()
        self.limits = LimitsMeasures(self.families)
        self._calls = self.families.histograms["rpc.server.call.duration"]
        self._call_cells: dict[tuple[str, str, str], Histogram] = {}
        self._by_caller = self.families.counters["parley.caller.calls"]

    def call(self, ctx: Context) -> None:
        """A call is over, as `ctx.ended` says."""
        code, reason = ctx.ended
        key = (ctx.method, code, reason)
        cell = self._call_cells.get(key)
        if cell is None:
            cell = self._call_cells[key] = self._calls.of(_SYSTEM, f"{semconv.SERVICE}/{ctx.method}", code, reason)
        cell.record(ctx.clock() - ctx.received)
        if self.by_caller and ctx.caller:
            self._by_caller.of(ctx.caller, code).add()

    def attempts(self, operation: Operation, semconv_name: str, target: Target, model: str) -> AttemptMeasures:
        """What counts the attempts at one target. `model`: what it is called here, no name that a caller made up."""
        return AttemptMeasures(self, operation, semconv_name, target, model)

    def waits(self, provider: str, model: str, queue: Literal["bulkhead", "limits"]) -> Histogram:
        """The seconds for which calls wait in a queue for a target."""
        return self.families.histograms["parley.upstream.queue.duration"].of(provider, model, queue)


class LimitsMeasures:
    """What callers' limits decide."""

    def __init__(self, families: Families) -> None:
        self._family = families.counters["parley.limits.calls"]
        self._admitted = self._family.of("admitted", "", "")

    def admitted(self) -> None:
        """There was room."""
        self._admitted.add()

    def refused(self, owner: str, of: str) -> None:
        """There was none: in whose limit, of what."""
        self._family.of("refused", owner, of).add()

    def unavailable(self) -> None:
        """Nobody could tell, and nothing goes on without."""
        self._family.of("unavailable", "", "").add()


class AttemptMeasures:
    """What is counted of the attempts at one target by one operation."""

    def __init__(self, measures: Measures, operation: Operation, semconv_name: str, target: Target, model: str) -> None:
        families = measures.families
        self._target = target
        self._named = (target.provider, model)
        self._gen_ai = (semconv.OPERATIONS[operation], semconv_name, model, target.provider)
        self._durations = families.histograms["gen_ai.client.operation.duration"]
        self._attempts = families.counters["parley.upstream.attempts"]
        self._tokens = families.histograms["gen_ai.client.token.usage"]
        self._cost = families.counters["parley.upstream.cost_nano_usd"].of(*self._named)
        self._first_chunk = families.histograms["gen_ai.client.operation.time_to_first_chunk"].of(*self._gen_ai)
        self._ends: dict[tuple[str, str], tuple[Histogram, Counter]] = {}  # by reason and kind
        self._input, self._output = self._token_cells("")
        self._caller_tokens = families.counters["parley.caller.tokens"] if measures.by_caller else None
        self._caller_cost = families.counters["parley.caller.cost_nano_usd"]

    def began(self, ctx: Context) -> str:
        """An attempt begins; gives the word for what it is."""
        if ctx.hedges:
            return "hedge"
        if not ctx.ledger.attempts:
            return "first"
        before, target = ctx.ledger.attempts[-1], self._target
        return "retry" if before.provider == target.provider and before.model == target.model else "fallback"

    def first_chunk(self, seconds: float) -> None:
        """A stream has content."""
        self._first_chunk.record(seconds)

    def ended(self, ctx: Context, attempt: v1.Attempt, ended: Verdict, seconds: float, kind: str) -> None:
        """An attempt is over, as it stands in the ledger."""
        reason = "" if ended is OK else ended.reason
        cells = self._ends.get((reason, kind))
        if cells is None:
            cells = self._ends[reason, kind] = (
                self._durations.of(*self._gen_ai, reason),
                self._attempts.of(*self._named, kind, reason),
            )
        duration, attempts = cells
        duration.record(seconds)
        attempts.add()
        if not attempt.HasField("usage"):
            return
        usage = attempt.usage
        read, written = usage.input_tokens, usage.output_tokens
        if usage.source in (v1.Usage.SOURCE_PROVIDER, v1.Usage.SOURCE_PARTIAL):
            of_input, of_output = self._input, self._output
        else:
            of_input, of_output = self._token_cells("true")
        if usage.HasField("input_tokens"):
            of_input.record(read)
        if usage.HasField("output_tokens"):
            of_output.record(written)
        cost = usage.cost.total_nano_usd
        if cost:
            self._cost.add(cost)
        if self._caller_tokens is not None and ctx.caller:
            self._caller_tokens.of(ctx.caller, "input").add(read)
            self._caller_tokens.of(ctx.caller, "output").add(written)
            self._caller_cost.of(ctx.caller).add(cost)

    def _token_cells(self, estimated: str) -> tuple[Histogram, Histogram]:
        return (
            self._tokens.of(*self._gen_ai, "input", estimated),
            self._tokens.of(*self._gen_ai, "output", estimated),
        )
