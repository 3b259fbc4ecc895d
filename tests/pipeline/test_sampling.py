"""Whether a call that begins a trace is recorded is decided once, as the tracer's own sampler would."""

from __future__ import annotations

import re

import pytest
from opentelemetry.context import Context as TraceContext
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    Sampler,
    StaticSampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import NoOpTracer, SpanKind, Tracer, set_span_in_context

from parley_server.pipeline.sampling import Sampling, TraceIds, Unrecorded, span_context

_NAME = "parley.v1.GatewayService/Chat"


def tracer(sampler: Sampler) -> Tracer:
    return TracerProvider(sampler=sampler, id_generator=TraceIds(), shutdown_on_exit=False).get_tracer("test")


def test_as_many_are_recorded_as_the_sampler_wants() -> None:
    ours = tracer(ParentBased(TraceIdRatioBased(0.25)))
    sampling = Sampling(ours)
    recorded = 0
    for _ in range(4000):
        if sampling.passes_over() is None:
            span = ours.start_span(_NAME, TraceContext(), SpanKind.SERVER)
            assert span.is_recording(), "the span was decided upon a second time, with another ID"
            recorded += 1
    assert 850 < recorded < 1150


def test_the_next_trace_after_one_that_was_put_back_has_another_id() -> None:
    ours = tracer(TraceIdRatioBased(1))
    ids = set()
    for _ in range(10):
        assert Sampling(ours).passes_over() is None
        ids.add(ours.start_span(_NAME, TraceContext()).get_span_context().trace_id)
        ids.add(ours.start_span(_NAME, TraceContext()).get_span_context().trace_id)
    assert len(ids) == 20


@pytest.mark.parametrize(
    "other",
    [
        NoOpTracer(),
        TracerProvider(sampler=TraceIdRatioBased(0)).get_tracer("other IDs"),
        tracer(StaticSampler(Decision.DROP)),
        tracer(ParentBased(StaticSampler(Decision.DROP))),
        tracer(ALWAYS_OFF),
    ],
)
def test_others_decide_for_themselves(other: Tracer) -> None:
    assert Sampling(other).passes_over() is None


def test_what_is_not_recorded_has_a_place_all_the_same() -> None:
    place = Sampling(tracer(TraceIdRatioBased(0))).passes_over()
    assert isinstance(place, Unrecorded)
    told = span_context(place)
    assert told.is_valid
    assert not told.trace_flags.sampled
    assert span_context(place) == told, "it changes from one look to the next"
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-02", place.traceparent())
    assert f"{told.trace_id:032x}-{told.span_id:016x}" in place.traceparent()


def test_the_place_of_a_span_is_its_own() -> None:
    span = tracer(ALWAYS_ON).start_span(_NAME, TraceContext())
    assert span_context(set_span_in_context(span, TraceContext())) == span.get_span_context()
    assert not span_context(None).is_valid
