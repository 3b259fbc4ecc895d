"""What a mock model answers to a chat request: plain data in, plain data out, no wire yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson

from parley_server.transports.mock import tokens
from parley_server.transports.mock.instance import Impossible, instance
from parley_server.transports.mock.models import MockModel, MockToolCall, Saying
from parley_server.transports.mock.refusals import Refused

_FILLER = "0123456789abcde "
_FILLER_PIECE = 4096
_PICTURE_TOKENS = 100  # also of a sound or a file


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call as OpenAI sends it: the arguments are JSON text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Repeat:
    """A text too long to be kept: `pieces` over and over, up to `size` ASCII characters; None: for ever."""

    pieces: tuple[str, ...]
    size: int | None


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts; reasoning is part of the output, cached tokens are part of the prompt."""

    prompt: int
    cached: int
    output: int
    reasoning: int


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. `text` is None where there are only calls or a refusal, or where `repeat` takes its place."""

    text: str | None
    reasoning: str
    refusal: str | None
    calls: tuple[Call, ...]
    repeat: Repeat | None
    finish_reason: str
    usage: Usage


def answer(request: Mapping[str, Any], model: MockModel, seed: str) -> Answer:
    """What `model` answers to a checked chat request; `seed` makes the IDs. Raises Refused for bad schemas."""
    messages: Sequence[Mapping[str, Any]] = request["messages"]
    asked = max((i for i, message in enumerate(messages) if message["role"] == "user"), default=-1)
    user_text = text_of(messages[asked]) if asked >= 0 else ""
    results = [text_of(message) for message in messages[asked + 1 :] if message["role"] == "tool"]
    saying = model.saying(user_text)

    calls: tuple[Call, ...] = ()
    text: str | None = None
    if saying.refusal is None:
        if not results:
            calls = _calls(request, saying, seed)
        text = saying.text_with_calls if calls else _text(request, saying, user_text, results)

    reasoning = "" if request.get("reasoning_effort") == "none" else saying.reasoning
    repeat = None if text is None else _repeat(text, model)
    cut = False
    if repeat is not None:
        text = None
    else:
        reasoning, text, cut = _within_limits(request, reasoning, text)

    finish_reason = "length" if cut else "tool_calls" if calls and not _is_named(request.get("tool_choice")) else "stop"
    prompt = sum(map(_prompt_tokens, messages))
    return Answer(
        text=text,
        reasoning=reasoning,
        refusal=saying.refusal,
        calls=calls,
        repeat=repeat,
        finish_reason=saying.finish_reason or finish_reason,
        usage=Usage(
            prompt=prompt,
            cached=min(prompt, model.cached_tokens),
            output=_output_tokens(reasoning, text or saying.refusal or "", calls, repeat),
            reasoning=tokens.count(reasoning),
        ),
    )


def text_of(message: Mapping[str, Any]) -> str:
    """All text of a message; its parts follow each other without a gap."""
    match message.get("content"):
        case str(text):
            return text
        case [*parts]:
            return "".join(part["text"] for part in parts if part.get("type") == "text")
        case _:
            return ""


def _text(request: Mapping[str, Any], saying: Saying, user_text: str, results: Sequence[str]) -> str:
    if results and saying.reply_to_results is not None:
        return saying.reply_to_results.replace("{results}", "\n".join(results))
    if not results and saying.reply is not None:
        return saying.reply
    said = "\n".join(results) if results else user_text
    match request.get("response_format"):
        case {"type": "json_schema", "json_schema": {"schema": schema}}:
            return _json(_instance(schema, "response_format"))
        case {"type": "json_object" | "json_schema"}:
            return _json({"answer": said})
        case _:
            return said


def _calls(request: Mapping[str, Any], saying: Saying, seed: str) -> tuple[Call, ...]:
    """The calls that the model wants and the request allows, or one that the request demands."""
    offered: dict[str, Any] = {
        tool["function"]["name"]: tool["function"].get("parameters")
        for tool in request.get("tools") or ()
        if tool.get("type") == "function"
    }
    allowed, demanded = _choice(request.get("tool_choice"), list(offered))
    wanted: Iterable[MockToolCall] = (c for c in saying.tool_calls if c.name in allowed or saying.call == "always")
    made = list(wanted) or [MockToolCall(name=name) for name in allowed[:1] if demanded]
    if request.get("parallel_tool_calls") is False:
        del made[1:]
    return tuple(
        Call(f"call_{seed[:16]}{i}", call.name, _arguments(call, offered.get(call.name))) for i, call in enumerate(made)
    )


def _choice(choice: Any, offered: list[str]) -> tuple[list[str], bool]:
    """The tools that may be called, and whether one must be."""
    match choice:
        case "none":
            return [], False
        case "required":
            return offered, True
        case {"type": "function", "function": {"name": name}}:
            return [name], True
        case {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}:
            names = [tool["function"]["name"] for tool in tools]
            return [name for name in offered if name in names], mode == "required"
        case _:
            return offered, False


def _is_named(choice: Any) -> bool:
    """OpenAI says `stop`, not `tool_calls`, after a call that was demanded by name."""
    return isinstance(choice, dict) and choice.get("type") == "function"


def _arguments(call: MockToolCall, parameters: Any) -> str:
    match call.arguments:
        case str(text):
            return text
        case None:
            return _json(_instance(parameters, "tools") if parameters else {})
        case arguments:
            return _json(arguments)


def _instance(schema: Any, param: str) -> Any:
    try:
        return instance(schema)
    except Impossible as error:
        raise Refused(f"Invalid schema for {param}: {error}", param=param, code="invalid_schema") from None


def _within_limits(request: Mapping[str, Any], reasoning: str, text: str | None) -> tuple[str, str | None, bool]:
    """Reasoning and text up to the first stop sequence and the token limit, and whether that limit cut something."""
    if text is not None:
        stop = request.get("stop") or ()
        ends = [text.find(s) for s in ([stop] if isinstance(stop, str) else stop)]
        text = text[: min((end for end in ends if end >= 0), default=len(text))]
    limit = request.get("max_completion_tokens") or request.get("max_tokens")
    if limit is None:
        return reasoning, text, False
    reasoning, limit, cut = _first_tokens(reasoning, limit)
    text, _, cut_too = _first_tokens(text or "", limit) if text is not None else (None, 0, False)
    return reasoning, text, cut or cut_too


def _first_tokens(text: str, limit: int) -> tuple[str, int, bool]:
    kept = list(islice(tokens.words(text), limit + 1))
    if len(kept) > limit:
        return "".join(kept[:limit]), 0, True
    return text, limit - len(kept), False


def _repeat(text: str, model: MockModel) -> Repeat | None:
    if model.size is not None:
        length = model.chunking if isinstance(model.chunking, int) else _FILLER_PIECE
        length = min(length, model.size)
        return Repeat(((_FILLER * (length // len(_FILLER) + 1))[:length],), model.size)
    if model.endless:
        if not text[-1:].isspace():  # so that the words stay apart
            text += " "
        return Repeat(tuple(tokens.pieces(text, model.chunking)), None)
    return None


def _prompt_tokens(message: Mapping[str, Any]) -> int:
    """The words of a message, its calls included, and a round number for each picture, sound or file."""
    content = message.get("content")
    others = sum(part.get("type") != "text" for part in content) if isinstance(content, list) else 0
    calls = (call.get("function", {}).get("arguments", "") for call in message.get("tool_calls") or ())
    return tokens.count(text_of(message)) + sum(map(tokens.count, calls)) + others * _PICTURE_TOKENS


def _output_tokens(reasoning: str, text: str, calls: Iterable[Call], repeat: Repeat | None) -> int:
    filler = 0 if repeat is None or repeat.size is None else -(-repeat.size // len(_FILLER))
    return tokens.count(reasoning) + tokens.count(text) + sum(tokens.count(call.arguments) for call in calls) + filler


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
