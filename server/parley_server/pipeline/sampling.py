"""Which of the calls that begin a trace are recorded, decided before anything is made for them.

Of a hundred calls ninety-nine are not, as a rule. OpenTelemetry makes a span, its context and the context of that for
each of them all the same: a sixth of what it does itself for an answer from the cache.
"""

from __future__ import annotations

from opentelemetry.context import Context as TraceContext
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import SpanContext, TraceFlags, Tracer, get_current_span

_NOTHING = TraceContext()
_NOT_SAMPLED = TraceFlags.RANDOM_TRACE_ID


class TraceIds(RandomIdGenerator):
    """OpenTelemetry's own, but the ID of the next trace may have been drawn before its span is begun."""

    def __init__(self) -> None:
        self._drawn = 0

    def generate_trace_id(self) -> int:
        """The one that was put back, if there is one."""
        drawn, self._drawn = self._drawn, 0
        return drawn or super().generate_trace_id()

    def put_back(self, trace_id: int) -> None:
        """Let the next trace have this one."""
        self._drawn = trace_id


class Unrecorded:
    """The place of a call in a trace that it begins and that nobody keeps."""

    __slots__ = ("_ids", "_span_id", "_trace_id")

    def __init__(self, trace_id: int, ids: TraceIds) -> None:
        self._trace_id = trace_id
        self._span_id = 0
        self._ids = ids

    def span_context(self) -> SpanContext:
        """As OpenTelemetry has it."""
        return SpanContext(self._trace_id, self._span(), is_remote=False, trace_flags=TraceFlags(_NOT_SAMPLED))

    def traceparent(self) -> str:
        """As W3C's header has it: whoever is asked for the call learns of the trace, and that it is not recorded."""
        return f"00-{self._trace_id:032x}-{self._span():016x}-{_NOT_SAMPLED:02x}"

    def _span(self) -> int:
        if not self._span_id:
            self._span_id = self._ids.generate_span_id()
        return self._span_id


class Sampling:
    """Decides as the SDK's `TraceIdRatioBased` does, by itself or as the root of `ParentBased`.

    Any other sampler is left to decide when a span is begun: it may count, and is not to be asked twice. So are tracers
    with other IDs than `TraceIds`.
    """

    def __init__(self, tracer: Tracer) -> None:
        ids, sampler = getattr(tracer, "id_generator", None), getattr(tracer, "sampler", None)
        root = getattr(sampler, "_root", sampler)
        self._ids: TraceIds | None = None
        self._bound = 0
        if isinstance(ids, TraceIds) and type(root) is TraceIdRatioBased:
            self._ids, self._bound = ids, root.bound

    def passes_over(self) -> Unrecorded | None:
        """Its place in a trace, if the call is not to be recorded. If it is, its span has to be the next to begin."""
        ids = self._ids
        if ids is None:
            return None
        trace_id = ids.generate_trace_id()
        if trace_id & TraceIdRatioBased.TRACE_ID_LIMIT >= self._bound:
            return Unrecorded(trace_id, ids)
        ids.put_back(trace_id)
        return None


def span_context(trace: TraceContext | Unrecorded | None) -> SpanContext:
    """Of `Context.trace`; not a valid one if there is none."""
    if isinstance(trace, Unrecorded):
        return trace.span_context()
    return get_current_span(_NOTHING if trace is None else trace).get_span_context()
