"""Check arguments as OpenAI does, as far as an encoder could get them wrong.

What passes has the shape that the other files rely on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from parley_server.transports.mock.refusals import Refused

_ROLES = {"developer", "system", "user", "assistant", "tool"}
_RANGES = (  # name, type, least, most
    ("temperature", int | float, 0, 2),
    ("top_p", int | float, 0, 1),
    ("frequency_penalty", int | float, -2, 2),
    ("presence_penalty", int | float, -2, 2),
    ("top_logprobs", int, 0, 20),
    ("max_tokens", int, 1, 2**31),
    ("max_completion_tokens", int, 1, 2**31),
)
_STOPS = 16  # OpenAI takes 4; many servers that speak like it take more
_INPUTS = 2048
_DOCUMENTS = 2048
_INPUT_TOKENS = 8192
_CHARACTERS_PER_TOKEN = 8  # at least one token for so many: a bound for texts without white space


def check_chat(request: Mapping[str, Any]) -> None:
    """Raise Refused for a chat request that OpenAI would not take."""
    match request.get("messages"):
        case [_, *_] as messages:
            _check_messages(messages)
        case []:
            raise Refused("Invalid 'messages': empty array.", param="messages", code="empty_array")
        case None:
            _missing("messages")
        case _:
            _invalid("messages", "expected an array")
    for name, kind, least, most in _RANGES:
        value = request.get(name)
        if value is not None and not (isinstance(value, kind) and least <= value <= most):
            _invalid(name, f"expected {least} to {most}")
    _check_tools(request)
    match request.get("stop"):
        case None | str():
            pass
        case [*stops] if len(stops) <= _STOPS and all(isinstance(stop, str) for stop in stops):
            pass
        case _:
            _invalid("stop", f"expected up to {_STOPS} texts")
    match request.get("stream_options"):
        case None:
            pass
        case dict() if request.get("stream"):
            pass
        case _:
            raise Refused("'stream_options' is only allowed when 'stream' is enabled.", param="stream_options")
    match request.get("response_format"):
        case None | {"type": "text" | "json_object"} | {"type": "json_schema", "json_schema": {"name": str()}}:
            pass
        case _:
            _invalid("response_format", "unknown type, or a schema without a name")


def _check_messages(messages: list[Any]) -> None:
    unanswered: set[str] = set()
    for i, message in enumerate(messages):
        where = f"messages[{i}]"
        match message:
            case {"role": "tool", "tool_call_id": str(call)} if call in unanswered:
                unanswered.remove(call)
            case {"role": "tool"}:
                text = "messages with role 'tool' must be a response to a preceding message with 'tool_calls'."
                raise Refused(f"Invalid parameter: {text}", param=f"{where}.role")
            case {"role": str(role)} if role in _ROLES:
                _check_answered(unanswered, where)
                unanswered = _calls(message.get("tool_calls") or [], where)
            case _:
                _invalid(f"{where}.role", "unknown role")
        match message.get("content"):
            case str():
                pass
            case None if message["role"] == "assistant":
                pass
            case [*parts] if all(_is_part(part) for part in parts):
                pass
            case _:
                _invalid(f"{where}.content", "expected text or an array of parts")
    _check_answered(unanswered, "messages")


def _is_part(part: Any) -> bool:
    match part:
        case {"type": "text", "text": str()}:
            return True
        case {"type": str(kind)}:
            return kind != "text"
        case _:
            return False


def _calls(calls: Any, where: str) -> set[str]:
    """The IDs of an assistant's calls."""
    ids = set()
    if not isinstance(calls, list):
        _invalid(f"{where}.tool_calls", "expected an array")
    for call in calls:
        match call:
            case {"id": str(id), "function": {"name": str(), "arguments": str()}} | {"id": str(id), "custom": {}}:
                ids.add(id)
            case _:
                _invalid(f"{where}.tool_calls", "expected id, function.name and function.arguments as text")
    return ids


def _check_answered(unanswered: set[str], where: str) -> None:
    if unanswered:
        text = "'tool_calls' must be followed by tool messages responding to each 'tool_call_id'"
        raise Refused(f"An assistant message with {text}: {', '.join(sorted(unanswered))}", param=where)


def _check_tools(request: Mapping[str, Any]) -> None:
    tools = request.get("tools") or []
    if not isinstance(tools, list):
        _invalid("tools", "expected an array")
    names = set()
    for tool in tools:
        match tool:
            case {"type": "function", "function": {"name": str(name), **rest}} if isinstance(
                rest.get("parameters") or {}, dict
            ):
                names.add(name)
            case {"type": str(kind)} if kind != "function":
                pass
            case _:
                _invalid("tools", "expected functions with a name, and parameters as an object")
    if request.get("parallel_tool_calls") is not None and not tools:
        raise Refused("'parallel_tool_calls' is only allowed when 'tools' are specified.", param="parallel_tool_calls")
    match request.get("tool_choice"):
        case None | "none" | "auto":
            return
        case _ if not tools:
            raise Refused("'tool_choice' is only allowed when 'tools' are specified.", param="tool_choice")
        case "required":
            return
        case {"type": "function", "function": {"name": str(name)}}:
            chosen = [name]
        case {"type": "allowed_tools", "allowed_tools": {"mode": "auto" | "required", "tools": [*listed]}}:
            chosen = [tool["function"]["name"] for tool in listed if _is_named(tool)]
        case _:
            _invalid("tool_choice", "unknown form")
    if unknown := set(chosen) - names:
        raise Refused(f"Tool choice {sorted(unknown)} not found in 'tools' parameter.", param="tool_choice")


def _is_named(tool: Any) -> bool:
    match tool:
        case {"type": "function", "function": {"name": str()}}:
            return True
        case _:
            _invalid("tool_choice", "expected functions by name")


def embed_inputs(request: Mapping[str, Any]) -> list[str | list[int]]:
    """The inputs of an embeddings request, one by one. Raises Refused."""
    inputs: list[str | list[int]]
    match request.get("input"):
        case str(text):
            inputs = [text]
        case [int(), *_] as ids:
            inputs = [ids]
        case [_, *_] as several if len(several) <= _INPUTS:
            inputs = several
        case [*several]:
            code = "array_above_max_length" if several else "empty_array"
            raise Refused(f"Invalid 'input': expected 1 to {_INPUTS} inputs.", param="input", code=code)
        case None:
            _missing("input")
        case _:
            _invalid("input", "expected text, token IDs, or an array of either")
    for i, value in enumerate(inputs):
        match value:
            case str() if value:
                length = max(len(value.split()), len(value) // _CHARACTERS_PER_TOKEN)
            case [int(), *_] if all(isinstance(token, int) for token in value):
                length = len(value)
            case _:
                _invalid(f"input[{i}]", "expected text or token IDs, not empty")
        if length > _INPUT_TOKENS:
            text = f"maximum context length is {_INPUT_TOKENS} tokens, however you requested {length} tokens"
            raise Refused(f"This model's {text}.", param="input", code="context_length_exceeded")
    if request.get("encoding_format") not in (None, "float", "base64"):
        _invalid("encoding_format", "expected 'float' or 'base64'")
    return inputs


def rerank_inputs(request: Mapping[str, Any]) -> tuple[str, list[str], int]:
    """Query, documents, and how many results are wanted. Raises Refused."""
    match request.get("query"):
        case str(query) if query:
            pass
        case None:
            _missing("query")
        case _:
            _invalid("query", "expected text, not empty")
    match request.get("documents"):
        case [_, *_] as given if len(given) <= _DOCUMENTS:
            documents = [_document(document, f"documents[{i}]") for i, document in enumerate(given)]
        case None:
            _missing("documents")
        case _:
            _invalid("documents", f"expected 1 to {_DOCUMENTS} documents")
    match request.get("top_n"):
        case None:
            return query, documents, len(documents)
        case int(most) if most >= 1:
            return query, documents, most
        case _:
            _invalid("top_n", "expected 1 or more")


def _document(document: Any, where: str) -> str:
    match document:
        case str(text) | {"text": str(text)} if text:
            return text
        case _:
            _invalid(where, "expected text, not empty")


def dimensions(request: Mapping[str, Any], default: int) -> int:
    """How many dimensions are asked for. Raises Refused."""
    match request.get("dimensions"):
        case None:
            return default
        case int(number) if 1 <= number <= 65_536:
            return number
        case _:
            _invalid("dimensions", "expected 1 to 65536")


def _missing(param: str) -> NoReturn:
    raise Refused(f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")


def _invalid(param: str, why: str) -> NoReturn:
    raise Refused(f"Invalid value for '{param}': {why}.", param=param, code="invalid_value")
