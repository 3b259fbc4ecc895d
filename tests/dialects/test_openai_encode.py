"""What OpenAI and its followers are asked, for what our requests say."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from parley import v1
from parley_server.core.errors import UnsupportedParameter
from parley_server.core.target import Target
from parley_server.dialects.base import HttpCall
from parley_server.dialects.openai_chat import OpenAIChat, Quirks

OPENAI = Target("openai", "gpt-4o")
SERVER = Target("local", "some-model")
COMPATIBLE = Quirks.compatible()


def user(*parts: v1.Part) -> v1.Message:
    return v1.Message(role=v1.ROLE_USER, parts=parts)


def text(words: str) -> v1.Part:
    return v1.Part(text=words)


def call(
    request: v1.ChatRequest, target: Target = OPENAI, quirks: Quirks | None = None, *, stream: bool = False
) -> HttpCall:
    if not request.messages:
        request.messages.append(user(text("hi")))
    return OpenAIChat(quirks).encode(request, target, stream=stream)


def body(
    request: v1.ChatRequest, target: Target = OPENAI, quirks: Quirks | None = None, *, stream: bool = False
) -> Any:
    return json.loads(call(request, target, quirks, stream=stream).body)


def messages(*said: v1.Message, quirks: Quirks | None = None) -> Any:
    target = OPENAI if quirks is None else SERVER
    return body(v1.ChatRequest(messages=said), target, quirks)["messages"]


def left_out(made: HttpCall) -> dict[str, str]:
    return {warning.field: warning.code for warning in made.warnings}


def test_shortest_request() -> None:
    made = call(v1.ChatRequest())
    assert (made.method, made.path, made.warnings) == ("POST", "/chat/completions", ())
    assert json.loads(made.body) == {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}


def test_streams_ask_for_usage_and_no_padding() -> None:
    assert body(v1.ChatRequest(), stream=True) | {"messages": []} == {
        "model": "gpt-4o",
        "messages": [],
        "stream": True,
        "stream_options": {"include_usage": True, "include_obfuscation": False},
    }
    assert body(v1.ChatRequest(), SERVER, COMPATIBLE, stream=True)["stream_options"] == {"include_usage": True}


# ------------------------------------------------------------------------------------------------------------- messages


def test_roles_and_names() -> None:
    said = [
        v1.Message(role=v1.ROLE_SYSTEM, parts=[text("a")]),
        v1.Message(role=v1.ROLE_DEVELOPER, parts=[text("b")]),
        v1.Message(role=v1.ROLE_USER, name="ann", parts=[text("c")]),
    ]
    assert [m["role"] for m in messages(*said)] == ["system", "developer", "user"]
    assert messages(*said)[2]["name"] == "ann"
    assert [m["role"] for m in messages(*said, quirks=COMPATIBLE)] == ["system", "system", "user"]
    made = call(v1.ChatRequest(messages=said), SERVER, Quirks(participant_names=False))
    assert left_out(made) == {"messages[2].name": "UNSUPPORTED_PARAMETER"}


def test_several_texts_are_blocks_at_openai_and_one_string_elsewhere() -> None:
    said = user(text("a"), text("b"))
    assert messages(said)[0]["content"] == [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert messages(said, quirks=COMPATIBLE)[0]["content"] == "a\n\nb"


def test_media() -> None:
    png, wav, pdf = b"\x89PNG", b"RIFF", b"%PDF"
    said = user(
        v1.Part(
            image=v1.ImagePart(source=v1.MediaSource(data=png, mime_type="image/png"), detail=v1.IMAGE_DETAIL_HIGH)
        ),
        v1.Part(image=v1.ImagePart(source=v1.MediaSource(uri="https://example.com/a.png"))),
        v1.Part(audio=v1.AudioPart(source=v1.MediaSource(data=wav, mime_type="audio/x-wav"))),
        v1.Part(document=v1.DocumentPart(source=v1.MediaSource(data=pdf, mime_type="application/pdf"), title="a.pdf")),
        v1.Part(document=v1.DocumentPart(source=v1.MediaSource(data=b"words", mime_type="text/plain"), title="Notes")),
    )
    data = {name: b64encode(raw).decode() for name, raw in (("png", png), ("wav", wav), ("pdf", pdf))}
    assert messages(said)[0]["content"] == [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data['png']}", "detail": "high"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "input_audio", "input_audio": {"data": data["wav"], "format": "wav"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{data['pdf']}"}},
        {"type": "text", "text": "Notes\n\nwords"},
    ]


@pytest.mark.parametrize(
    ("part", "field"),
    [
        (
            v1.Part(audio=v1.AudioPart(source=v1.MediaSource(uri="https://a/b"))),
            "messages[0].parts[0].audio.source.uri",
        ),
        (
            v1.Part(audio=v1.AudioPart(source=v1.MediaSource(data=b"x", mime_type="audio/ogg"))),
            "messages[0].parts[0].audio.source.mime_type",
        ),
        (
            v1.Part(document=v1.DocumentPart(source=v1.MediaSource(uri="https://a/b"))),
            "messages[0].parts[0].document.source.uri",
        ),
        (v1.Part(provider_part=v1.ProviderPart(provider="anthropic", json="{}")), "messages[0].parts[0]"),
    ],
)
def test_content_that_cannot_be_said_refuses_the_request_whatever_the_policy(part: v1.Part, field: str) -> None:
    with pytest.raises(UnsupportedParameter) as raised:
        call(v1.ChatRequest(messages=[user(part)], unsupported_policy=v1.UNSUPPORTED_POLICY_WARN))
    assert [violation.field for violation in raised.value.violations] == [field]


def test_block_of_the_provider_goes_out_verbatim() -> None:
    block = '{"type":"file","file":{"file_id":"file-1"}}'
    said = messages(user(v1.Part(provider_part=v1.ProviderPart(provider="openai", type="file", json=block))))
    assert said[0]["content"] == [json.loads(block)]


def test_assistant_turn() -> None:
    turn = v1.Message(
        role=v1.ROLE_ASSISTANT,
        parts=[
            text("Let me look."),
            v1.Part(tool_call=v1.ToolCall(id="c1", name="look", arguments_json='{"b": 1, "a": 2}')),
            v1.Part(tool_call=v1.ToolCall(id="c2", name="stop")),
        ],
    )
    assert messages(turn) == [
        {
            "role": "assistant",
            "content": "Let me look.",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"b": 1, "a": 2}'}},
                {"id": "c2", "type": "function", "function": {"name": "stop", "arguments": "{}"}},
            ],
        }
    ]


def test_turn_of_calls_only_has_null_content_and_an_empty_turn_an_empty_one() -> None:
    calls = v1.Message(role=v1.ROLE_ASSISTANT, parts=[v1.Part(tool_call=v1.ToolCall(id="c", name="f"))])
    assert messages(calls)[0]["content"] is None
    assert messages(v1.Message(role=v1.ROLE_ASSISTANT, parts=[text("")]))[0] == {"role": "assistant", "content": ""}


def test_refusal_goes_back_as_refusal_or_as_text() -> None:
    turn = v1.Message(role=v1.ROLE_ASSISTANT, parts=[v1.Part(refusal=v1.RefusalPart(text="No."))])
    assert messages(turn)[0] == {"role": "assistant", "content": None, "refusal": "No."}
    assert messages(turn, quirks=COMPATIBLE)[0] == {"role": "assistant", "content": "No."}


def test_tool_results_are_text_and_their_media_follow_in_a_user_turn() -> None:
    image = v1.Part(image=v1.ImagePart(source=v1.MediaSource(uri="https://example.com/a.png")))
    said = messages(
        v1.Message(
            role=v1.ROLE_TOOL,
            parts=[v1.Part(tool_result=v1.ToolResult(tool_call_id="c1", parts=[text("seen"), image]))],
        ),
        v1.Message(
            role=v1.ROLE_TOOL,
            parts=[v1.Part(tool_result=v1.ToolResult(tool_call_id="c2", parts=[text("boom")], is_error=True))],
        ),
        user(text("well?")),
    )
    assert said == [
        {"role": "tool", "tool_call_id": "c1", "content": "seen"},
        {"role": "tool", "tool_call_id": "c2", "content": "Error: boom"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Attached to the result of tool call c1:"},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
            ],
        },
        {"role": "user", "content": "well?"},
    ]


def test_results_in_a_user_message_come_before_its_text() -> None:
    result = v1.Part(tool_result=v1.ToolResult(tool_call_id="c", parts=[text("42")]))
    said = messages(user(text("go on"), result))
    assert [m["role"] for m in said] == ["tool", "user"]


# ------------------------------------------------------------------------------------------------------------ reasoning


def thought(provider: str, data: bytes = b'{"field":"reasoning"}', model: str = "some-model") -> v1.Message:
    state = v1.ReplayState(provider=provider, model=model, data=data)
    part = v1.Part(reasoning=v1.ReasoningPart(text="hm"), replay_state=state)
    return v1.Message(role=v1.ROLE_ASSISTANT, parts=[part, text("42")])


def test_reasoning_goes_back_in_the_field_it_came_from() -> None:
    assert messages(thought("local"), quirks=COMPATIBLE)[0] == {"role": "assistant", "content": "42", "reasoning": "hm"}


def test_state_cannot_name_any_other_field() -> None:
    said = messages(thought("local", b'{"field":"role"}'), quirks=COMPATIBLE)[0]
    assert said == {"role": "assistant", "content": "42", "reasoning_content": "hm"}


@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b"3"])
def test_broken_state_is_no_state(data: bytes) -> None:
    assert messages(thought("local", data), quirks=COMPATIBLE)[0]["reasoning_content"] == "hm"


def test_foreign_reasoning_is_left_out_with_a_warning() -> None:
    for target, quirks in ((SERVER, COMPATIBLE), (OPENAI, None)):
        made = call(v1.ChatRequest(messages=[thought("anthropic")]), target, quirks)
        assert left_out(made) == {"messages[0].parts[0]": "REPLAY_STATE_DROPPED"}
        assert json.loads(made.body)["messages"] == [{"role": "assistant", "content": "42"}]


def test_blocks_of_reasoning_go_back_to_the_model_that_wrote_them_only() -> None:
    data = b'{"field":"reasoning","reasoning_details":[{"type":"reasoning.encrypted","data":"x"}]}'
    assert messages(thought("local", data), quirks=COMPATIBLE)[0]["reasoning_details"] == [
        {"type": "reasoning.encrypted", "data": "x"}
    ]
    made = call(v1.ChatRequest(messages=[thought("local", data, model="other")]), SERVER, COMPATIBLE)
    assert left_out(made) == {"messages[0].parts[0].replay_state": "REPLAY_STATE_DROPPED"}
    assert "reasoning_details" not in json.loads(made.body)["messages"][0]


def test_effort_is_sent_or_clamped_with_a_warning() -> None:
    effort = v1.ReasoningOptions(effort=v1.REASONING_EFFORT_XHIGH)
    assert body(v1.ChatRequest(reasoning=effort))["reasoning_effort"] == "xhigh"
    made = call(v1.ChatRequest(reasoning=effort), SERVER, Quirks(efforts=("low", "medium", "high")))
    assert json.loads(made.body)["reasoning_effort"] == "high"
    assert left_out(made) == {"reasoning.effort": "CLAMPED"}
    off = v1.ReasoningOptions(effort=v1.REASONING_EFFORT_NONE)
    assert body(v1.ChatRequest(reasoning=off), SERVER, Quirks(efforts=("low", "high")))["reasoning_effort"] == "low"
    least = v1.ReasoningOptions(effort=v1.REASONING_EFFORT_MINIMAL)
    assert body(v1.ChatRequest(reasoning=least), SERVER, Quirks(efforts=("none", "low")))["reasoning_effort"] == "low"


# ----------------------------------------------------------------------------------------------------- tools and output


SCHEMA = '{"type":"object","properties":{"z":{"type":"string"},"a":{"type":"number"}},"required":["z"]}'


def tools(*names: str, **choice: Any) -> v1.ChatRequest:
    return v1.ChatRequest(
        tools=[
            v1.Tool(function=v1.FunctionTool(name=name, description="d", parameters_json_schema=SCHEMA))
            for name in names
        ],
        tool_choice=v1.ToolChoice(**choice),
    )


def test_schemas_keep_their_text() -> None:
    request = tools("f")
    request.tools[0].function.strict = True
    request.output.json_schema.json_schema = SCHEMA
    request.output.json_schema.strict = False
    made = call(request)
    assert made.body.decode().count(SCHEMA) == 2
    said = json.loads(made.body)
    assert said["tools"] == [
        {
            "type": "function",
            "function": {"name": "f", "description": "d", "parameters": json.loads(SCHEMA), "strict": True},
        }
    ]
    assert said["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "output", "schema": json.loads(SCHEMA), "strict": False},
    }


def test_json_object_and_plain_text() -> None:
    assert body(v1.ChatRequest(output=v1.OutputOptions(json_object=v1.JsonObjectFormat())))["response_format"] == {
        "type": "json_object"
    }
    assert "response_format" not in body(v1.ChatRequest(output=v1.OutputOptions(text=v1.TextFormat())))


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({}, None),
        ({"mode": v1.ToolChoice.MODE_AUTO}, "auto"),
        ({"mode": v1.ToolChoice.MODE_NONE}, "none"),
        ({"mode": v1.ToolChoice.MODE_REQUIRED}, "required"),
        (
            {"mode": v1.ToolChoice.MODE_REQUIRED, "allowed_tool_names": ["f"]},
            {"type": "function", "function": {"name": "f"}},
        ),
        (
            {"allowed_tool_names": ["f"]},
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]},
            },
        ),
        ({"mode": v1.ToolChoice.MODE_NONE, "allowed_tool_names": ["f"]}, "none"),
    ],
)
def test_tool_choice(choice: dict[str, Any], said: Any) -> None:
    made = body(tools("f", "g", **choice))
    assert made.get("tool_choice") == said
    assert len(made["tools"]) == 2


def test_without_a_word_for_allowed_tools_the_others_are_not_listed() -> None:
    request = tools("f", "g", "h", mode=v1.ToolChoice.MODE_REQUIRED, allowed_tool_names=["f", "h"])
    request.unsupported_policy = v1.UNSUPPORTED_POLICY_ERROR  # the wish is met: no reason to refuse
    made = call(request, SERVER, COMPATIBLE)
    said = json.loads(made.body)
    assert [tool["function"]["name"] for tool in said["tools"]] == ["f", "h"]
    assert said["tool_choice"] == "required"
    assert left_out(made) == {"tools[1]": "TOOL_NOT_LISTED"}


def test_choices_without_tools_say_nothing() -> None:
    choice = v1.ToolChoice(mode=v1.ToolChoice.MODE_AUTO, parallel_tool_calls=False)
    assert body(v1.ChatRequest(tool_choice=choice)).keys() == {"model", "messages"}
    assert body(tools("f", parallel_tool_calls=False))["parallel_tool_calls"] is False


def test_tools_of_providers_go_to_their_provider_only() -> None:
    request = v1.ChatRequest(
        tools=[
            v1.Tool(provider_tool=v1.ProviderTool(provider="openai", json='{"type":"custom","custom":{"name":"x"}}')),
            v1.Tool(provider_tool=v1.ProviderTool(provider="anthropic", json='{"type":"web_search_20260101"}')),
        ]
    )
    made = call(request)
    assert json.loads(made.body)["tools"] == [{"type": "custom", "custom": {"name": "x"}}]
    assert left_out(made) == {"tools[1]": "UNSUPPORTED_PARAMETER"}


# ------------------------------------------------------------------------------------------------------------- sampling


ALL = v1.SamplingOptions(
    max_output_tokens=9,
    temperature=0.7,
    top_p=0.5,
    top_k=4,
    min_p=0.1,
    frequency_penalty=0.2,
    presence_penalty=0.3,
    repetition_penalty=1.1,
    seed=2**40,
    stop_sequences=["a", "b"],
    logit_bias={50256: -100},
    top_logprobs=2,
)


def test_sampling_at_openai() -> None:
    made = call(v1.ChatRequest(sampling=ALL))
    said = json.loads(made.body)
    assert {name: said[name] for name in said if name not in ("model", "messages")} == {
        "max_completion_tokens": 9,
        "temperature": 0.7,
        "top_p": 0.5,
        "frequency_penalty": 0.2,
        "presence_penalty": 0.3,
        "seed": 2**40,
        "stop": ["a", "b"],
        "logit_bias": {"50256": -100.0},
        "logprobs": True,
        "top_logprobs": 2,
    }
    assert left_out(made).keys() == {"sampling.top_k", "sampling.min_p", "sampling.repetition_penalty"}


def test_sampling_elsewhere() -> None:
    said = body(v1.ChatRequest(sampling=ALL), SERVER, Quirks(repetition_penalty_field="repeat_penalty"))
    assert (said["max_tokens"], said["top_k"], said["min_p"], said["repeat_penalty"]) == (9, 4, 0.1, 1.1)


def test_unset_is_not_zero() -> None:
    said = body(v1.ChatRequest(sampling=v1.SamplingOptions(temperature=0, seed=0, top_logprobs=0)))
    assert (said["temperature"], said["seed"], said["logprobs"]) == (0, 0, True)
    assert "top_logprobs" not in said


def test_surplus_stop_sequences() -> None:
    made = call(v1.ChatRequest(sampling=v1.SamplingOptions(stop_sequences=list("abcdef"))))
    assert json.loads(made.body)["stop"] == list("abcd")
    assert left_out(made) == {"sampling.stop_sequences[4]": "UNSUPPORTED_PARAMETER"}


def test_policy_error_names_every_unmet_wish() -> None:
    request = v1.ChatRequest(
        sampling=v1.SamplingOptions(top_k=1, min_p=0.1),
        reasoning=v1.ReasoningOptions(budget_tokens=100),
        unsupported_policy=v1.UNSUPPORTED_POLICY_ERROR,
    )
    with pytest.raises(UnsupportedParameter) as raised:
        call(request)
    assert {v.field for v in raised.value.violations} == {"sampling.top_k", "sampling.min_p", "reasoning.budget_tokens"}


@pytest.mark.parametrize(
    ("model", "effort", "kept"),
    [
        ("gpt-4o", 0, {"temperature", "top_p", "stop", "presence_penalty"}),
        ("gpt-5-chat-latest", 0, {"temperature", "top_p", "stop", "presence_penalty"}),
        ("o1", 0, {"stop"}),
        ("o3-mini", 0, set()),
        ("gpt-5", 0, set()),
        ("gpt-5-mini-2025-08-07", 0, set()),
        ("gpt-5.1", 0, {"temperature", "top_p"}),
        ("gpt-5.1", v1.REASONING_EFFORT_NONE, {"temperature", "top_p"}),
        ("gpt-5.1", v1.REASONING_EFFORT_LOW, set()),
        ("gpt-5.2-chat-latest", 0, set()),
        ("gpt-5.6-sol", 0, set()),
        ("gpt-5.6-sol", v1.REASONING_EFFORT_NONE, {"temperature", "top_p"}),
    ],
)
def test_what_reasoning_models_refuse_is_left_out(
    model: str, effort: v1.ReasoningEffort.ValueType, kept: set[str]
) -> None:
    sampling = v1.SamplingOptions(temperature=0.5, top_p=0.5, presence_penalty=1, stop_sequences=["x"])
    request = v1.ChatRequest(sampling=sampling, reasoning=v1.ReasoningOptions(effort=effort))
    made = call(request, Target("openai", model))
    said = json.loads(made.body)
    assert said.keys() & {"temperature", "top_p", "stop", "presence_penalty"} == kept
    assert len(made.warnings) == 4 - len(kept)


def test_refused_defaults_are_left_out_without_a_word() -> None:
    made = call(v1.ChatRequest(sampling=v1.SamplingOptions(temperature=1, top_p=1)), Target("openai", "o3"))
    assert json.loads(made.body).keys() == {"model", "messages"}
    assert made.warnings == ()


# ------------------------------------------------------------------------------------------------------------ the rest


def test_cache_tier_user_and_output_options() -> None:
    request = v1.ChatRequest(
        prompt_cache=v1.PromptCacheOptions(
            mode=v1.PromptCacheOptions.MODE_EXPLICIT, key="k", ttl=Duration(seconds=1800)
        ),
        routing=v1.RoutingOptions(service_tier="flex"),
        end_user_id="u1",
        output=v1.OutputOptions(verbosity="low", predicted_text="so far"),
        metadata={"team": "a"},
    )
    assert (
        body(request).items()
        >= {
            "prompt_cache_key": "k",
            "prompt_cache_options": {"mode": "explicit", "ttl": "30m"},
            "service_tier": "flex",
            "safety_identifier": "u1",
            "verbosity": "low",
            "prediction": {"type": "content", "content": "so far"},
        }.items()
    )
    assert "metadata" not in body(request)
    made = call(request, SERVER, COMPATIBLE)
    assert json.loads(made.body)["user"] == "u1"
    assert left_out(made).keys() == {"prompt_cache.key", "prompt_cache", "output.verbosity", "output.predicted_text"}


def marked(words: str, seconds: int = 0) -> v1.Part:
    part = v1.Part(text=words, cache_breakpoint=v1.CacheBreakpoint())
    if seconds:
        part.cache_breakpoint.ttl.FromSeconds(seconds)
    return part


def test_breakpoints_the_last_four_count() -> None:
    made = call(v1.ChatRequest(messages=[user(*(marked(str(n)) for n in range(5)), marked("5", 3600))]))
    said = json.loads(made.body)["messages"][0]["content"]
    assert [block.get("prompt_cache_breakpoint") for block in said] == [
        None,
        None,
        {"mode": "explicit"},
        {"mode": "explicit"},
        {"mode": "explicit"},
        {"mode": "explicit", "ttl": "12h"},
    ]
    assert left_out(made) == {
        "messages[0].parts[0].cache_breakpoint": "UNSUPPORTED_PARAMETER",
        "messages[0].parts[1].cache_breakpoint": "UNSUPPORTED_PARAMETER",
        "messages[0].parts[5].cache_breakpoint.ttl": "CLAMPED",
    }


def test_breakpoints_in_other_words_or_not_at_all() -> None:
    request = v1.ChatRequest(messages=[user(marked("a", 3600))])
    said = body(request, SERVER, Quirks(cache_breakpoints="cache_control"))["messages"][0]["content"]
    assert said == [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    assert left_out(call(request, SERVER, COMPATIBLE)).keys() == {"messages[0].parts[0].cache_breakpoint"}
    request.prompt_cache.mode = v1.PromptCacheOptions.MODE_OFF
    made = call(request)
    assert made.warnings == ()
    assert json.loads(made.body)["messages"][0]["content"] == "a"


def test_provider_options_are_merged_but_cannot_touch_what_is_ours() -> None:
    options = {"model": "x", "messages": [], "stream": True, "store": False, "temperature": None, "n": 2}
    request = v1.ChatRequest(
        sampling=v1.SamplingOptions(temperature=0.5),
        provider_options_json={"openai": json.dumps(options), "anthropic": '{"top_k": 1}'},
    )
    assert body(request) == {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": "hi"}],
        "store": False,
        "n": 2,
    }
