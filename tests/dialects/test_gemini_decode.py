"""Whole answers of generateContent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from parley import v1
from parley_server.core.errors import (
    CredentialsRejected,
    Overloaded,
    PromptBlocked,
    ProtocolError,
    StreamInterrupted,
)
from tests.dialects.gemini_wire import DIALECT, TARGET, answer, chunk, decoded


def kinds(response: v1.ChatResponse) -> list[str | None]:
    return [part.WhichOneof("kind") for part in response.message.parts]


def test_an_answer() -> None:
    said = decoded(answer([{"text": "Thinking.", "thought": True}, {"text": "Hello."}]))
    assert said.message.role == v1.ROLE_ASSISTANT
    assert kinds(said) == ["reasoning", "text"]
    assert (said.message.parts[0].reasoning.text, said.message.parts[1].text) == ("Thinking.", "Hello.")
    assert (said.finish_reason, said.native_finish_reason) == (v1.FINISH_REASON_STOP, "STOP")
    assert said.route == v1.RouteInfo(model="gemini-3-flash-preview", provider_response_id="resp-1_A")


def test_calls_get_ids_where_there_are_none() -> None:
    calls: list[dict[str, Any]] = [
        {"functionCall": {"name": "a", "args": {"n": 12345678901234567890123}}},
        {"functionCall": {"id": "x1", "name": "b"}},
        {"functionCall": {"name": "c", "args": {"z": 1, "a": 2}}},
    ]
    said = decoded(answer(calls))
    assert [(part.tool_call.id, part.tool_call.name, part.tool_call.arguments_json) for part in said.message.parts] == [
        ("gemini_resp1A_0", "a", '{"n":12345678901234567890123}'),
        ("x1", "b", "{}"),
        ("gemini_resp1A_2", "c", '{"z":1,"a":2}'),
    ]
    assert (said.finish_reason, said.native_finish_reason) == (v1.FINISH_REASON_TOOL_CALL, "STOP")


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("MAX_TOKENS", v1.FINISH_REASON_LENGTH),
        ("SAFETY", v1.FINISH_REASON_CONTENT_FILTER),
        ("RECITATION", v1.FINISH_REASON_CONTENT_FILTER),
        ("MODEL_ARMOR", v1.FINISH_REASON_CONTENT_FILTER),
        ("IMAGE_SAFETY", v1.FINISH_REASON_CONTENT_FILTER),
        ("MALFORMED_FUNCTION_CALL", v1.FINISH_REASON_MALFORMED_OUTPUT),
        ("UNEXPECTED_TOOL_CALL", v1.FINISH_REASON_MALFORMED_OUTPUT),
        ("OTHER", v1.FINISH_REASON_ERROR),
        ("MISSING_THOUGHT_SIGNATURE", v1.FINISH_REASON_ERROR),
        ("SOMETHING_NEW", v1.FINISH_REASON_UNSPECIFIED),
    ],
)
def test_finish_reasons(word: str, reason: v1.FinishReason.ValueType) -> None:
    said = decoded(answer([{"text": "x"}], finishReason=word))
    assert (said.finish_reason, said.native_finish_reason) == (reason, word)
    call = decoded(answer([{"functionCall": {"name": "a"}}], finishReason=word))
    assert call.finish_reason == reason


def test_usage_is_inclusive() -> None:
    counts = {
        "promptTokenCount": 100,
        "cachedContentTokenCount": 40,
        "toolUsePromptTokenCount": 7,
        "candidatesTokenCount": 10,
        "thoughtsTokenCount": 5,
        "totalTokenCount": 122,
        "serviceTier": "priority",
    }
    said = decoded(answer([{"text": "x"}], usageMetadata=counts))
    assert said.usage == v1.Usage(
        source=v1.Usage.SOURCE_PROVIDER,
        input_tokens=107,
        output_tokens=15,
        total_tokens=122,
        cache_read_input_tokens=40,
        reasoning_output_tokens=5,
    )
    assert said.route.service_tier == "priority"


def test_counts_of_nothing_are_left_out_on_the_wire() -> None:
    said = decoded(answer([], usageMetadata={"promptTokenCount": 9, "totalTokenCount": 9, "trafficType": "ON_DEMAND"}))
    assert (said.usage.input_tokens, said.usage.output_tokens, said.usage.total_tokens) == (9, 0, 9)
    assert not said.usage.HasField("reasoning_output_tokens")
    assert said.route.service_tier == "ON_DEMAND"
    assert not decoded(answer([{"text": "x"}], usageMetadata={})).HasField("usage")
    bare = decoded(answer([{"text": "x"}], usageMetadata={"candidatesTokenCount": 2})).usage
    assert (bare.HasField("input_tokens"), bare.output_tokens, bare.HasField("total_tokens")) == (False, 2, False)


def test_what_has_no_unified_form_is_kept_verbatim() -> None:
    code: dict[str, Any] = {"executableCode": {"language": "PYTHON", "code": "print(1)"}}
    output = {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}}
    image = {"inlineData": {"mimeType": "image/png", "data": "iVBORw=="}}
    new = {"holograph": {"size": 3}, "thought": False}
    said = decoded(answer([{"text": "a"}, code, output, image, new, {"text": "b"}]))
    assert kinds(said) == ["text", *["provider_part"] * 4, "text"]
    own = [part.provider_part for part in said.message.parts[1:5]]
    assert [part.type for part in own] == ["executableCode", "codeExecutionResult", "inlineData", "holograph"]
    assert [json.loads(part.json) for part in own] == [code, output, image, new]
    assert {part.provider for part in own} == {"gemini"}


def test_an_answer_without_parts_is_an_empty_text() -> None:
    for content in ({"role": "model"}, {"role": "model", "parts": []}, {}):
        whole = answer([], finishReason="MAX_TOKENS")
        whole["candidates"][0]["content"] = content
        assert decoded(whole).message.parts == [v1.Part(text="")]
    filtered = answer([], finishReason="SAFETY")
    del filtered["candidates"][0]["content"]
    assert decoded(filtered).finish_reason == v1.FINISH_REASON_CONTENT_FILTER


def test_only_the_first_candidate_counts() -> None:
    whole = answer([{"text": "first"}])
    whole["candidates"] = [{**whole["candidates"][0], "index": 1}, *whole["candidates"]]
    whole["candidates"][0]["content"] = {"parts": [{"text": "second"}]}
    assert [part.text for part in decoded(whole).message.parts] == ["first"]


def test_log_probabilities() -> None:
    result = {
        "chosenCandidates": [{"token": "Hi", "tokenId": 1, "logProbability": -0.5}, {"token": "!"}],
        "topCandidates": [{"candidates": [{"token": "Hi", "logProbability": -0.5}, {"token": "Yo"}]}],
    }
    first, second = decoded(answer([{"text": "Hi!"}], logprobsResult=result)).logprobs
    assert (first.token, first.logprob, [top.token for top in first.top_logprobs]) == ("Hi", -0.5, ["Hi", "Yo"])
    assert (second.token, second.logprob, len(second.top_logprobs)) == ("!", 0.0, 0)


def test_a_blocked_prompt_is_an_error() -> None:
    feedback = {"blockReason": "PROHIBITED_CONTENT", "blockReasonMessage": "Not that."}
    with pytest.raises(PromptBlocked) as blocked:
        decoded({"promptFeedback": feedback, "usageMetadata": {"promptTokenCount": 4}})
    said = blocked.value.provider_error
    assert said is not None
    assert (said.code, said.message, said.http_status) == ("PROHIBITED_CONTENT", "Not that.", 200)
    assert blocked.value.facts == {"category": "PROHIBITED_CONTENT"}


def test_an_error_with_status_200() -> None:
    with pytest.raises(Overloaded):
        decoded({"error": {"code": 503, "status": "UNAVAILABLE", "message": "The model is overloaded."}})
    with pytest.raises(CredentialsRejected):
        decoded([{"error": {"code": 403, "status": "PERMISSION_DENIED", "message": "no"}}])


def test_a_list_of_chunks_is_an_answer_too() -> None:
    said = decoded([chunk({"text": "a"}), chunk({"text": "b"}), chunk({"text": ""}, finishReason="STOP")])
    assert [part.text for part in said.message.parts] == ["ab"]
    with pytest.raises(StreamInterrupted):
        decoded([chunk({"text": "a"})])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"1",
        b"{}",
        b'{"candidates":[]}',
        b'{"candidates":[1]}',
        b'{"candidates":[{"content":{"parts":[{"functionCall":{"name":""}}]}}]}',
        b'{"candidates":[{"content":{"parts":[{"functionCall":{}}]}}]}',
        b'{"candidates":[{"content":{"parts":[{"text":1}]}}]}',
        b'{"candidates":[{"content":{"parts":7}}]}',
        b'{"candidates":[{"content":[]}],"usageMetadata":{"promptTokenCount":"x","totalTokenCount":1}}',
    ],
)
def test_nonsense_is_a_protocol_error(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        DIALECT.decode(body, TARGET)
