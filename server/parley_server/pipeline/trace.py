"""One server span for every call, from its request to the end of its answer.

The outermost layer: it sees refusals and overdue calls too. The span is an object that is handed on in `ctx.trace`,
never attached to a task: an answer is read, and closed, wherever the server pleases.
"""

from __future__ import annotations

from typing import Any

from opentelemetry.context import Context as TraceContext
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from parley import v1
from parley_server import semconv
from parley_server.core import transcript
from parley_server.core.context import Context
from parley_server.core.reply import Outcome, Reply
from parley_server.core.scrub import scrub
from parley_server.core.service import AnyRequest, Service
from parley_server.core.verdict import OK, Verdict, verdict
from parley_server.pipeline.sampling import Sampling

_W3C = TraceContextTextMapPropagator()
_SERVER_FAULTS = frozenset({"INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED"})  # the rest is the caller's business


class Trace:
    """Continues the caller's trace from `ctx.headers`. `capture` also records what was said, cut short.

    The status code is honest for calls that were cancelled or overdue, which gRPC itself does not tell its handlers.
    """

    def __init__(self, tracer: Tracer, capture: bool = False) -> None:
        self._tracer = tracer
        self._sampling = Sampling(tracer)
        self._capture = capture

    def __call__(self, inner: Service) -> Service:
        async def traced(request: Any, ctx: Context) -> Reply[Any]:
            if not ctx.headers and (place := self._sampling.passes_over()) is not None:
                ctx.trace = place
                return await inner(request, ctx)
            parent = _W3C.extract(ctx.headers, TraceContext()) if ctx.headers else TraceContext()
            span = self._tracer.start_span(f"{semconv.SERVICE}/{ctx.method}", parent, SpanKind.SERVER)
            ctx.trace = set_span_in_context(span, parent)
            if not span.is_recording():
                return await inner(request, ctx)
            span.set_attributes(_request(request, ctx))
            capture = self._capture and isinstance(request, v1.ChatRequest)
            if capture:
                span.set_attribute(
                    semconv.INPUT_MESSAGES, transcript.conversation(request.messages, transcript.PREVIEW)
                )
            try:
                reply = await inner(request, ctx)
            except BaseException as error:
                _end(span, verdict(error, ctx), ctx)
                raise
            overheard = transcript.Overheard(reply, transcript.PREVIEW) if capture else None

            def over(outcome: Outcome) -> None:
                if outcome.final is not None:
                    span.set_attribute(semconv.PARLEY_PROVIDER, outcome.final.route.provider)
                if overheard is not None:
                    said = overheard.response(outcome)
                    reason = semconv.FINISH_REASONS.get(said.finish_reason, "")
                    span.set_attribute(semconv.OUTPUT_MESSAGES, transcript.answer(said, reason, transcript.PREVIEW))
                _end(span, OK if outcome.final is not None else verdict(outcome.error, ctx), ctx)

            reply.on_over(over)
            return reply

        return traced


def _request(request: AnyRequest, ctx: Context) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {
        semconv.RPC_SYSTEM_NAME: "grpc",
        semconv.RPC_METHOD: f"{semconv.SERVICE}/{ctx.method}",
        semconv.PARLEY_REQUEST_ID: ctx.request_id,
        semconv.PARLEY_RESPONSE_ID: ctx.response_id,
        semconv.PARLEY_MODEL: request.model,
    }
    kind, _, peer = ctx.peer().partition(":")  # as gRPC writes it: ipv4:127.0.0.1:40312, ipv6:%5B::1%5D:40312, unix:…
    address, _, port = peer.rpartition(":")
    if kind in ("ipv4", "ipv6") and port.isdecimal():
        attributes[semconv.NETWORK_PEER_ADDRESS] = address.removeprefix("%5B").removesuffix("%5D").strip("[]")
        attributes[semconv.NETWORK_PEER_PORT] = int(port)
    for key, value in request.metadata.items():
        attributes[semconv.PARLEY_METADATA + key] = value
    return attributes


def _end(span: Span, ended: Verdict, ctx: Context) -> None:
    span.set_attribute(semconv.RPC_STATUS_CODE, ended.code)
    span.set_attribute(semconv.PARLEY_ATTEMPTS, len(ctx.ledger.attempts))
    if ctx.caller:  # known by now, where it was not when the span began
        span.set_attribute(semconv.PARLEY_CALLER, ctx.caller)
        span.set_attribute(semconv.PARLEY_TENANT, ctx.tenant)
    if ctx.strategy:
        span.set_attribute(semconv.PARLEY_STRATEGY, ctx.strategy)
        if ctx.route:
            span.set_attribute(semconv.PARLEY_ROUTE, ctx.route)
    if ctx.cache is not None:
        span.set_attribute(semconv.PARLEY_CACHE, semconv.CACHE_STATUS[ctx.cache.status])
        if ctx.cache.key:
            span.set_attribute(semconv.PARLEY_CACHE_KEY, ctx.cache.key)
    cost = ctx.ledger.cost_nano_usd()
    if cost is not None:
        span.set_attribute(semconv.PARLEY_COST, cost)
    if ended is not OK:
        span.set_attribute(semconv.ERROR_TYPE, ended.reason)
        if ended.code in _SERVER_FAULTS:
            span.set_status(Status(StatusCode.ERROR, scrub(ended.message)))
    span.end()
