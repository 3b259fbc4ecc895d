"""OpenAI's Responses API."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from parley_server.core.errors import GatewayError, Overloaded
from parley_server.core.target import Target
from parley_server.dialects.openai_responses import OpenAIResponses
from tests.contract.case import Case, dump, named_sse
from tests.contract.said import Call, Said, Turn, Used, canonical, pieces, turn_of

_HEAD = {"id": "resp_1", "object": "response", "created_at": 1, "model": "gpt-5.1-2026-01-01", "error": None}
_SECRET = "gAAAAABpZw=="


class Responses(Case):
    """Typed events about items; the last event has the whole response once more."""

    name = "openai_responses"
    dialect = OpenAIResponses()
    target = Target("openai", "gpt-5.1")

    def body(self, said: Said) -> Any:
        return {**_HEAD, **_end(said), "output": _items(said)}

    def events(self, said: Said) -> list[Any]:
        begun = {**_HEAD, "status": "in_progress", "output": [], "usage": None}
        found: list[Any] = [
            {"type": "response.created", "response": begun},
            {"type": "response.in_progress", "response": begun},
        ]
        for index, item in enumerate(_items(said)):
            found += _of_item(item, {"item_id": item["id"], "output_index": index})
        kind = "response.incomplete" if said.cut else "response.completed"
        found.append({"type": kind, "response": self.body(said)})
        return [{**event, "sequence_number": number} for number, event in enumerate(found)]

    def frame(self, event: Any) -> bytes:
        return named_sse(event)

    def broken(self) -> tuple[Any, type[GatewayError]]:
        error = {"type": "error", "code": "server_is_overloaded", "message": "The engine is overloaded.", "param": None}
        return {**error, "sequence_number": 9}, Overloaded

    def strangers(self) -> list[Any]:
        return [
            {"type": "keepalive", "sequence_number": 3},
            {"type": "response.zz_new.delta", "output_index": 0, "delta": "?", "sequence_number": 4},
            b": comment\n\n",
        ]

    def refusal(self, status: int, message: str) -> bytes:
        return dump({"error": {"message": message, "type": "error", "param": None, "code": None}})

    def provider(self, base_url: str) -> dict[str, Any]:
        return {
            "kind": "openai",
            "base_url": f"{base_url}/v1",
            "api_key": "env:CASE_KEY",
            "api": "responses",
        }

    def returned(self, said: Said) -> Turn:
        turn = turn_of(said)
        alone = not (said.text or said.refusal or said.calls)
        return replace(turn, reasoning="") if alone else turn  # reasoning that nothing followed is refused

    def turn(self, body: Any) -> Turn:
        texts, reasoning, refusals, calls = "", "", "", []
        for item in body["input"]:
            match item:
                case {"type": "reasoning"}:
                    assert item["encrypted_content"] == _SECRET
                    reasoning += "".join(piece["text"] for piece in item["summary"])
                case {"type": "function_call"}:
                    calls.append(Call(item["call_id"], item["name"], canonical(item["arguments"])))
                case {"role": "assistant", "content": str(content)}:
                    texts += content
                case {"role": "assistant", "content": [*content]}:
                    texts += "".join(piece["text"] for piece in content if piece["type"] == "output_text")
                    refusals += "".join(piece["refusal"] for piece in content if piece["type"] == "refusal")
        return Turn(texts, reasoning, refusals, tuple(calls))

    def results(self, body: Any) -> list[tuple[str, str]]:
        found = []
        for item in body["input"]:
            if item.get("type") == "function_call_output":
                output = item["output"]
                text = output if isinstance(output, str) else "".join(piece["text"] for piece in output)
                found.append((item["call_id"], text))
        return found


def _items(said: Said) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if said.reasoning:
        summary = [{"type": "summary_text", "text": said.reasoning}]
        items.append({"id": "rs_1", "type": "reasoning", "summary": summary, "encrypted_content": _SECRET})
    content: list[dict[str, Any]] = []
    if said.text:
        content.append({"type": "output_text", "text": said.text, "annotations": [], "logprobs": []})
    if said.refusal:
        content.append({"type": "refusal", "refusal": said.refusal})
    if content:
        status = "incomplete" if said.cut else "completed"
        items.append({"id": "msg_1", "type": "message", "role": "assistant", "status": status, "content": content})
    for number, call in enumerate(said.calls):
        named = {"call_id": call.id, "name": call.name, "arguments": call.arguments, "status": "completed"}
        items.append({"id": f"fc_{number}", "type": "function_call", **named})
    return items


def _of_item(item: dict[str, Any], where: dict[str, Any]) -> list[dict[str, Any]]:
    """The events about one item."""
    index = where["output_index"]
    empty: dict[str, dict[str, Any]] = {
        "reasoning": {"summary": []},
        "message": {"content": []},
        "function_call": {"arguments": ""},
    }
    begun = {**item, **empty[item["type"]], "status": "in_progress"}
    begun.pop("encrypted_content", None)
    found = [{"type": "response.output_item.added", "output_index": index, "item": begun}]
    match item["type"]:
        case "reasoning":
            [piece] = item["summary"]
            place = {**where, "summary_index": 0}
            found += _piece("response.reasoning_summary", "part", piece, place, piece["text"], "_text", "text")
        case "message":
            for number, piece in enumerate(item["content"]):
                place = {**where, "content_index": number}
                if piece["type"] == "output_text":
                    found += _piece("response", "content_part", piece, place, piece["text"], ".output_text", "text")
                else:
                    found += _piece("response", "content_part", piece, place, piece["refusal"], ".refusal", "refusal")
        case "function_call":
            kind = "response.function_call_arguments"
            found += [{"type": f"{kind}.delta", **where, "delta": piece} for piece in pieces(item["arguments"])]
            found.append({"type": f"{kind}.done", **where, "arguments": item["arguments"]})
    return [*found, {"type": "response.output_item.done", "output_index": index, "item": item}]


def _piece(
    prefix: str, part: str, piece: dict[str, Any], place: dict[str, Any], text: str, kind: str, field: str
) -> list[dict[str, Any]]:
    """The events about one piece of an item: it begins, comes, and is there."""
    separator = "_" if part == "part" else "."
    empty = {**piece, field: ""}
    return [
        {"type": f"{prefix}{separator}{part}.added", **place, "part": empty},
        *({"type": f"{prefix}{kind}.delta", **place, "delta": fragment} for fragment in pieces(text)),
        {"type": f"{prefix}{kind}.done", **place, field: text},
        {"type": f"{prefix}{separator}{part}.done", **place, "part": piece},
    ]


def _end(said: Said) -> dict[str, Any]:
    details = {"reason": "max_output_tokens"} if said.cut else None
    usage = None if said.used is None else _usage(said.used)
    return {"status": "incomplete" if said.cut else "completed", "incomplete_details": details, "usage": usage}


def _usage(used: Used) -> dict[str, Any]:
    return {
        "input_tokens": used.input,
        "input_tokens_details": {"cached_tokens": used.cache_read, "cache_write_tokens": used.cache_write},
        "output_tokens": used.output,
        "output_tokens_details": {"reasoning_tokens": used.reasoning},
        "total_tokens": used.input + used.output,
    }


CASES = (Responses(),)
