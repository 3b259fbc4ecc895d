"""What a finished answer of OpenAI, or of a server like it, says."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley import v1
from parley_server.core.errors import GatewayError, InvalidRequest, ProtocolError, RateLimited, Unavailable
from parley_server.core.target import Target
from parley_server.dialects.openai_chat import OpenAIChat, Quirks
from tests.dialects.openai_wire import OPENAI, SERVER, answer


def decoded(body: bytes, target: Target = OPENAI, quirks: Quirks | None = None) -> v1.ChatResponse:
    return OpenAIChat(quirks).decode(body, target)


def compatible(body: bytes) -> v1.ChatResponse:
    return decoded(body, SERVER, Quirks.compatible())


def test_text_with_all_that_comes_beside_it() -> None:
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 7,
        "total_tokens": 17,
        "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0, "cache_write_tokens": 2},
        "completion_tokens_details": {
            "reasoning_tokens": 3,
            "accepted_prediction_tokens": 1,
            "rejected_prediction_tokens": 0,
        },
    }
    response = decoded(
        answer({"content": "Hi 😀"}, usage=usage, service_tier="flex", system_fingerprint="fp_1"), OPENAI
    )
    assert response == v1.ChatResponse(
        message=v1.Message(role=v1.ROLE_ASSISTANT, parts=[v1.Part(text="Hi 😀")]),
        finish_reason=v1.FINISH_REASON_STOP,
        native_finish_reason="stop",
        usage=v1.Usage(
            source=v1.Usage.SOURCE_PROVIDER,
            input_tokens=10,
            output_tokens=7,
            total_tokens=17,
            cache_read_input_tokens=4,
            cache_write_input_tokens=2,
            reasoning_output_tokens=3,
            accepted_prediction_tokens=1,
            rejected_prediction_tokens=0,
        ),
        route=v1.RouteInfo(
            model="gpt-4o-2024-08-06",
            provider_response_id="chatcmpl-1",
            service_tier="flex",
            system_fingerprint="fp_1",
        ),
    )


def test_usage_that_is_not_reported_is_unset() -> None:
    assert not decoded(answer({"content": "a"})).HasField("usage")
    assert not decoded(answer({"content": "a"}, usage=None)).HasField("usage")
    usage = decoded(answer({"content": "a"}, usage={"prompt_tokens": 1, "completion_tokens_details": None})).usage
    assert not usage.HasField("output_tokens")
    assert not usage.HasField("reasoning_output_tokens")


@pytest.mark.parametrize(
    ("usage", "output", "cached"),
    [
        ({"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7, "prompt_cache_hit_tokens": 3}, 2, 3),
        ({"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7, "cached_tokens": 4}, 2, 4),
        (
            {
                "prompt_tokens": 5,
                "completion_tokens": 2,
                "total_tokens": 16,
                "completion_tokens_details": {"reasoning_tokens": 9},
            },
            11,
            0,
        ),
    ],
)
def test_usage_in_other_words(usage: dict[str, Any], output: int, cached: int) -> None:
    found = compatible(answer({"content": "a"}, usage=usage)).usage
    assert (found.output_tokens, found.cache_read_input_tokens) == (output, cached)
    assert found.HasField("cache_read_input_tokens") == (cached > 0)


def test_tool_calls() -> None:
    calls = [
        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"b":1, "a": [1.0]'}},
        {"type": "function", "function": {"name": "g", "arguments": {"z": 1, "a": 2}}},
        {"id": "", "function": {"name": "h", "arguments": ""}},
    ]
    response = decoded(answer({"content": None, "tool_calls": calls}, "stop"))
    assert [part.tool_call for part in response.message.parts] == [
        v1.ToolCall(id="c1", name="f", arguments_json='{"b":1, "a": [1.0]'),
        v1.ToolCall(id="call_chatcmpl1_1", name="g", arguments_json='{"z":1,"a":2}'),
        v1.ToolCall(id="call_chatcmpl1_2", name="h", arguments_json="{}"),
    ]
    assert (response.finish_reason, response.native_finish_reason) == (v1.FINISH_REASON_TOOL_CALL, "stop")


def test_legacy_function_call() -> None:
    response = decoded(answer({"content": None, "function_call": {"name": "f", "arguments": "{}"}}, "function_call"))
    assert response.message.parts[0].tool_call.name == "f"
    assert response.finish_reason == v1.FINISH_REASON_TOOL_CALL


@pytest.mark.parametrize(
    ("message", "native", "reason"),
    [
        ({"content": "a"}, "stop", v1.FINISH_REASON_STOP),
        ({"content": "a"}, "length", v1.FINISH_REASON_LENGTH),
        ({"content": "a"}, "content_filter", v1.FINISH_REASON_CONTENT_FILTER),
        ({"content": "a"}, "tool_calls", v1.FINISH_REASON_STOP),
        ({"content": "a"}, "eos", v1.FINISH_REASON_STOP),
        ({"content": "a"}, None, v1.FINISH_REASON_UNSPECIFIED),
        ({"content": "a"}, "never heard", v1.FINISH_REASON_UNSPECIFIED),
        ({"content": None, "refusal": "No."}, "stop", v1.FINISH_REASON_REFUSAL),
        ({"content": None, "refusal": "No."}, "length", v1.FINISH_REASON_LENGTH),
        ({"tool_calls": [{"id": "c", "function": {"name": "f"}}]}, "", v1.FINISH_REASON_TOOL_CALL),
        ({"tool_calls": [{"id": "c", "function": {"name": "f"}}]}, "length", v1.FINISH_REASON_LENGTH),
    ],
)
def test_finish_reasons(message: dict[str, Any], native: str | None, reason: v1.FinishReason.ValueType) -> None:
    response = decoded(answer(message, native))
    assert (response.finish_reason, response.native_finish_reason) == (reason, native or "")


@pytest.mark.parametrize("content", [None, "", []])
def test_answer_of_nothing_is_one_empty_text(content: Any) -> None:
    assert list(decoded(answer({"content": content}, "length")).message.parts) == [v1.Part(text="")]


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_comes_first_and_remembers_its_field(field: str) -> None:
    parts = compatible(answer({"content": "42", field: "hm"})).message.parts
    state = v1.ReplayState(
        provider="local", model="some-model", data=json.dumps({"field": field}, separators=(",", ":")).encode()
    )
    assert list(parts) == [v1.Part(reasoning=v1.ReasoningPart(text="hm"), replay_state=state), v1.Part(text="42")]


def test_reasoning_that_is_withheld() -> None:
    details = [{"type": "reasoning.encrypted", "data": "x", "index": 0}]
    part = compatible(answer({"content": "42", "reasoning_details": details})).message.parts[0]
    assert part.reasoning == v1.ReasoningPart(redacted=True)
    assert json.loads(part.replay_state.data) == {"reasoning_details": details}


def test_content_in_blocks() -> None:
    blocks = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "h"}, {"type": "text", "text": "m"}]},
        {"type": "text", "text": "42"},
        {"type": "reference", "reference_ids": [1]},
    ]
    reasoning, text, reference = compatible(answer({"content": blocks})).message.parts
    assert reasoning.reasoning.text == "hm"
    assert text == v1.Part(text="42")
    assert reference.provider_part == v1.ProviderPart(
        provider="local", type="reference", json='{"type":"reference","reference_ids":[1]}'
    )


def test_calls_and_audio_without_a_form_of_ours_are_kept_verbatim_and_go_back() -> None:
    custom = {"id": "c1", "type": "custom", "custom": {"name": "sql", "input": "select 1"}}
    audio = {"id": "audio_1", "data": "UklGRg==", "transcript": "hi", "expires_at": 1}
    response = decoded(answer({"content": None, "tool_calls": [custom], "audio": audio}))
    assert [part.provider_part.type for part in response.message.parts] == ["custom", "audio"]
    assert response.finish_reason == v1.FINISH_REASON_TOOL_CALL
    request = v1.ChatRequest(messages=[response.message])
    said = json.loads(OpenAIChat().encode(request, OPENAI, stream=False).body)["messages"][0]
    assert said == {"role": "assistant", "content": None, "audio": {"id": "audio_1"}, "tool_calls": [custom]}


def test_signature_of_a_tool_call_goes_back_with_it() -> None:
    extra = {"google": {"thought_signature": "sig"}}
    calls = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}, "extra_content": extra}]
    turn = compatible(answer({"content": None, "tool_calls": calls})).message
    said = OpenAIChat(Quirks.compatible()).encode(v1.ChatRequest(messages=[turn]), SERVER, stream=False)
    assert json.loads(said.body)["messages"][0]["tool_calls"] == calls
    elsewhere = OpenAIChat(Quirks.compatible()).encode(
        v1.ChatRequest(messages=[turn]), Target("local", "other"), stream=False
    )
    assert "extra_content" not in elsewhere.body.decode()
    assert [warning.code for warning in elsewhere.warnings] == ["REPLAY_STATE_DROPPED"]


def test_citations() -> None:
    annotations = [
        {"type": "url_citation", "url_citation": {"url": "https://a", "title": "A", "start_index": 0, "end_index": 2}},
        {"type": "file_path"},
    ]
    part = decoded(answer({"content": "Hi", "annotations": annotations})).message.parts[0]
    assert list(part.citations) == [v1.Citation(uri="https://a", title="A", start_index=0, end_index=2)]


def test_logprobs_keep_bytes_only_where_the_text_does_not() -> None:
    tokens = [
        {"token": "Hi", "bytes": [72, 105], "logprob": -0.5, "top_logprobs": [{"token": "Ho", "logprob": -1.5}]},
        {"token": "\\xf0\\x9f", "bytes": [240, 159], "logprob": -0.1, "top_logprobs": []},
    ]
    response = decoded(answer({"content": "Hi"}, choice={"logprobs": {"content": tokens, "refusal": None}}))
    assert list(response.logprobs) == [
        v1.TokenLogprob(token="Hi", logprob=-0.5, top_logprobs=[v1.TokenLogprob(token="Ho", logprob=-1.5)]),
        v1.TokenLogprob(token="\\xf0\\x9f", logprob=-0.1, token_bytes=b"\xf0\x9f"),
    ]


def test_of_several_choices_the_first_counts() -> None:
    choices = [{"index": n, "message": {"content": str(n)}, "finish_reason": "stop"} for n in (1, 0)]
    assert decoded(json.dumps({"choices": choices}).encode()).message.parts[0].text == "0"


def test_stop_sequence_where_the_server_tells() -> None:
    assert compatible(answer({"content": "a"}, choice={"stop_reason": "END"})).stop_sequence == "END"
    assert compatible(answer({"content": "a"}, choice={"stop_reason": 128001})).stop_sequence == ""


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", ProtocolError),
        (b"upstream is napping", ProtocolError),
        (b"[]", ProtocolError),
        (b'{"choices": []}', ProtocolError),
        (b'{"choices": null}', ProtocolError),
        (b'{"choices": [null]}', ProtocolError),
        (b'{"error": {"message": "slow", "code": 429}}', RateLimited),
        (b'{"error": {"message": "bad", "type": "invalid_request_error"}, "choices": []}', InvalidRequest),
        (b'{"error": "boom"}', Unavailable),
        (answer({"tool_calls": [{"id": "c", "function": {"arguments": "{}"}}]}), ProtocolError),
    ],
)
def test_what_is_no_answer(body: bytes, error: type[GatewayError]) -> None:
    with pytest.raises(GatewayError) as raised:
        decoded(body)
    assert type(raised.value) is error


def test_blank_lines_before_the_answer_are_no_harm() -> None:
    assert decoded(b"\n\n\n" + answer({"content": "a"})).message.parts[0].text == "a"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "stop"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "text", "function", "name", "arguments", "id", "index"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(["content", "refusal", "tool_calls", "annotations", "reasoning", "function_call", "audio"]),
        json_values,
    ),
    json_values,
)
def test_nonsense_is_an_error_of_ours_or_an_answer(message: dict[str, Any], rest: Any) -> None:
    for body in (
        answer(message),
        answer({"content": "a"}, usage=rest),
        answer({"content": "a"}, choice={"logprobs": rest, "finish_reason": rest}),
        json.dumps({"choices": rest}).encode(),
        json.dumps({"choices": [{"message": rest}]}).encode(),
    ):
        with suppress(GatewayError):  # and nothing else
            assert compatible(body).message.parts
