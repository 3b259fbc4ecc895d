"""What OpenAI and its followers are asked, for what our requests say; messages have a file of their own."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from parley import v1
from parley_server.core.errors import UnsupportedParameter
from parley_server.core.target import Target
from parley_server.dialects.openai_chat import Quirks
from tests.dialects.openai_ask import COMPATIBLE, SERVER, body, call, left_out, user


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
