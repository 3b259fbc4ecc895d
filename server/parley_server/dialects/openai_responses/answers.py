"""What the pieces of an answer mean: the same in a whole response as in the events of a stream."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from parley import v1
from parley_server.core.errors import GatewayError
from parley_server.core.target import Target
from parley_server.dialects.openai_chat.errors import said_inside

Item = Mapping[str, Any]

JOINT = "\n\n"
"""Between the texts of one reasoning item, of which there may be several."""

_OURS = "responses"
_MINTED = b'{"responses":'
_SPOKEN = frozenset({"type", "id", "item_id", "output_index", "call_id", "name", "arguments", "status"})
"""Fields of a function call that a tool call has words for, or that say nothing once the call is complete."""
_FOR_CLIENT = frozenset({"custom_tool_call", "computer_call", "local_shell_call", "shell_call", "apply_patch_call"})
"""Calls that the client executes, and answers with an item of the same API."""
_COUNTED = re.compile(r"(web_search|x_search|file_search|code_interpreter|image_generation|mcp)_call")
_INCOMPLETE = {
    "max_output_tokens": v1.FINISH_REASON_LENGTH,
    "max_tokens": v1.FINISH_REASON_LENGTH,
    "content_filter": v1.FINISH_REASON_CONTENT_FILTER,
}
_NUMBER = (int, float)


# --------------------------------------------------------------------------------------------------------------- parts


def is_content(kind: str) -> bool:
    """Whether a type is that of a piece of a message; all others are items of their own."""
    return kind.startswith(("input_", "output_")) or kind == "refusal"


def parts(item: Item, response_id: str, target: Target, *, ids_repeat: bool) -> Iterator[v1.Part]:
    """The parts of a complete output item, without log probabilities."""
    match item["type"]:
        case "message":
            for content in item.get("content") or ():
                yield content_part(content, item, target)
        case "reasoning":
            yield reasoning_part(item, target)
        case "function_call":
            part = call_part(item, response_id, ids_repeat=ids_repeat)
            part.tool_call.arguments_json = item.get("arguments") or "{}"
            if (state := call_state(item, target)) is not None:
                part.replay_state.CopyFrom(state)
            yield part
        case str():
            yield opaque(item, target)


def content_part(content: Item, message: Item, target: Target) -> v1.Part:
    """One piece of a message as a part."""
    match content["type"]:
        case "output_text" | "text":
            part = v1.Part(citations=citations(content.get("annotations")))
            part.text = content.get("text") or ""
            if (state := message_state(message, target)) is not None:
                part.replay_state.CopyFrom(state)
            return part
        case "refusal":
            return v1.Part(refusal=v1.RefusalPart(text=content.get("refusal") or ""))
        case _:
            return opaque(content, target)


def reasoning_part(item: Item, target: Target) -> v1.Part:
    """Reasoning: its summary, or its text where the server gives it, or neither."""
    text = JOINT.join(_texts(item))
    return v1.Part(reasoning=v1.ReasoningPart(text=text, redacted=not text), replay_state=reasoning_state(item, target))


def call_part(item: Item, response_id: str, *, ids_repeat: bool) -> v1.Part:
    """A function call without its arguments."""
    id = item.get("call_id") or item["id"]
    return v1.Part(tool_call=v1.ToolCall(id=f"{response_id}:{id}" if ids_repeat else id, name=item["name"]))


def opaque(block: Item, target: Target) -> v1.Part:
    """An item, or a piece of a message, as the provider wrote it."""
    json = orjson.dumps(block).decode()
    return v1.Part(provider_part=v1.ProviderPart(provider=target.provider, type=block["type"], json=json))


def _texts(item: Item) -> list[str]:
    pieces = (*(item.get("summary") or ()), *(item.get("content") or ()))
    return [text for piece in pieces if (text := piece.get("text"))]


# --------------------------------------------------------------------------------------------------------- replay state
#
# IDs of messages and function calls are not kept. Answers are not stored, so nothing could be looked up by them, and a
# state on every part would have to be dropped, with a warning, on the way to any other provider.


def message_state(item: Item, target: Target) -> v1.ReplayState | None:
    """Whether a message was a comment on the way or the final answer: later models want to be told again."""
    return _state({"phase": item["phase"]}, target) if item.get("phase") else None


def call_state(item: Item, target: Target) -> v1.ReplayState | None:
    """What of a function call a tool call has no words for, such as the namespace of its tool."""
    further = {name: value for name, value in item.items() if name not in _SPOKEN and value is not None}
    return _state(further, target) if further else None


def reasoning_state(item: Item, target: Target) -> v1.ReplayState:
    """A whole reasoning item. The text is left out where it is one, since the part has it."""
    kept = {name: value for name, value in item.items() if name != "status" and value is not None}
    holders = [name for name in ("summary", "content") if kept.get(name)]
    if len(holders) == 1 and len(kept[holders[0]]) == 1 and kept[holders[0]][0].get("text"):
        kept[holders[0]] = [kept[holders[0]][0] | {"text": ""}]
    return _state(kept, target)


def _state(kept: Mapping[str, Any], target: Target) -> v1.ReplayState:
    return v1.ReplayState(provider=target.provider, model=target.model, data=orjson.dumps({_OURS: kept}))


def minted(state: v1.ReplayState) -> bool:
    """Whether a state is of this dialect."""
    return state.data.startswith(_MINTED)


def kept(state: v1.ReplayState) -> dict[str, Any]:
    """What this dialect put into `state`; empty if it is not of this dialect."""
    if not minted(state):
        return {}
    try:
        inside = orjson.loads(state.data)[_OURS]
    except orjson.JSONDecodeError:
        return {}
    return inside if isinstance(inside, dict) else {}


# ------------------------------------------------------------------------------------------------------ beside the text


def citations(annotations: Any) -> Iterator[v1.Citation]:
    """Citations of `annotations`; offsets are code points on both sides. A file is cited by its name."""
    for annotation in annotations if isinstance(annotations, list) else ():
        match annotation:
            case {"type": "url_citation"}:
                cited = annotation.get("url_citation") or annotation
                yield v1.Citation(
                    uri=cited.get("url") or "",
                    title=cited.get("title") or "",
                    cited_text=cited.get("content") or "",
                    start_index=cited.get("start_index"),
                    end_index=cited.get("end_index"),
                )
            case {"type": "file_citation" | "container_file_citation" | "file_path"}:
                yield v1.Citation(
                    title=annotation.get("filename") or annotation.get("file_id") or "",
                    start_index=annotation.get("start_index"),
                    end_index=annotation.get("end_index"),
                )


@dataclass(slots=True)
class Seen:
    """What the finish reason and usage need to know of the items of an answer."""

    called: bool = False
    refused: bool = False
    last: str = ""
    server_calls: Counter[str] = field(default_factory=Counter)

    def item(self, item: Item) -> None:
        """One more complete item."""
        kind = self.last = item["type"]
        if kind == "function_call" or kind in _FOR_CLIENT or item.get("execution") == "client":
            self.called = True
        elif kind == "message":
            self.refused = self.refused or any(c.get("type") == "refusal" for c in item.get("content") or ())
        elif counted := _COUNTED.fullmatch(kind):
            self.server_calls[counted[1]] += 1


def end(response: Item, seen: Seen) -> tuple[v1.FinishReason.ValueType, str]:
    """How it ended, in our word and in the provider's."""
    status = response.get("status") or ""
    if status == "incomplete":
        details = response.get("incomplete_details")
        word = (details.get("reason") if isinstance(details, dict) else None) or status
        return _INCOMPLETE.get(word, v1.FINISH_REASON_UNSPECIFIED), word
    if status in ("failed", "cancelled"):
        return v1.FINISH_REASON_ERROR, status
    if status not in ("completed", ""):
        return v1.FINISH_REASON_UNSPECIFIED, status
    if seen.called:
        return v1.FINISH_REASON_TOOL_CALL, status
    if seen.refused:
        return v1.FINISH_REASON_REFUSAL, status
    if seen.last == "compaction":
        return v1.FINISH_REASON_COMPACTION, status
    return v1.FINISH_REASON_STOP, status


def failure(response: Item, target: Target) -> GatewayError:
    """What a response that failed says about it."""
    said = response.get("error") or {"code": "server_error", "message": "the response failed"}
    return said_inside({"error": said}, target)


def fill_route(route: v1.RouteInfo, response: Item, target: Target) -> None:
    """Who answered, as the response itself says."""
    route.model = response.get("model") or target.model
    route.provider_response_id = response.get("id") or ""
    route.service_tier = response.get("service_tier") or ""


def fill_usage(usage: v1.Usage, said: Item, server_calls: Mapping[str, int]) -> None:
    """Inclusive totals, as the API counts them."""
    usage.source = v1.Usage.SOURCE_PROVIDER
    of_input = said.get("input_tokens_details") or {}
    of_output = said.get("output_tokens_details") or {}
    for name, value in (
        ("input_tokens", said.get("input_tokens")),
        ("output_tokens", said.get("output_tokens")),
        ("total_tokens", said.get("total_tokens")),
        ("cache_read_input_tokens", of_input.get("cached_tokens")),
        ("cache_write_input_tokens", of_input.get("cache_write_tokens")),
        ("reasoning_output_tokens", of_output.get("reasoning_tokens")),
    ):
        if isinstance(value, _NUMBER) and 0 <= value < 2**31:
            setattr(usage, name, int(value))
    told = said.get("server_side_tool_usage_details")  # xAI
    if isinstance(told, dict):
        server_calls = {name.removesuffix("_calls"): n for name, n in told.items() if isinstance(n, int)}
    for name, count in server_calls.items():
        if count:
            usage.server_tool_calls[name] = count
