"""One client span for every attempt, by OpenTelemetry's GenAI conventions.

Directly around the attempt's clocks, so that a time-out shows as what it is. The span's W3C context goes out with the
provider's request.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from google.protobuf.message import Message
from opentelemetry.context import Context as TraceContext
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from parley import v1
from parley_server import semconv
from parley_server.core import transcript
from parley_server.core.context import Context
from parley_server.core.reply import Outcome, Reply
from parley_server.core.scrub import scrub
from parley_server.core.service import AnyRequest, Service
from parley_server.core.target import Target
from parley_server.core.verdict import OK, Verdict, verdict
from parley_server.dialects.rate_limits import rate_limits
from parley_server.pipeline.sampling import Unrecorded

_W3C = TraceContextTextMapPropagator()

_SAMPLING = (
    ("max_output_tokens", semconv.REQUEST_MAX_TOKENS),
    ("temperature", semconv.REQUEST_TEMPERATURE),
    ("top_p", semconv.REQUEST_TOP_P),
    ("top_k", semconv.REQUEST_TOP_K),
    ("frequency_penalty", semconv.REQUEST_FREQUENCY_PENALTY),
    ("presence_penalty", semconv.REQUEST_PRESENCE_PENALTY),
    ("seed", semconv.REQUEST_SEED),
)
_USAGE = (
    ("input_tokens", semconv.USAGE_INPUT_TOKENS),
    ("output_tokens", semconv.USAGE_OUTPUT_TOKENS),
    ("cache_read_input_tokens", semconv.USAGE_CACHE_READ),
    ("cache_write_input_tokens", semconv.USAGE_CACHE_WRITE),
    ("reasoning_output_tokens", semconv.USAGE_REASONING),
)

Attributes = dict[str, AttributeValue]


class TraceAttempt:
    """`provider_name`: OpenTelemetry's name of the provider. `base_url`: where its API is.

    `capture` also records what was said, cut short: never media, replay state, or what looks like a credential.
    """

    def __init__(
        self, tracer: Tracer, target: Target, provider_name: str, base_url: str, *, capture: bool = False
    ) -> None:
        self._tracer = tracer
        self._capture = capture
        self._model = target.model
        self._always: Attributes = {semconv.PROVIDER_NAME: provider_name, semconv.REQUEST_MODEL: target.model}
        url = urlsplit(base_url)
        if url.hostname:
            self._always[semconv.SERVER_ADDRESS] = url.hostname
            self._always[semconv.SERVER_PORT] = url.port or (80 if url.scheme == "http" else 443)

    def __call__(self, inner: Service) -> Service:
        async def traced(request: Any, ctx: Context) -> Reply[Any]:
            # Of a trace that nobody keeps the provider still learns which one it is, and that nobody keeps it.
            if isinstance(ctx.trace, Unrecorded):
                ctx.outgoing["traceparent"] = ctx.trace.traceparent()
                return await inner(request, ctx)
            parent = ctx.trace if ctx.trace is not None else TraceContext()
            if ctx.trace is not None and not get_current_span(parent).is_recording():
                _W3C.inject(ctx.outgoing, parent)
                return await inner(request, ctx)
            operation = semconv.OPERATIONS[ctx.operation]
            span = self._tracer.start_span(f"{operation} {self._model}", parent, SpanKind.CLIENT)
            _W3C.inject(ctx.outgoing, set_span_in_context(span, parent))
            if not span.is_recording():
                return await inner(request, ctx)
            attributes = {**self._always, semconv.OPERATION_NAME: operation}
            attributes[semconv.PARLEY_ATTEMPT] = len(ctx.ledger.attempts) + 1
            attributes.update(_of_request(request, ctx))
            if ctx.strategy:
                attributes[semconv.PARLEY_STRATEGY] = ctx.strategy
                if ctx.route:
                    attributes[semconv.PARLEY_ROUTE] = ctx.route
            capture = self._capture and isinstance(request, v1.ChatRequest)
            if capture:
                attributes[semconv.INPUT_MESSAGES] = transcript.conversation(request.messages)
                if request.tools:
                    attributes[semconv.TOOL_DEFINITIONS] = transcript.definitions(request.tools)
            span.set_attributes(attributes)
            ctx.answer_headers = {}  # those of an attempt before tell nothing of this one
            start = ctx.clock()
            try:
                reply = await inner(request, ctx)
            except BaseException as error:
                span.set_attributes(_of_limits(ctx))
                _end(span, verdict(error, ctx))
                raise
            span.set_attributes(_of_limits(ctx))
            if ctx.streaming:
                span.set_attribute(semconv.RESPONSE_TIME_TO_FIRST_CHUNK, ctx.clock() - start)
            overheard = transcript.Overheard(reply) if capture else None

            def over(outcome: Outcome) -> None:
                found = _of_outcome(outcome)
                if overheard is not None:
                    said = overheard.response(outcome)
                    reason = semconv.FINISH_REASONS.get(said.finish_reason, "")
                    found[semconv.OUTPUT_MESSAGES] = transcript.answer(said, reason)
                span.set_attributes(found)
                _end(span, OK if outcome.final is not None else verdict(outcome.error, ctx))

            reply.on_over(over)
            return reply

        return traced


def _of_request(request: AnyRequest, ctx: Context) -> Attributes:
    if isinstance(request, v1.EmbedRequest):
        encoding = "packed" if request.encoding == v1.EMBEDDING_ENCODING_FLOAT32_BYTES else "float"
        attributes: Attributes = {semconv.REQUEST_ENCODING_FORMATS: [encoding]}
        if request.HasField("dimensions"):
            attributes[semconv.EMBEDDINGS_DIMENSION_COUNT] = request.dimensions
        return attributes
    if isinstance(request, v1.RerankRequest):
        return {}
    attributes = _present(request.sampling, _SAMPLING)
    if ctx.streaming:
        attributes[semconv.REQUEST_STREAM] = True
    if request.sampling.stop_sequences:
        attributes[semconv.REQUEST_STOP_SEQUENCES] = list(request.sampling.stop_sequences)
    if request.reasoning.effort:
        level = v1.ReasoningEffort.Name(request.reasoning.effort)
        attributes[semconv.REQUEST_REASONING_LEVEL] = level.removeprefix("REASONING_EFFORT_").lower()
    match request.output.WhichOneof("format"):
        case "json_object" | "json_schema":
            attributes[semconv.OUTPUT_TYPE] = "json"
        case "text":
            attributes[semconv.OUTPUT_TYPE] = "text"
    return attributes


def _of_limits(ctx: Context) -> Attributes:
    """What the provider said is left of its rate limits."""
    attributes: Attributes = {}
    for limit in rate_limits(ctx.answer_headers):
        name = semconv.PARLEY_RATE_LIMIT + ".".join(filter(None, (limit.resource.replace("-", "_"), limit.window)))
        told = {"limit": limit.limit, "remaining": limit.remaining, "reset": limit.reset}
        attributes.update({f"{name}.{what}": value for what, value in told.items() if value is not None})
    return attributes


def _of_outcome(outcome: Outcome) -> Attributes:
    attributes: Attributes = {} if outcome.usage is None else _present(outcome.usage, _USAGE)
    if outcome.usage is not None and outcome.usage.HasField("cost"):
        attributes[semconv.PARLEY_COST] = outcome.usage.cost.total_nano_usd
    final = outcome.final
    if final is None:
        return attributes
    attributes[semconv.RESPONSE_MODEL] = final.route.model
    if final.route.provider_response_id:
        attributes[semconv.RESPONSE_ID] = final.route.provider_response_id
    if isinstance(final, v1.ChatResponse | v1.ResponseCompleted) and final.finish_reason:
        word = semconv.FINISH_REASONS.get(final.finish_reason, final.native_finish_reason)
        attributes[semconv.RESPONSE_FINISH_REASONS] = [word]
    return attributes


def _present(message: Message, names: tuple[tuple[str, str], ...]) -> Attributes:
    """The fields of `message` that are set, under their telemetry names."""
    return {name: getattr(message, field) for field, name in names if message.HasField(field)}


def _end(span: Span, ended: Verdict) -> None:
    if ended is not OK:
        span.set_attribute(semconv.ERROR_TYPE, ended.reason)
        span.set_status(Status(StatusCode.ERROR, scrub(ended.message)))
    span.end()
