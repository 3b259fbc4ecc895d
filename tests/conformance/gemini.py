"""What recordings of the Gemini API say, read without the dialect: from the API's reference, in the simplest way.

Google Cloud serves Gemini in the same words, and Claude in those of the Messages API.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from parley import v1
from parley_server.core import errors
from parley_server.core.target import Target
from parley_server.dialects.base import ChatDialect, EmbedDialect
from parley_server.dialects.gemini import VERTEX, GeminiChat, GeminiEmbed, VertexEmbed
from parley_server.providers.vertex import CLAUDE
from tests.conformance.adapter import Answer, ToolUse
from tests.conformance.anthropic import AnthropicAdapter
from tests.conformance.importers.gemini import NO_SIGNATURES, Importer, camel, lowered
from tests.conformance.recording import Recording

_FINISH = {"STOP": "STOP", "MAX_TOKENS": "LENGTH", "MODEL_ARMOR": "CONTENT_FILTER", "SAFETY": "CONTENT_FILTER"}
_FAILURES: dict[str, type[errors.GatewayError]] = {
    "INVALID_ARGUMENT": errors.InvalidRequest,
    "NOT_FOUND": errors.ModelNotFound,
    "UNAUTHENTICATED": errors.CredentialsRejected,
    "PERMISSION_DENIED": errors.CredentialsRejected,
    "RESOURCE_EXHAUSTED": errors.RateLimited,
    "INTERNAL": errors.Unavailable,
    "UNAVAILABLE": errors.Overloaded,
}
_NO_ARGUMENTS: tuple[Any, ...] = ({}, {"type": "object"}, {"type": "object", "properties": {}})


class GeminiAdapter:
    """generateContent and its stream, as one of the two places serves them."""

    def __init__(self, provider: str, name: str) -> None:
        self._provider = provider
        self.name = name

    def covers(self, recording: Recording) -> bool:
        return recording.provider == self._provider and recording.api in ("generateContent", "streamGenerateContent")

    def out_of_scope(self, recording: Recording) -> str:
        if b'"finishReason": 1' in recording.body:
            return "the client asked for numbers instead of the names of enums, which the dialect never does"
        return ""

    def dialect(self, recording: Recording) -> ChatDialect:
        return GeminiChat(VERTEX) if self._provider == "vertex" else GeminiChat()

    def target(self, recording: Recording) -> Target:
        return Target(provider=recording.provider, model=recording.model)

    def read(self, recording: Recording) -> Answer:
        chunks = list(_chunks(recording))
        if any("blockReason" in chunk.get("promptFeedback", {}) and "candidates" not in chunk for chunk in chunks):
            return Answer(failure=errors.PromptBlocked)
        last: dict[str, Any] = {}
        for chunk in chunks:
            last |= chunk
        candidates = [chunk["candidates"][0] for chunk in chunks if chunk.get("candidates")]
        word = next(one["finishReason"] for one in reversed(candidates) if "finishReason" in one)
        counts = last.get("usageMetadata", {})
        answer = Answer(
            native_finish=word,
            finish=_FINISH[word],
            usage=_usage(counts),
            facts={
                "route.model": chunks[0].get("modelVersion", "").removeprefix("models/"),
                "route.provider_response_id": chunks[0].get("responseId", ""),
                "route.service_tier": counts.get("serviceTier", counts.get("trafficType", "")),
                "message.role": v1.ROLE_ASSISTANT,
            },
        )
        for part in _parts(candidates):
            match part:
                case {"text": text, "thought": True}:
                    answer.reasoning += text
                case {"text": text}:
                    answer.text += text
                case {"functionCall": call}:
                    answer.tool_calls.append(ToolUse(call.get("id", ""), call["name"], call.get("args", {})))
        if answer.tool_calls and word == "STOP":
            answer.finish = "TOOL_CALL"
        for one in candidates:
            answer.citations += _sources(one.get("groundingMetadata", {}))
            for chosen in one.get("logprobsResult", {}).get("chosenCandidates", ()):
                answer.logprobs.append((chosen["token"], chosen["logProbability"]))
        return answer

    def request(self, recording: Recording) -> v1.ChatRequest:
        return Importer(recording.request, self.target(recording)).request()

    def normal(self, body: Any) -> Any:
        said = camel(body)
        said["contents"] = _contents(said["contents"])
        if "systemInstruction" in said:  # has no role
            said["systemInstruction"] = _normal_parts(said["systemInstruction"].get("parts", []))
        said["tools"] = _tools(said.get("tools", ()))
        calling = said.get("toolConfig", {}).get("functionCallingConfig", {})
        if calling:
            calling["mode"] = calling["mode"].upper()
        if calling.get("mode") == "AUTO":  # the default
            del said["toolConfig"]["functionCallingConfig"]
        if "generationConfig" in said:
            _config(said["generationConfig"])
        return {name: value for name, value in said.items() if value not in ({}, [])}

    def turn(self, recording: Recording) -> Any:
        candidates = [chunk["candidates"][0] for chunk in _chunks(recording) if chunk.get("candidates")]
        said = _normal_parts(_joined(_parts(candidates)))
        if not said:
            return None  # nothing was said, so there is no turn to send back
        before = self.normal(recording.request).get("contents", []) if recording.request else []
        begun = before[-1]["parts"] if before and before[-1]["role"] == "model" else []
        return [*begun, *said]

    def turn_sent(self, body: Any) -> Any:
        return next(turn for turn in reversed(self.normal(body)["contents"]) if turn["role"] == "model")["parts"]

    def failure(self, recording: Recording) -> type[errors.GatewayError]:
        return _failure(recording)


def _failure(recording: Recording) -> type[errors.GatewayError]:
    said = json.loads(recording.body)
    return _FAILURES[(said[0] if isinstance(said, list) else said)["error"]["status"]]


def _chunks(recording: Recording) -> Iterator[dict[str, Any]]:
    """The whole answer, or its chunks: events, or a list where events were not asked for."""
    if recording.streamed:
        for line in recording.body.decode().splitlines():
            if line.startswith("data:"):
                yield json.loads(line[5:])
        return
    said = json.loads(recording.body)
    yield from said if isinstance(said, list) else [said]


def _parts(candidates: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for candidate in candidates:
        yield from candidate.get("content", {}).get("parts", ())


def _joined(parts: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """Parts with consecutive texts of one kind in one, unless either has a signature."""
    joined: list[dict[str, Any]] = []
    for part in parts:
        last = joined[-1] if joined else {}
        if part.keys() == last.keys() and part.keys() in ({"text"}, {"text", "thought"}):
            joined[-1] = {**last, "text": last["text"] + part["text"]}
        elif part.get("text") != "" or "thoughtSignature" in part:
            joined.append(part)
    return joined


def _usage(counts: Mapping[str, int]) -> dict[str, int]:
    """`totalTokenCount` is the sum of prompt, what tools fed in, candidates and thoughts; what is 0 is left out."""
    if not counts:
        return {}
    said = {
        "input_tokens": counts.get("promptTokenCount", 0) + counts.get("toolUsePromptTokenCount", 0),
        "output_tokens": counts.get("candidatesTokenCount", 0) + counts.get("thoughtsTokenCount", 0),
    }
    said["total_tokens"] = sum(said.values())
    for name, ours in (
        ("thoughtsTokenCount", "reasoning_output_tokens"),
        ("cachedContentTokenCount", "cache_read_input_tokens"),
    ):
        if name in counts:
            said[ours] = counts[name]
    return said


def _sources(grounding: Mapping[str, Any]) -> list[str]:
    """One source for each that a statement is based on."""
    chunks = [chunk["web"].get("uri") or chunk["web"]["title"] for chunk in grounding.get("groundingChunks", ())]
    if "groundingSupports" not in grounding:
        return chunks
    used = [support.get("groundingChunkIndices", ()) for support in grounding["groundingSupports"]]
    return [chunks[number] for numbers in used for number in numbers]


def _contents(contents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Turns of two roles in alternation, responses apart from all else, and in the order of the calls."""
    turns: list[dict[str, Any]] = []
    for content in contents:
        role = "model" if content.get("role") == "model" else "user"  # `function` was another name of the user's
        for part in _normal_parts(content.get("parts", [])):
            kind = "responses" if "functionResponse" in part else role
            if turns and turns[-1]["role"] == kind:
                turns[-1]["parts"].append(part)
            else:
                turns.append({"role": kind, "parts": [part]})
    for before, turn in pairwise(turns):
        if turn["role"] == "responses":  # without IDs names tell them apart, and only for like names their order
            calls = [_whose(part["functionCall"]) for part in before["parts"] if "functionCall" in part]
            turn["parts"].sort(key=lambda part, calls=calls: _place(_whose(part["functionResponse"]), calls))
    return turns


def _whose(block: Mapping[str, Any]) -> tuple[str, str]:
    return block.get("id", ""), "" if block.get("id") else block["name"]


def _place(whose: tuple[str, str], calls: list[tuple[str, str]]) -> int:
    return calls.index(whose) if whose in calls else len(calls)


def _normal_parts(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    normal = []
    for part in parts:
        said = dict(part)
        if said.get("thought") is False or ("text" not in said and "thought" in said):  # says nothing there
            del said["thought"]
        if said.get("thoughtSignature") in NO_SIGNATURES:
            del said["thoughtSignature"]
        for kind in ("inlineData", "functionCall", "functionResponse"):
            if kind in said:
                said[kind] = _normal_block(kind, said[kind])
        if said != {"text": ""}:
            normal.append(said)
    return normal


def _normal_block(kind: str, block: Mapping[str, Any]) -> dict[str, Any]:
    said = {name: value for name, value in block.items() if value not in ("", [])}
    match kind:
        case "functionCall":
            said.setdefault("args", {})
        case "functionResponse" if "parts" in said:
            said["parts"] = _normal_parts(said["parts"])
        case "inlineData":  # base64 of either alphabet
            said["data"] = said["data"].translate({ord("-"): "+", ord("_"): "/"}).rstrip("=")
    return said


def _tools(tools: Any) -> dict[str, Any]:
    """Functions in order, however they are grouped, and the API's own tools by name."""
    functions = []
    native = {}
    for tool in tools:
        for kind, value in tool.items():
            if kind != "functionDeclarations":
                native[kind] = value
                continue
            for declared in value:
                schema = lowered(declared.get("parametersJsonSchema") or declared.get("parameters") or {})
                said = {name: text for name, text in declared.items() if name in ("name", "description") and text}
                functions.append(said if schema in _NO_ARGUMENTS else {**said, "schema": schema})
    return {**native, **({"functions": functions} if functions else {})}


def _config(config: dict[str, Any]) -> None:
    if config.get("candidateCount") == 1:  # the default
        del config["candidateCount"]
    for name in ("responseSchema", "responseJsonSchema"):
        if name in config:
            config["schema"] = lowered(config.pop(name))
    if "thinkingLevel" in config.get("thinkingConfig", {}):
        config["thinkingConfig"]["thinkingLevel"] = config["thinkingConfig"]["thinkingLevel"].upper()


class GeminiEmbedAdapter:
    """Embeddings of the Gemini API, one or several."""

    name = "gemini-embed"

    def covers(self, recording: Recording) -> bool:
        return recording.provider == "gemini" and recording.api in ("embedContent", "batchEmbedContents")

    def out_of_scope(self, recording: Recording) -> str:
        if b"inline_data" in json.dumps(recording.request).encode():
            return "embeddings of pictures, which Embed does not have"
        return ""

    def dialect(self, recording: Recording) -> EmbedDialect:
        return GeminiEmbed()

    def target(self, recording: Recording) -> Target:
        return Target(provider="gemini", model=recording.path.rpartition("/")[2].partition(":")[0])

    def read(self, recording: Recording) -> tuple[list[list[float]], Mapping[str, int]]:
        said = json.loads(recording.body)
        count = said.get("usageMetadata", {}).get("promptTokenCount")
        usage = {} if count is None else {"input_tokens": count, "total_tokens": count}
        return [one["values"] for one in said.get("embeddings") or [said["embedding"]]], usage

    def request(self, recording: Recording) -> v1.EmbedRequest:
        request = v1.EmbedRequest(model=str(self.target(recording)))
        for one in camel(recording.request).get("requests", [camel(recording.request)]):
            request.inputs.add(text="".join(part["text"] for part in one["content"]["parts"]))
            if "outputDimensionality" in one:
                request.dimensions = one["outputDimensionality"]
        return request

    def normal(self, body: Any) -> Any:
        said = camel(body)
        requests = said.get("requests", [said])  # one input may go alone
        for one in requests:
            one.pop("model", None)  # is in the path
            one["content"].pop("role", None)
        return requests

    def failure(self, recording: Recording) -> type[errors.GatewayError]:
        return _failure(recording)


class VertexEmbedAdapter:
    """Embeddings of Google Cloud by `predict`."""

    name = "vertex-embed"

    def covers(self, recording: Recording) -> bool:
        return recording.provider == "vertex" and recording.api == "predict"

    def out_of_scope(self, recording: Recording) -> str:
        return ""

    def dialect(self, recording: Recording) -> EmbedDialect:
        return VertexEmbed()

    def target(self, recording: Recording) -> Target:
        return Target(provider="vertex", model=recording.path.rpartition("/")[2].partition(":")[0])

    def read(self, recording: Recording) -> tuple[list[list[float]], Mapping[str, int]]:
        rows = [row["embeddings"] for row in json.loads(recording.body)["predictions"]]
        count = sum(row["statistics"]["token_count"] for row in rows)
        return [row["values"] for row in rows], {"input_tokens": count, "total_tokens": count}

    def request(self, recording: Recording) -> v1.EmbedRequest:
        instances = recording.request["instances"]
        request = v1.EmbedRequest(model=str(self.target(recording)))
        request.inputs.extend(v1.EmbedInput(text=one["content"]) for one in instances)
        rest = {name: value for name, value in instances[0].items() if name != "content"}
        request.provider_options_json["vertex"] = json.dumps(rest)
        return request

    def normal(self, body: Any) -> Any:
        return body

    def failure(self, recording: Recording) -> type[errors.GatewayError]:
        return _failure(recording)


ADAPTERS = (
    GeminiAdapter("gemini", "gemini"),
    GeminiAdapter("vertex", "vertex"),
    GeminiEmbedAdapter(),
    VertexEmbedAdapter(),
    AnthropicAdapter("vertex", apis=("rawPredict", "streamRawPredict"), dialect=CLAUDE),
)
