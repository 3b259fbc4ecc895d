"""What recordings of Amazon Bedrock say, read without the dialect: from the API's reference, in the simplest way.

Event streams are taken apart by botocore.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

from botocore.eventstream import EventStreamBuffer

from parley import v1
from parley_server.core import errors
from parley_server.core.target import Target
from parley_server.dialects.base import ChatDialect, EmbedDialect, RerankDialect
from parley_server.dialects.bedrock import BedrockConverse, BedrockEmbed, BedrockRerank
from parley_server.providers.bedrock import CLAUDE
from tests.conformance.adapter import Answer, AnyAdapter, Inexpressible, ToolUse
from tests.conformance.anthropic import AnthropicAdapter
from tests.conformance.importers.anthropic import Importer as MessagesImporter
from tests.conformance.importers.bedrock import Importer
from tests.conformance.recording import Recording

_FINISH = {
    "end_turn": "STOP",
    "stop_sequence": "STOP",
    "max_tokens": "LENGTH",
    "tool_use": "TOOL_CALL",
    "guardrail_intervened": "CONTENT_FILTER",
    "content_filtered": "CONTENT_FILTER",
}
_FAILURES: dict[tuple[int, str], type[errors.GatewayError]] = {
    (403, "InvalidSignatureException"): errors.CredentialsRejected,
    (403, "UnrecognizedClientException"): errors.CredentialsRejected,
    (403, "ExpiredTokenException"): errors.CredentialsRejected,
    (503, "ServiceUnavailableException"): errors.Overloaded,
}
_VECTORS = ("titan-embed", "embed-v4", "multimodal-embeddings")


def failure(recording: Recording) -> type[errors.GatewayError]:
    """By exception, as the reference lists them; what is no model is said as an invalid request."""
    name = recording.headers.get("x-amzn-errortype", "").partition(":")[0]
    if json.loads(recording.body)["message"] == "The provided model identifier is invalid.":
        return errors.ModelNotFound
    return errors.InvalidRequest if recording.status == 400 else _FAILURES[recording.status, name]


class ConverseAdapter:
    """Converse and ConverseStream."""

    name = "bedrock-converse"

    def covers(self, recording: Recording) -> bool:
        return recording.provider == "bedrock" and recording.api in ("converse", "converse-stream")

    def out_of_scope(self, recording: Recording) -> str:
        return ""

    def dialect(self, recording: Recording) -> ChatDialect:
        return BedrockConverse()

    def target(self, recording: Recording) -> Target:
        return Target(provider="bedrock", model=recording.model)

    def read(self, recording: Recording) -> Answer:
        said = _answer(recording)
        answer = Answer(
            native_finish=said["stopReason"],
            finish=_FINISH[said["stopReason"]],
            usage=_usage(said["usage"]),
            facts={"message.role": v1.ROLE_ASSISTANT},
        )
        for block in said["content"]:
            match block:
                case {"text": text}:
                    answer.text += text
                case {"citationsContent": {"content": pieces, "citations": citations}}:
                    answer.text += "".join(piece["text"] for piece in pieces)
                    for citation in citations:
                        web = citation["location"].get("web", {}).get("url")
                        answer.citations.append(citation.get("source") or web or citation.get("title") or "")
                case {"reasoningContent": {"reasoningText": {"text": text}}}:
                    answer.reasoning += text
                case {"toolUse": {"toolUseId": id, "name": name, "input": input}} if not _is_servers(block):
                    answer.tool_calls.append(ToolUse(id, name, input))
        return answer

    def request(self, recording: Recording) -> v1.ChatRequest:
        return Importer(recording.request, self.target(recording)).request()

    def normal(self, body: Any) -> Any:
        said = {name: value for name, value in body.items() if value not in ([], {}, None)}
        if (said.get("inferenceConfig") or {}).get("stopSequences") == []:
            said["inferenceConfig"] = {n: v for n, v in said["inferenceConfig"].items() if n != "stopSequences"}
        config = said.get("toolConfig")
        if config and "auto" in config.get("toolChoice", {}):  # what no choice means
            said["toolConfig"] = {name: value for name, value in config.items() if name != "toolChoice"}
        turns: list[dict[str, Any]] = []
        for message in said["messages"]:
            content = [_normal_block(block) for block in message["content"] if not _is_blank(block)]
            if content == [{"text": "."}]:  # stands where the API wants a turn and there is nothing to say
                continue
            if turns and turns[-1]["role"] == message["role"]:  # Bedrock joins neighbouring turns of one role
                turns[-1]["content"] += content
            else:
                turns.append({"role": message["role"], "content": content})
        said["messages"] = turns
        return said

    def turn(self, recording: Recording) -> Any:
        if recording.request is None:
            return None
        turns = recording.request["messages"]
        begun = turns[-1]["content"] if turns[-1]["role"] == "assistant" else []  # the answer goes on with it
        return _turn([*begun, *_answer(recording)["content"]], recording.model)

    def turn_sent(self, body: Any) -> Any:
        sent = next(turn for turn in reversed(body["messages"]) if turn["role"] == "assistant")["content"]
        return _turn(sent, "")

    def failure(self, recording: Recording) -> type[errors.GatewayError]:
        return failure(recording)


class InvokeAdapter(AnthropicAdapter):
    """Claude by InvokeModel: the Messages API, its model in the path and its events in chunks."""

    name = "bedrock-messages"

    def __init__(self) -> None:
        super().__init__("bedrock")

    def covers(self, recording: Recording) -> bool:
        return recording.provider == "bedrock" and recording.api in ("invoke", "invoke-with-response-stream")

    def out_of_scope(self, recording: Recording) -> str:
        if recording.status >= 400:
            return ""
        if "anthropic." not in recording.model:
            return "the native body of another vendor's model: the gateway asks these by Converse"
        if "prompt" in recording.request or (not recording.streamed and b'"completion"' in recording.body):
            return "the text completions of old Claude models: the gateway asks these by Converse"
        return ""

    def dialect(self, recording: Recording) -> ChatDialect:
        return CLAUDE

    def read(self, recording: Recording) -> Answer:
        recording = _as_sent_by_anthropic(recording)
        if recording.streamed or "usage" in (message := json.loads(recording.body)):
            return super().read(recording)
        message["usage"] = {"input_tokens": 0, "output_tokens": 0}
        answer = super().read(replace(recording, body=json.dumps(message).encode()))
        answer.usage = {}
        return answer

    def turn(self, recording: Recording) -> Any:
        return super().turn(_as_sent_by_anthropic(recording))

    def request(self, recording: Recording) -> v1.ChatRequest:
        if "anthropic." not in recording.model or not isinstance(recording.request.get("messages"), list):
            raise Inexpressible("the native body of another vendor's model")
        body = {"model": recording.model, **recording.request}
        version = body.pop("anthropic_version", "bedrock-2023-05-31")
        if version != "bedrock-2023-05-31":
            body["anthropic_version"] = version
        return MessagesImporter(body, self.target(recording)).request()

    def failure(self, recording: Recording) -> type[errors.GatewayError]:
        return failure(recording)


class EmbedAdapter:
    """Embeddings by InvokeModel: Titan, Cohere and Nova."""

    name = "bedrock-embed"

    def covers(self, recording: Recording) -> bool:
        vectors = any(name in recording.model for name in _VECTORS)
        return recording.provider == "bedrock" and recording.api == "invoke" and vectors

    def out_of_scope(self, recording: Recording) -> str:
        return ""

    def dialect(self, recording: Recording) -> EmbedDialect:
        return BedrockEmbed()

    def target(self, recording: Recording) -> Target:
        return Target(provider="bedrock", model=recording.model)

    def read(self, recording: Recording) -> tuple[list[list[float]], Mapping[str, int]]:
        """Only Titan counts tokens in the body."""
        match json.loads(recording.body):
            case {"embedding": vector, "inputTextTokenCount": tokens}:
                return [vector], {"input_tokens": tokens, "total_tokens": tokens}
            case {"embeddings": {"float": vectors}}:
                return vectors, {}
            case {"embeddings": [*rows]}:
                return [row["embedding"] for row in rows], {}
        raise AssertionError("an answer of another kind")

    def request(self, recording: Recording) -> v1.EmbedRequest:
        request = v1.EmbedRequest(model=f"bedrock/{recording.model}")
        options: dict[str, Any] = {}
        match recording.request:
            case {"inputText": text}:
                request.inputs.add(text=text)
            case {"texts": texts, "input_type": kind, "output_dimension": dimensions}:
                request.inputs.extend(v1.EmbedInput(text=text) for text in texts)
                request.dimensions = dimensions
                options["input_type"] = kind
            case {"singleEmbeddingParams": {"text": {"value": text, "truncationMode": mode}}}:
                more = recording.request["singleEmbeddingParams"]
                request.inputs.add(text=text)
                request.dimensions = more["embeddingDimension"]
                options["singleEmbeddingParams"] = {
                    "embeddingPurpose": more["embeddingPurpose"],
                    "text": {"truncationMode": mode},
                }
        if options:
            request.provider_options_json["bedrock"] = json.dumps(options)
        return request

    def normal(self, body: Any) -> Any:
        """The version of Nova's schema is the only one there is."""
        return {name: value for name, value in body.items() if name != "schemaVersion"}

    def failure(self, recording: Recording) -> type[errors.GatewayError]:
        return failure(recording)


class RerankAdapter:
    """Ranking by InvokeModel: Cohere."""

    name = "bedrock-rerank"
    operation: Literal["rerank"] = "rerank"

    def covers(self, recording: Recording) -> bool:
        return recording.provider == "bedrock" and recording.api == "invoke" and "rerank" in recording.model

    def out_of_scope(self, recording: Recording) -> str:
        return ""

    def dialect(self, recording: Recording) -> RerankDialect:
        return BedrockRerank()

    def target(self, recording: Recording) -> Target:
        return Target(provider="bedrock", model=recording.model)

    def read(self, recording: Recording) -> tuple[list[tuple[int, float]], Mapping[str, int]]:
        rows = json.loads(recording.body)["results"]
        return [(row["index"], row["relevance_score"]) for row in rows], {}

    def request(self, recording: Recording) -> v1.RerankRequest:
        body = recording.request
        return v1.RerankRequest(
            model=f"bedrock/{recording.model}",
            query=body["query"],
            documents=body["documents"],
            top_n=body.get("top_n"),
        )

    def normal(self, body: Any) -> Any:
        return body

    def failure(self, recording: Recording) -> type[errors.GatewayError]:
        return failure(recording)


def _answer(recording: Recording) -> dict[str, Any]:
    """Blocks, stop reason and usage; those of a stream put together."""
    if not recording.streamed:
        said = json.loads(recording.body)
        return {**said, "content": said["output"]["message"]["content"]}
    answer: dict[str, Any] = {}
    blocks: dict[int, dict[str, Any]] = {}
    for name, event in _events(recording.body):
        match name, event:
            case "contentBlockStart", {"contentBlockIndex": index, "start": start}:
                blocks[index] = {kind: {**inside, "json": ""} for kind, inside in start.items()}
            case "contentBlockDelta", {"contentBlockIndex": index, "delta": delta}:
                _grow(blocks.setdefault(index, {}), delta)
            case "messageStop", _:
                answer |= event
            case "metadata", _:
                answer |= event
    answer["content"] = [_whole(blocks[index]) for index in sorted(blocks)]
    return answer


def _events(body: bytes) -> Iterator[tuple[str, Any]]:
    buffer = EventStreamBuffer()
    buffer.add_data(body)
    for message in buffer:
        yield message.headers[":event-type"], json.loads(message.payload)


def _as_sent_by_anthropic(recording: Recording) -> Recording:
    """A stream with its chunks unwrapped, in the frames in which Anthropic sends them."""
    if not recording.streamed:
        return recording
    chunks = [base64.b64decode(event["bytes"]) for _, event in _events(recording.body)]
    return replace(recording, body=b"".join(b"data: %s\n\n" % chunk for chunk in chunks))


def _grow(block: dict[str, Any], delta: Mapping[str, Any]) -> None:
    match delta:
        case {"text": text}:
            block["text"] = block.get("text", "") + text
        case {"toolUse": {"input": fragment}}:
            block["toolUse"]["json"] += fragment
        case {"toolResult": pieces}:
            block["toolResult"].setdefault("content", []).extend(pieces)
        case {"citation": citation}:
            block.setdefault("citations", []).append(citation)
        case {"reasoningContent": {"redactedContent": data}}:
            inside = block.setdefault("reasoningContent", {"redactedContent": ""})
            joined = base64.b64decode(inside["redactedContent"]) + base64.b64decode(data)
            inside["redactedContent"] = base64.b64encode(joined).decode()
        case {"reasoningContent": said}:
            inside = block.setdefault("reasoningContent", {"reasoningText": {"text": ""}})["reasoningText"]
            for name, value in said.items():
                inside[name] = inside.get(name, "") + value


def _whole(block: dict[str, Any]) -> dict[str, Any]:
    for kind in ("toolUse", "toolResult"):
        if kind in block:
            written = block[kind].pop("json")
            if kind == "toolUse":
                block[kind]["input"] = json.loads(written or "{}")
    if "citations" in block:
        return {"citationsContent": {"content": [{"text": block["text"]}], "citations": block["citations"]}}
    return block


def _is_servers(block: Mapping[str, Any]) -> bool:
    return bool(block["toolUse"].get("type") == "server_tool_use")


def _usage(said: Mapping[str, Any]) -> dict[str, int]:
    """Nothing is said of the input of a request that a guardrail stopped."""
    counts: dict[str, int] = {"output_tokens": said["outputTokens"]}
    if "inputTokens" in said:
        cached = said.get("cacheReadInputTokens", 0) + said.get("cacheWriteInputTokens", 0)
        counts["input_tokens"] = said["inputTokens"] + cached
        counts["total_tokens"] = said["totalTokens"]
    for theirs, ours in (("Read", "cache_read_input_tokens"), ("Write", "cache_write_input_tokens")):
        if f"cache{theirs}InputTokens" in said:
            counts[ours] = said[f"cache{theirs}InputTokens"]
    if said.get("cacheDetails"):
        hours = [detail["inputTokens"] for detail in said["cacheDetails"] if detail["ttl"] == "1h"]
        counts["cache_write_1h_input_tokens"] = sum(hours)
    return counts


def _is_blank(block: Mapping[str, Any]) -> bool:
    """Text of white space alone says nothing, and is refused nearly everywhere."""
    return "text" in block and not block["text"].strip()


def _normal_block(block: dict[str, Any]) -> dict[str, Any]:
    """A result of a tool is success unless it says otherwise, and as JSON says what it says as text."""
    if "toolResult" not in block or "type" in block["toolResult"]:
        return block
    result = {name: value for name, value in block["toolResult"].items() if (name, value) != ("status", "success")}
    result["content"] = [_normal_result(piece) for piece in result["content"]]
    return {"toolResult": result}


def _normal_result(piece: dict[str, Any]) -> Any:
    text = piece.get("text")
    try:
        return {"json": json.loads(text)} if text is not None else piece
    except ValueError:
        return {"json": {"result": text}}


def _turn(blocks: Any, model: str) -> Any:
    """Blocks as they are sent back: only DeepSeek R1 takes reasoning that nobody signed."""
    kept = []
    for block in blocks:
        match block:
            case {"reasoningContent": {"reasoningText": said}} if not said.get("signature"):
                if "deepseek.r1" in model or not model:
                    kept.append(block)
                continue
            case {"toolUse": {"type": "tool_use", **use}}:
                block = {"toolUse": use}
            case {"reasoningContent": {"reasoningText": said}}:
                block = {"reasoningContent": {"reasoningText": {name: said[name] for name in ("text", "signature")}}}
        if not _is_blank(block):
            kept.append(block)
    if kept and "text" in kept[-1]:
        kept[-1] = {"text": kept[-1]["text"].rstrip()}
    return kept


ADAPTERS: tuple[AnyAdapter, ...] = (ConverseAdapter(), EmbedAdapter(), RerankAdapter(), InvokeAdapter())
