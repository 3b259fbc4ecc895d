"""Acorn's wire format: `POST /talk` of turns, an answer as one JSON object or as JSON lines.

→ {"model": "oak", "stream": false, "limit": 100, "turns": [{"by": "user", "says": "Hello"}]}
← {"model": "oak-2", "says": "Hi!", "ended": "done", "counts": {"heard": 5, "said": 2}}
← {"model": "oak-2", "more": "Hi"}                                    one line a piece, in a stream
  {"model": "oak-2", "more": "!"}
  {"model": "oak-2", "ended": "done", "counts": {"heard": 5, "said": 2}}
← {"problem": {"kind": "busy", "words": "Come back later."}}          as a body, or as a line of a stream
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from parley import v1
from parley_server.core.errors import (
    AttemptTimeout,
    CredentialsRejected,
    GatewayError,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    ProtocolError,
    RateLimited,
    RequestTooLarge,
    StreamInterrupted,
    Unavailable,
    UnsupportedParameter,
    Violation,
)
from parley_server.core.reply import Batch
from parley_server.core.target import Target
from parley_server.dialects.base import Framing, HttpCall, Wishes, dump, load_object
from parley_server.dialects.framing.ndjson import NDJSON
from parley_server.dialects.hints import provider_text, retry_after
from parley_server.dialects.parts import PartWriter

_ROLES = {v1.ROLE_SYSTEM: "system", v1.ROLE_DEVELOPER: "system", v1.ROLE_ASSISTANT: "acorn"}
_FINISH = {"done": v1.FINISH_REASON_STOP, "limit": v1.FINISH_REASON_LENGTH}
_MALFORMED = (AttributeError, KeyError, TypeError, ValueError)
_BY_KIND: Mapping[str, type[GatewayError]] = {"busy": Overloaded, "slow down": RateLimited, "who?": CredentialsRejected}
_BY_STATUS: Mapping[int, type[GatewayError]] = {
    401: CredentialsRejected,
    403: CredentialsRejected,
    404: ModelNotFound,
    408: AttemptTimeout,
    413: RequestTooLarge,
    429: RateLimited,
    503: Overloaded,
}


class Acorn:
    """The chat dialect: pure functions, and a decoder that is fresh for each stream."""

    framing: type[Framing] = NDJSON

    def encode(self, request: v1.ChatRequest, target: Target, *, stream: bool) -> HttpCall:
        """The call that asks for `request`. What Acorn cannot be told is noted, never dropped in silence."""
        wishes = Wishes(request.unsupported_policy)
        body: dict[str, Any] = {"model": target.model, "stream": stream, "turns": _turns(request, wishes, target)}
        if request.sampling.HasField("max_output_tokens"):
            body["limit"] = request.sampling.max_output_tokens
        for field, _ in request.sampling.ListFields():
            if field.name != "max_output_tokens":
                wishes.unmet(f"sampling.{field.name}", "Acorn cannot be told how to sample")
        for name in ("tools", "tool_choice", "reasoning", "output", "prompt_cache", "end_user_id"):
            if getattr(request, name) != getattr(v1.ChatRequest(), name):
                wishes.unmet(name, "Acorn has no such thing")
        if request.routing.service_tier:
            wishes.unmet("routing.service_tier", "Acorn has no service tiers")
        options = request.provider_options_json.get(target.provider, "")
        return HttpCall("/talk", dump(body, options, ("model", "stream", "turns")), warnings=wishes.warnings())

    def decode(self, body: bytes, target: Target) -> v1.ChatResponse:
        """A whole answer."""
        answer = load_object(body)
        if "problem" in answer:
            raise _error(200, answer, target)
        try:
            return v1.ChatResponse(
                message=v1.Message(role=v1.ROLE_ASSISTANT, parts=[v1.Part(text=_text(answer["says"]))]),
                **_end(answer, target),
            )
        except _MALFORMED as problem:
            raise ProtocolError("the provider's answer is not of the form it should have") from problem

    def decoder(self, target: Target) -> LineDecoder:
        """For one stream."""
        return LineDecoder(target)

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
        """What a status of 400 or more means. Never raises."""
        try:
            said = orjson.loads(body)
        except orjson.JSONDecodeError:
            said = None
        error = _error(status, said, target)
        if error.retryable:
            error.retry_after = retry_after(headers)
        return error


class LineDecoder:
    """Lines in, events out. The writer keeps the promises that the API makes of events."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._writer = PartWriter()
        self._started = False
        self._over = False

    def feed(self, frames: Sequence[bytes]) -> Batch:
        """The events of the lines that one read delivered."""
        try:
            for frame in frames:
                if not self._over:
                    self._line(load_object(frame))
        except _MALFORMED as problem:
            raise ProtocolError("a line of the provider is not of the form it should have") from problem
        return self._writer.take()

    def finish(self) -> Batch:
        """The end of the connection: an interruption, unless the line that says how it ended has come."""
        if not self._over:
            raise StreamInterrupted("the provider's stream ended before its answer did")
        return []

    def _line(self, line: dict[str, Any]) -> None:
        if "problem" in line:
            raise _error(200, line, self._target)
        if not self._started:
            self._started = True
            self._writer.started(line.get("model") or "")
            self._writer.open("text", v1.Part(text=""))
        if "more" in line:
            self._writer.append("text", "text", _text(line["more"]))
        if "ended" in line:
            self._over = True
            self._writer.completed(v1.ResponseCompleted(**_end(line, self._target)))


def _turns(request: v1.ChatRequest, wishes: Wishes, target: Target) -> list[dict[str, str]]:
    turns = []
    for index, message in enumerate(request.messages):
        texts = []
        for number, part in enumerate(message.parts):
            path = f"messages[{index}].parts[{number}]"
            match part.WhichOneof("kind"):
                case "text":
                    texts.append(part.text)
                case "refusal":
                    texts.append(part.refusal.text)
                case "reasoning" | "provider_part" if message.role == v1.ROLE_ASSISTANT:
                    wishes.unmet(path, "what another provider's model thought is left out", "REPLAY_STATE_DROPPED")
                case "tool_call" | "tool_result":
                    texts.append(_in_words(part))
                    wishes.unmet(path, "Acorn has no tools: it is told in words", "FOLDED")
                case kind:
                    why = f"{target}: Acorn takes text only, no {kind}"
                    raise UnsupportedParameter(why, violations=[Violation(path, why, "UNSUPPORTED_CONTENT")])
            if part.HasField("cache_breakpoint"):
                wishes.unmet(f"{path}.cache_breakpoint", "Acorn has no cache")
        if message.name:
            wishes.unmet(f"messages[{index}].name", "Acorn has no names of participants")
        turns.append({"by": _ROLES.get(message.role, "user"), "says": "".join(texts)})
    return turns


def _in_words(part: v1.Part) -> str:
    if part.HasField("tool_call"):
        return f"[{part.tool_call.name}({part.tool_call.arguments_json})]"
    result = "".join(inner.text for inner in part.tool_result.parts)
    return f"[{part.tool_result.name}: {result}]"


def _end(answer: Mapping[str, Any], target: Target) -> dict[str, Any]:
    """How it ended, as fields that `ChatResponse` and `ResponseCompleted` share."""
    ended = _text(answer["ended"])
    counts = answer.get("counts")
    usage = None
    if counts:
        heard, said = counts["heard"], counts["said"]
        usage = v1.Usage(
            source=v1.Usage.SOURCE_PROVIDER, input_tokens=heard, output_tokens=said, total_tokens=heard + said
        )
    return {
        "finish_reason": _FINISH.get(ended, v1.FINISH_REASON_UNSPECIFIED),
        "native_finish_reason": ended,
        "usage": usage,
        "route": v1.RouteInfo(model=_text(answer.get("model") or target.model)),
    }


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a text is wanted, not {type(value).__name__}")
    return value


def _error(status: int, said: Any, target: Target) -> GatewayError:
    kind = words = ""
    match said:
        case {"problem": {"kind": str(kind), "words": str(words)}}:
            pass
    usual = InvalidRequest if 400 <= status < 500 else Unavailable
    found = _BY_KIND.get(kind) or _BY_STATUS.get(status, usual)
    return found(
        f"{target.provider} did not answer",
        provider_error=v1.ProviderError(
            provider=target.provider,
            model=target.model,
            http_status=status,
            code=provider_text(kind)[:128],
            message=provider_text(words),
        ),
    )
