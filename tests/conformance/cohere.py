"""Cohere's API, version 2, read from the recorded JSON in the plainest way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from parley import v1
from parley_server.core.errors import GatewayError, InvalidRequest, ModelNotFound
from parley_server.core.target import Target
from parley_server.dialects.cohere import CohereChat, CohereEmbed, CohereRerank
from tests.conformance.adapter import Answer, AnyAdapter, ToolUse
from tests.conformance.importers.cohere import imported
from tests.conformance.recording import Recording

_VERSION_1 = "an endpoint of the API's version 1; the gateway speaks version 2"
_OTHER = {
    "chat-v1": _VERSION_1,
    "generate-v1": _VERSION_1,
    "embed-v1": _VERSION_1,
    "rerank-v1": _VERSION_1,
    "tokenize-v1": "token counting is no operation of the gateway",
    "models-v1": "one model's record; the gateway reads the listing",
}
_FINISH = {"COMPLETE": "STOP", "STOP_SEQUENCE": "STOP", "MAX_TOKENS": "LENGTH", "TOOL_CALL": "TOOL_CALL"}
_STATUS: dict[int, type[GatewayError]] = {400: InvalidRequest, 404: ModelNotFound}


class CohereChatAdapter:
    """`POST /v2/chat`; also answers for the endpoints that nobody speaks."""

    name = "cohere-chat"

    def covers(self, recording: Recording) -> bool:
        return recording.provider == "cohere" and recording.api not in ("embed-v2", "rerank-v2")

    def out_of_scope(self, recording: Recording) -> str:
        return _OTHER.get(recording.api, "")

    def dialect(self, recording: Recording) -> CohereChat:
        return CohereChat()

    def target(self, recording: Recording) -> Target:
        return Target("cohere", recording.model)

    def read(self, recording: Recording) -> Answer:
        said = _answer(recording)
        message = said["message"]
        answer = Answer(
            text=message.get("tool_plan") or "",
            finish=_FINISH.get(said["finish_reason"], "ERROR"),
            native_finish=said["finish_reason"],
            usage=_usage(said["usage"]),
            facts={"route.provider_response_id": said["id"]},
        )
        if said.get("error_type") == "INVALID_TOOL_GENERATION":
            answer.finish = "MALFORMED_OUTPUT"
        for block in message.get("content") or ():
            answer.text += block.get("text", "")
            answer.reasoning += block.get("thinking", "")
        for call in message.get("tool_calls") or ():
            function = call["function"]
            answer.tool_calls.append(ToolUse(call["id"], function["name"], json.loads(function["arguments"])))
        for citation in message.get("citations") or ():
            for source in citation["sources"]:
                fields = source.get("document") or source.get("tool_output")
                answer.citations.append(fields.get("url") or fields.get("title") or "")
        return answer

    def request(self, recording: Recording) -> v1.ChatRequest:
        return imported(recording.request, self.target(recording))

    def normal(self, body: Any) -> Any:
        said = {name: value for name, value in body.items() if value not in (None, [], {}, "")}
        said.setdefault("stream", False)
        said["messages"] = [_normal_message(message) for message in body["messages"]]
        for tool in said.get("tools", ()):
            if not tool["function"].get("description"):  # an empty description describes nothing
                tool["function"].pop("description", None)
        if "documents" in said:  # their IDs are of the sender's choosing
            said["documents"] = [document["data"] for document in said["documents"]]
        return said

    def turn(self, recording: Recording) -> Any:
        answer = self.read(recording)
        calls = [{"id": call.id, "name": call.name, "arguments": call.arguments} for call in answer.tool_calls]
        return {"words": answer.text, "thinking": answer.reasoning, "calls": calls}

    def turn_sent(self, body: Any) -> Any:
        message = next(message for message in reversed(body["messages"]) if message["role"] == "assistant")
        content = _blocks(message.get("content"))
        plan = message.get("tool_plan") or ""
        calls = [
            {
                "id": call["id"],
                "name": call["function"]["name"],
                "arguments": json.loads(call["function"]["arguments"]),
            }
            for call in message.get("tool_calls") or ()
        ]
        return {
            "words": plan + "".join(block.get("text", "") for block in content),
            "thinking": "".join(block.get("thinking", "") for block in content),
            "calls": calls,
        }

    def failure(self, recording: Recording) -> type[GatewayError]:
        return _STATUS[recording.status]


class CohereEmbedAdapter:
    """`POST /v2/embed`."""

    name = "cohere-embed"

    def covers(self, recording: Recording) -> bool:
        return recording.provider == "cohere" and recording.api == "embed-v2"

    def out_of_scope(self, recording: Recording) -> str:
        return ""

    def dialect(self, recording: Recording) -> CohereEmbed:
        return CohereEmbed()

    def target(self, recording: Recording) -> Target:
        return Target("cohere", recording.model)

    def read(self, recording: Recording) -> tuple[list[list[float]], Mapping[str, int]]:
        answer = json.loads(recording.body)
        count = int(answer["meta"]["billed_units"]["input_tokens"])
        return answer["embeddings"]["float"], {"input_tokens": count, "total_tokens": count}

    def request(self, recording: Recording) -> v1.EmbedRequest:
        left = {name: value for name, value in recording.request.items() if value is not None}
        request = v1.EmbedRequest(model=f"cohere/{left.pop('model')}")
        request.inputs.extend(v1.EmbedInput(text=text) for text in left.pop("texts"))
        if "output_dimension" in left:
            request.dimensions = left.pop("output_dimension")
        del left["embedding_types"]
        request.provider_options_json["cohere"] = json.dumps(left)
        return request

    def normal(self, body: Any) -> Any:
        return {name: value for name, value in body.items() if value is not None}

    def failure(self, recording: Recording) -> type[GatewayError]:
        return _STATUS[recording.status]


class CohereRerankAdapter:
    """`POST /v2/rerank`."""

    name = "cohere-rerank"
    operation: Literal["rerank"] = "rerank"

    def covers(self, recording: Recording) -> bool:
        return recording.provider == "cohere" and recording.api == "rerank-v2"

    def out_of_scope(self, recording: Recording) -> str:
        return ""

    def dialect(self, recording: Recording) -> CohereRerank:
        return CohereRerank()

    def target(self, recording: Recording) -> Target:
        return Target("cohere", recording.model)

    def read(self, recording: Recording) -> tuple[list[tuple[int, float]], Mapping[str, int]]:
        rows = json.loads(recording.body)["results"]
        return [(row["index"], row["relevance_score"]) for row in rows], {}

    def request(self, recording: Recording) -> v1.RerankRequest:
        body = recording.request
        request = v1.RerankRequest(model=f"cohere/{body['model']}", query=body["query"], documents=body["documents"])
        if body.get("top_n") is not None:
            request.top_n = body["top_n"]
        if body.get("max_tokens_per_doc") is not None:
            request.max_tokens_per_document = body["max_tokens_per_doc"]
        return request

    def normal(self, body: Any) -> Any:
        return {name: value for name, value in body.items() if value is not None}

    def failure(self, recording: Recording) -> type[GatewayError]:
        return _STATUS[recording.status]


def _answer(recording: Recording) -> dict[str, Any]:
    """The recorded answer; that of a stream put together."""
    if not recording.streamed:
        whole: dict[str, Any] = json.loads(recording.body)
        return whole
    message: dict[str, Any] = {"content": [], "tool_calls": [], "citations": [], "tool_plan": ""}
    answer: dict[str, Any] = {"message": message}
    for line in recording.body.decode().splitlines():
        if not line.startswith("data:") or line == "data: [DONE]":
            continue
        event = json.loads(line[5:])
        delta = event.get("delta", {})
        match event["type"]:
            case "message-start":
                answer["id"] = event["id"]
            case "message-end":
                answer |= delta
            case "tool-plan-delta":
                message["tool_plan"] += delta["message"]["tool_plan"]
            case "content-start":
                message["content"].append(delta["message"]["content"])
            case "content-delta":
                for name, fragment in delta["message"]["content"].items():
                    message["content"][event["index"]][name] += fragment
            case "tool-call-start":
                message["tool_calls"].append(delta["message"]["tool_calls"])
            case "tool-call-delta":
                fragment = delta["message"]["tool_calls"]["function"]["arguments"]
                message["tool_calls"][event["index"]]["function"]["arguments"] += fragment
            case "citation-start":
                message["citations"].append(delta["message"]["citations"])
    return answer


def _usage(said: Mapping[str, Any]) -> dict[str, int]:
    tokens = said.get("tokens")
    if not tokens:
        return {}
    counts = {"input_tokens": int(tokens["input_tokens"]), "output_tokens": int(tokens["output_tokens"])}
    counts["total_tokens"] = sum(counts.values())
    if "cached_tokens" in said:
        counts["cache_read_input_tokens"] = int(said["cached_tokens"])
    if "reasoning_tokens" in tokens:
        counts["reasoning_output_tokens"] = int(tokens["reasoning_tokens"])
    return counts


def _blocks(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content or ())


def _normal_message(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message without what says nothing: empty fields and texts, and IDs of documents."""
    said = {name: value for name, value in message.items() if value not in (None, "", [])}
    content = [block for block in _blocks(message.get("content")) if block.get("text") != ""]
    said["content"] = [
        {"type": "document", "data": block["document"]["data"]} if block["type"] == "document" else block
        for block in content
    ]
    return said


ADAPTERS: tuple[AnyAdapter, ...] = (CohereChatAdapter(), CohereEmbedAdapter(), CohereRerankAdapter())
