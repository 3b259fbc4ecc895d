"""Google's Gemini API."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from parley_server.core.errors import GatewayError, Overloaded
from parley_server.core.target import Target
from parley_server.dialects.gemini import VERTEX, GeminiChat
from tests.contract.case import Case, dump
from tests.contract.said import Call, Said, Turn, Used, canonical, pieces
from tests.upstream import Request

_HEAD = {"modelVersion": "gemini-3-pro", "responseId": "r-1"}
_SIGNATURE = "c2lnbmF0dXJl"
_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class Gemini(Case):
    """Chunks that are answers of their own; the body ends the stream. Thoughts are parts with a mark."""

    name = "gemini"
    dialect = GeminiChat()
    target = Target("gemini", "gemini-3-pro")
    lacks = frozenset({"refusal", "cache_write", "end_marker"})
    trailing = 4
    free_keys = frozenset({"args"})

    def body(self, said: Said) -> Any:
        parts = [*_thoughts([said.reasoning]), *_texts([said.text]), *_calls(said)]
        candidate = {"content": {"role": "model", "parts": parts}, **_end(said), "index": 0}
        return {"candidates": [candidate], **_usage(said.used), **_HEAD}

    def events(self, said: Said) -> list[Any]:
        parts = [*_thoughts(pieces(said.reasoning)), *_texts(pieces(said.text)), *_calls(said)]
        found = []
        for index, part in enumerate(parts):
            candidate = {"content": {"role": "model", "parts": [part]}, "index": 0}
            so_far = said.used and replace(said.used, output=said.used.output * index // len(parts), reasoning=0)
            found.append({"candidates": [candidate], **_usage(so_far), **_HEAD})
        last = {"content": {"role": "model", "parts": [{"text": ""}]}, **_end(said), "index": 0}
        return [*found, {"candidates": [last], **_usage(said.used), **_HEAD}]

    def frame(self, event: Any) -> bytes:
        return b"data: " + dump(event) + b"\r\n\r\n"

    def broken(self) -> tuple[Any, type[GatewayError]]:
        return {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}, Overloaded

    def strangers(self) -> list[Any]:
        return [b": comment\r\n\r\n", {**_HEAD, "modelStatus": {"modelStage": "STABLE"}}]

    def refusal(self, status: int, message: str) -> bytes:
        word = {"status": _STATUSES[status]} if status in _STATUSES else {}
        return dump({"error": {"code": status, "message": message, **word}})

    def provider(self, base_url: str) -> dict[str, Any]:
        return {"kind": "gemini", "base_url": f"{base_url}/v1beta", "api_key": "env:CASE_KEY"}

    def streams(self, request: Request) -> bool:
        return ":streamGenerateContent" in request.path

    def turn(self, body: Any) -> Turn:
        parts = [content for content in body["contents"] if content["role"] == "model"][-1]["parts"]
        calls = [part for part in parts if "functionCall" in part]
        assert [part.get("thoughtSignature") for part in calls[:1]] == [_SIGNATURE] * len(calls[:1])
        return Turn(
            text="".join(part["text"] for part in parts if "text" in part and not part.get("thought")),
            reasoning="".join(part["text"] for part in parts if "text" in part and part.get("thought")),
            calls=tuple(
                Call(call["id"], call["name"], canonical(call.get("args") or {}))
                for call in (part["functionCall"] for part in calls)
            ),
        )

    def results(self, body: Any) -> list[tuple[str, str]]:
        return [
            (part["functionResponse"]["id"], next(iter(part["functionResponse"]["response"].values())))
            for content in body["contents"]
            for part in content["parts"]
            if "functionResponse" in part
        ]


def _thoughts(texts: Any) -> list[dict[str, Any]]:
    return [{"text": text, "thought": True} for text in texts if text]


def _texts(texts: Any) -> list[dict[str, Any]]:
    return [{"text": text} for text in texts if text]


def _calls(said: Said) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    for call in said.calls:
        called: dict[str, Any] = {"id": call.id, "name": call.name}
        if call.arguments:
            called["args"] = json.loads(call.arguments)
        parts.append({"functionCall": called} if parts else {"functionCall": called, "thoughtSignature": _SIGNATURE})
    return parts


def _end(said: Said) -> dict[str, Any]:
    return {"finishReason": "MAX_TOKENS" if said.cut else "STOP"}


def _usage(used: Used | None) -> dict[str, Any]:
    if used is None:
        return {}
    counts = {
        "promptTokenCount": used.input,
        "cachedContentTokenCount": used.cache_read,
        "candidatesTokenCount": used.output - used.reasoning,
        "thoughtsTokenCount": used.reasoning,
        "totalTokenCount": used.input + used.output,
    }
    return {"usageMetadata": counts}


class Vertex(Gemini):
    """The same on Google Cloud."""

    name = "gemini, vertex"
    dialect = GeminiChat(VERTEX)
    target = Target("vertex", "gemini-3-pro")
    over_sockets = False  # tokens come from elsewhere


CASES = (Gemini(), Vertex())
