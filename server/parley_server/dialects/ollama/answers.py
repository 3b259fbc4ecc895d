"""What lines and whole answers of `/api/chat` have in common."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from parley import v1
from parley_server.core.errors import ProtocolError
from parley_server.core.target import Target

MALFORMED = (AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError)
"""What reading JSON of another shape than expected raises."""

_FINISH = {"stop": v1.FINISH_REASON_STOP, "length": v1.FINISH_REASON_LENGTH}
_LONG_NUMBER = re.compile(rb"\d{19}")
_NO_ID_CHARACTER = re.compile(r"[^0-9A-Za-z]+")


def load(text: bytes) -> dict[str, Any]:
    """A line or a body. Integers beyond 64 bits, which orjson would round, go the slow way. Raises ProtocolError."""
    try:
        value = json.loads(text) if len(text) > 18 and _LONG_NUMBER.search(text) else orjson.loads(text)
    except (ValueError, RecursionError):
        raise ProtocolError("the provider's answer is not JSON") from None
    if not isinstance(value, dict):
        raise ProtocolError("the provider's answer is not a JSON object")
    return value


def tool_call(call: dict[str, Any], number: int, created_at: str) -> v1.Part:
    """The tool call that is the `number`th of its answer: the provider's index is 0 for all, in some versions."""
    function = call["function"]
    made_up = f"call_{_NO_ID_CHARACTER.sub('', created_at)[:24]}_{number}"
    name = function["name"]
    if not name:
        raise ProtocolError("the provider called a tool without naming it")
    arguments = function.get("arguments")
    text = arguments if isinstance(arguments, str) else _text(arguments or {})
    return v1.Part(tool_call=v1.ToolCall(id=call.get("id") or made_up, name=name, arguments_json=text))


def _text(arguments: Any) -> str:
    try:
        return orjson.dumps(arguments).decode()
    except TypeError:  # an integer beyond 64 bits
        return json.dumps(arguments, ensure_ascii=False, separators=(",", ":"))


def reasoning_state(target: Target) -> v1.ReplayState:
    """Says whose thoughts these are, so that they are not sent to another; there is nothing opaque in them."""
    return v1.ReplayState(provider=target.provider, model=target.model)


def finish_reason(done_reason: str, *, called: bool) -> v1.FinishReason.ValueType:
    """There is no reason of its own for tool calls: they end with "stop"."""
    if called and done_reason in ("stop", ""):
        return v1.FINISH_REASON_TOOL_CALL
    return _FINISH.get(done_reason, v1.FINISH_REASON_UNSPECIFIED)


def usage(line: dict[str, Any]) -> v1.Usage | None:
    """The counts; None if there are none. That of the prompt is absent where the prompt came from the cache."""
    read, written = line.get("prompt_eval_count"), line.get("eval_count")
    if read is None and written is None:
        return None
    total = None if read is None or written is None else read + written
    return v1.Usage(source=v1.Usage.SOURCE_PROVIDER, input_tokens=read, output_tokens=written, total_tokens=total)


def logprobs(entries: Sequence[dict[str, Any]] | None) -> Iterator[v1.TokenLogprob]:
    """The log probabilities of tokens."""
    for entry in entries or ():
        yield v1.TokenLogprob(
            token=entry["token"],
            logprob=entry["logprob"],
            token_bytes=_odd_bytes(entry.get("bytes")),
            top_logprobs=logprobs(entry.get("top_logprobs")),
        )


def _odd_bytes(values: Sequence[int] | None) -> bytes:
    """The bytes of a token, if they are not valid UTF-8 on their own; nothing otherwise."""
    data = bytes(values or ())
    try:
        data.decode()
    except UnicodeDecodeError:
        return data
    return b""
