"""Which body of the Responses API asks for a request."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from parley import v1
from parley_server.core.errors import UnsupportedParameter
from parley_server.core.target import Target
from parley_server.dialects.openai_responses import OpenAIResponses, ResponsesQuirks
from tests.dialects.responses_ask import PLAIN, body, call, left_out
from tests.dialects.responses_wire import COMPATIBLE, OPENAI, SERVER

SCHEMA = '{"type":"object","properties":{"b":{"type":"string"},"a":{"type":"string"}}}'
ENCRYPTED = ["reasoning.encrypted_content"]


def functions(*names: str, **rest: Any) -> list[v1.Tool]:
    return [v1.Tool(function=v1.FunctionTool(name=name, **rest)) for name in names]


# -------------------------------------------------------------------------------------------------------------- always


def test_the_shortest_request() -> None:
    made = call(v1.ChatRequest(), PLAIN)
    assert (made.method, made.path) == ("POST", "/responses")
    assert json.loads(made.body) == {
        "model": "gpt-4.1",
        "input": [{"type": "message", "role": "user", "content": "hi"}],
        "store": False,
    }
    assert made.warnings == ()


def test_a_stream_comes_without_padding() -> None:
    said = body(v1.ChatRequest(), PLAIN, stream=True)
    assert (said["stream"], said["stream_options"]) == (True, {"include_obfuscation": False})
    assert "stream_options" not in body(v1.ChatRequest(), SERVER, COMPATIBLE, stream=True)


@pytest.mark.parametrize(
    ("target", "include"),
    [
        (Target("openai", "gpt-5.4"), ENCRYPTED),
        (Target("openai", "o4-mini"), ENCRYPTED),
        (Target("openai", "gpt-4.1"), None),
        (Target("openai", "gpt-5-chat-latest"), None),
        (Target("azure", "mine", base_model="gpt-5.6"), ENCRYPTED),
        (Target("azure", "mine"), None),
    ],
)
def test_models_that_reason_are_asked_for_it_in_a_form_that_can_go_back(target: Target, include: Any) -> None:
    assert body(v1.ChatRequest(), target).get("include") == include


def test_who_wishes_for_an_effort_knows_that_the_model_reasons() -> None:
    hard = v1.ChatRequest(reasoning=v1.ReasoningOptions(effort=v1.REASONING_EFFORT_HIGH))
    assert body(hard, Target("azure", "mine"))["include"] == ENCRYPTED
    off = v1.ChatRequest(reasoning=v1.ReasoningOptions(effort=v1.REASONING_EFFORT_NONE))
    assert "include" not in body(off, Target("azure", "mine"))


# --------------------------------------------------------------------------------------------------------------- tools


@pytest.mark.parametrize(("asked", "said"), [({}, False), ({"strict": False}, False), ({"strict": True}, True)])
def test_strict_is_always_said_because_it_is_the_default_there(asked: dict[str, Any], said: bool) -> None:
    tools = functions("f", description="d", parameters_json_schema=SCHEMA, **asked)
    [tool] = body(v1.ChatRequest(tools=tools))["tools"]
    assert tool == {
        "type": "function",
        "name": "f",
        "description": "d",
        "parameters": json.loads(SCHEMA),
        "strict": said,
    }


def test_the_keys_of_a_schema_keep_their_order() -> None:
    made = call(v1.ChatRequest(tools=functions("f", parameters_json_schema=SCHEMA)))
    assert SCHEMA.encode() in made.body


def test_a_function_without_schema_takes_no_arguments() -> None:
    [tool] = body(v1.ChatRequest(tools=functions("f")))["tools"]
    assert tool["parameters"] == {"type": "object", "properties": {}, "additionalProperties": False}


def test_a_server_without_strict_is_not_told_and_the_wish_is_noted() -> None:
    quirks = ResponsesQuirks(missing=frozenset({"strict"}))
    made = call(v1.ChatRequest(tools=functions("f", strict=True)), SERVER, quirks)
    assert "strict" not in json.loads(made.body)["tools"][0]
    assert left_out(made) == {"tools[0].function.strict": "UNSUPPORTED_PARAMETER"}


def test_tools_of_the_provider_go_verbatim_and_those_of_others_do_not_go() -> None:
    mine = v1.Tool(provider_tool=v1.ProviderTool(provider="openai", json='{"type":"web_search","x":1.0}'))
    foreign = v1.Tool(provider_tool=v1.ProviderTool(provider="anthropic", json="{}"))
    made = call(v1.ChatRequest(tools=[mine, foreign]))
    assert b'"tools":[{"type":"web_search","x":1.0}]' in made.body
    assert left_out(made) == {"tools[1]": "UNSUPPORTED_PARAMETER"}


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (v1.ToolChoice(), None),
        (v1.ToolChoice(mode=v1.ToolChoice.MODE_AUTO), "auto"),
        (v1.ToolChoice(mode=v1.ToolChoice.MODE_NONE), "none"),
        (v1.ToolChoice(mode=v1.ToolChoice.MODE_REQUIRED), "required"),
        (
            v1.ToolChoice(mode=v1.ToolChoice.MODE_REQUIRED, allowed_tool_names=["f"]),
            {"type": "function", "name": "f"},
        ),
        (
            v1.ToolChoice(allowed_tool_names=["f", "g"]),
            {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [{"type": "function", "name": "f"}, {"type": "function", "name": "g"}],
            },
        ),
        (
            v1.ToolChoice(mode=v1.ToolChoice.MODE_REQUIRED, allowed_tool_names=["f", "g"]),
            {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "function", "name": "f"}, {"type": "function", "name": "g"}],
            },
        ),
        (v1.ToolChoice(mode=v1.ToolChoice.MODE_NONE, allowed_tool_names=["f"]), "none"),
    ],
)
def test_choices(choice: v1.ToolChoice, said: Any) -> None:
    assert body(v1.ChatRequest(tools=functions("f", "g", "h"), tool_choice=choice)).get("tool_choice") == said


def test_where_some_tools_cannot_be_forbidden_they_are_not_listed() -> None:
    choice = v1.ToolChoice(allowed_tool_names=["f", "g"])
    made = call(v1.ChatRequest(tools=functions("f", "g", "h"), tool_choice=choice), SERVER, COMPATIBLE)
    assert [tool["name"] for tool in json.loads(made.body)["tools"]] == ["f", "g"]
    assert left_out(made) == {"tools[2]": "TOOL_NOT_LISTED"}


def test_parallel_calls() -> None:
    choice = v1.ToolChoice(parallel_tool_calls=False)
    assert body(v1.ChatRequest(tools=functions("f"), tool_choice=choice))["parallel_tool_calls"] is False
    assert "parallel_tool_calls" not in body(v1.ChatRequest(tool_choice=choice))


# ------------------------------------------------------------------------------------------------------------ sampling


def test_what_there_is_of_sampling() -> None:
    sampling = v1.SamplingOptions(max_output_tokens=100, temperature=0.2, top_p=0.5, top_logprobs=3)
    made = call(v1.ChatRequest(sampling=sampling), PLAIN)
    said = json.loads(made.body)
    assert (said["max_output_tokens"], said["temperature"], said["top_p"]) == (100, 0.2, 0.5)
    assert (said["top_logprobs"], said["include"]) == (3, ["message.output_text.logprobs"])
    assert made.warnings == ()


def test_what_there_is_not_of_sampling() -> None:
    sampling = v1.SamplingOptions(
        top_k=1,
        min_p=0.1,
        frequency_penalty=1,
        presence_penalty=1,
        repetition_penalty=2,
        seed=3,
        stop_sequences=["x"],
        logit_bias={1: 2},
    )
    made = call(v1.ChatRequest(sampling=sampling), PLAIN)
    assert set(left_out(made)) == {
        *("sampling.top_k", "sampling.min_p", "sampling.frequency_penalty", "sampling.presence_penalty"),
        *("sampling.repetition_penalty", "sampling.seed", "sampling.stop_sequences", "sampling.logit_bias"),
    }
    assert set(json.loads(made.body)) == {"model", "input", "store"}


def test_sampling_that_another_server_has() -> None:
    quirks = ResponsesQuirks.openrouter()
    made = call(v1.ChatRequest(sampling=v1.SamplingOptions(top_k=5, seed=1)), SERVER, quirks)
    assert json.loads(made.body)["top_k"] == 5
    assert left_out(made) == {"sampling.seed": "UNSUPPORTED_PARAMETER"}


def test_fewer_tokens_than_can_be_asked_for() -> None:
    made = call(v1.ChatRequest(sampling=v1.SamplingOptions(max_output_tokens=3)), PLAIN)
    assert json.loads(made.body)["max_output_tokens"] == 16
    assert left_out(made) == {"sampling.max_output_tokens": "CLAMPED"}
    made = call(v1.ChatRequest(sampling=v1.SamplingOptions(max_output_tokens=3)), SERVER, COMPATIBLE)
    assert json.loads(made.body)["max_output_tokens"] == 3


def test_a_model_that_reasons_refuses_sampling_and_log_probabilities() -> None:
    request = v1.ChatRequest(
        sampling=v1.SamplingOptions(temperature=0.2, top_p=1, top_logprobs=2),
        reasoning=v1.ReasoningOptions(effort=v1.REASONING_EFFORT_LOW),
    )
    made = call(request)
    said = json.loads(made.body)
    assert not {"temperature", "top_p", "top_logprobs"} & said.keys()
    assert said["include"] == ENCRYPTED
    assert set(left_out(made)) == {"sampling.temperature", "sampling.top_logprobs"}  # 1 is what top_p is anyway


def test_a_model_that_was_told_not_to_reason_takes_sampling() -> None:
    request = v1.ChatRequest(
        sampling=v1.SamplingOptions(temperature=0.2), reasoning=v1.ReasoningOptions(effort=v1.REASONING_EFFORT_NONE)
    )
    assert body(request)["temperature"] == 0.2


def test_wishes_that_cannot_be_met_refuse_the_request_if_asked_to() -> None:
    request = v1.ChatRequest(
        sampling=v1.SamplingOptions(seed=1),
        output=v1.OutputOptions(predicted_text="x"),
        unsupported_policy=v1.UNSUPPORTED_POLICY_ERROR,
    )
    with pytest.raises(UnsupportedParameter) as refusal:
        call(request)
    assert [violation.field for violation in refusal.value.violations] == ["sampling.seed", "output.predicted_text"]


# ----------------------------------------------------------------------------------------------------------- reasoning


@pytest.mark.parametrize(
    ("options", "said", "unmet"),
    [
        (v1.ReasoningOptions(effort=v1.REASONING_EFFORT_XHIGH), {"effort": "xhigh"}, {}),
        (v1.ReasoningOptions(visibility=v1.ReasoningOptions.VISIBILITY_SUMMARY), {"summary": "auto"}, {}),
        (
            v1.ReasoningOptions(visibility=v1.ReasoningOptions.VISIBILITY_FULL),
            {"summary": "detailed"},
            {"reasoning.visibility": "UNSUPPORTED_PARAMETER"},
        ),
        (v1.ReasoningOptions(visibility=v1.ReasoningOptions.VISIBILITY_OMITTED), None, {}),
        (v1.ReasoningOptions(budget_tokens=9), None, {"reasoning.budget_tokens": "UNSUPPORTED_PARAMETER"}),
    ],
)
def test_reasoning(options: v1.ReasoningOptions, said: Any, unmet: dict[str, str]) -> None:
    made = call(v1.ChatRequest(reasoning=options))
    assert json.loads(made.body).get("reasoning") == said
    assert left_out(made) == unmet


@pytest.mark.parametrize(
    ("quirks", "visibility", "unmet"),
    [
        (COMPATIBLE, v1.ReasoningOptions.VISIBILITY_FULL, False),
        (COMPATIBLE, v1.ReasoningOptions.VISIBILITY_SUMMARY, True),
        (COMPATIBLE, v1.ReasoningOptions.VISIBILITY_OMITTED, True),
        (ResponsesQuirks.xai(), v1.ReasoningOptions.VISIBILITY_SUMMARY, False),
        (ResponsesQuirks.xai(), v1.ReasoningOptions.VISIBILITY_OMITTED, True),
    ],
)
def test_what_other_servers_show_of_reasoning(quirks: ResponsesQuirks, visibility: Any, unmet: bool) -> None:
    made = call(v1.ChatRequest(reasoning=v1.ReasoningOptions(visibility=visibility)), SERVER, quirks)
    assert (left_out(made) != {}) == unmet


def test_an_effort_that_there_is_not() -> None:
    hard = v1.ChatRequest(reasoning=v1.ReasoningOptions(effort=v1.REASONING_EFFORT_MEDIUM))
    made = call(hard, SERVER, ResponsesQuirks.deepseek())
    assert json.loads(made.body)["reasoning"] == {"effort": "low"}
    assert left_out(made) == {"reasoning.effort": "CLAMPED"}


@pytest.mark.parametrize(
    ("model", "effort", "said", "unmet"),
    [
        ("grok-4.5", v1.REASONING_EFFORT_NONE, {"effort": "low"}, "CLAMPED"),
        ("grok-4.3", v1.REASONING_EFFORT_NONE, {"effort": "none"}, None),
        ("grok-4.20-reasoning", v1.REASONING_EFFORT_HIGH, None, "UNSUPPORTED_PARAMETER"),
        ("grok-5", v1.REASONING_EFFORT_XHIGH, {"effort": "xhigh"}, None),
    ],
)
def test_models_of_one_server_take_different_efforts(model: str, effort: Any, said: Any, unmet: str | None) -> None:
    request = v1.ChatRequest(reasoning=v1.ReasoningOptions(effort=effort))
    made = call(request, Target("xai", model), ResponsesQuirks.xai())
    assert json.loads(made.body).get("reasoning") == said
    assert left_out(made).get("reasoning.effort") == unmet


# ------------------------------------------------------------------------------------------------------------ the rest


def test_forms_of_output() -> None:
    output = v1.OutputOptions(verbosity="low")
    output.json_schema.CopyFrom(v1.JsonSchemaFormat(json_schema=SCHEMA, strict=True, description="d"))
    made = call(v1.ChatRequest(output=output))
    form = {"type": "json_schema", "name": "output", "description": "d", "schema": json.loads(SCHEMA), "strict": True}
    assert json.loads(made.body)["text"] == {"format": form, "verbosity": "low"}
    assert SCHEMA.encode() in made.body
    plain = v1.OutputOptions(json_object=v1.JsonObjectFormat())
    assert body(v1.ChatRequest(output=plain))["text"] == {"format": {"type": "json_object"}}
    assert "text" not in body(v1.ChatRequest(output=v1.OutputOptions(text=v1.TextFormat())))


def test_verbosity_where_there_is_none() -> None:
    made = call(v1.ChatRequest(output=v1.OutputOptions(verbosity="low")), SERVER, COMPATIBLE)
    assert left_out(made) == {"output.verbosity": "UNSUPPORTED_PARAMETER"}


def test_prompt_cache() -> None:
    cache = v1.PromptCacheOptions(key="k", mode=v1.PromptCacheOptions.MODE_EXPLICIT, ttl=Duration(seconds=60))
    made = call(v1.ChatRequest(prompt_cache=cache))
    said = json.loads(made.body)
    assert said["prompt_cache_key"] == "k"
    assert said["prompt_cache_options"] == {"mode": "explicit", "ttl": "30m"}
    assert left_out(made) == {"prompt_cache.ttl": "CLAMPED"}
    made = call(v1.ChatRequest(prompt_cache=v1.PromptCacheOptions(key="k")), SERVER, COMPATIBLE)
    assert left_out(made) == {"prompt_cache.key": "UNSUPPORTED_PARAMETER"}


def test_tier_and_end_user() -> None:
    request = v1.ChatRequest(routing=v1.RoutingOptions(service_tier="flex"), end_user_id="u", metadata={"a": "b"})
    said = body(request)
    assert (said["service_tier"], said["safety_identifier"]) == ("flex", "u")
    assert "metadata" not in said
    assert body(v1.ChatRequest(end_user_id="u"), SERVER, COMPATIBLE)["user"] == "u"
    made = call(v1.ChatRequest(end_user_id="u"), SERVER, ResponsesQuirks(end_user_field=""))
    assert left_out(made) == {"end_user_id": "UNSUPPORTED_PARAMETER"}


def test_options_of_the_caller_come_last_and_change_neither_model_nor_input_nor_stream() -> None:
    options = {
        "model": "x",
        "input": "x",
        "stream": True,
        "store": True,
        "truncation": "auto",
        "reasoning": {"mode": "pro"},
    }
    request = v1.ChatRequest(
        reasoning=v1.ReasoningOptions(effort=v1.REASONING_EFFORT_LOW),
        provider_options_json={"openai": json.dumps(options), "other": "{}"},
    )
    said = body(request)
    assert (said["model"], said["store"], said["truncation"]) == ("gpt-5.4", True, "auto")
    assert said["reasoning"] == {"effort": "low", "mode": "pro"}
    assert "stream" not in said
    assert said["input"] == [{"type": "message", "role": "user", "content": "hi"}]


def test_what_the_caller_includes_comes_to_what_is_needed() -> None:
    options = json.dumps({"include": ["web_search_call.action.sources", *ENCRYPTED]})
    said = body(v1.ChatRequest(provider_options_json={"openai": options}))
    assert said["include"] == [*ENCRYPTED, "web_search_call.action.sources"]
    assert body(v1.ChatRequest(provider_options_json={"openai": options}), PLAIN)["include"][1:] == ENCRYPTED


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("perplexity/sonar", {"model": "perplexity/sonar"}),
        ("sonar", {"model": "perplexity/sonar"}),
        ("anthropic/claude-opus-5", {"model": "anthropic/claude-opus-5"}),
        ("sonar-pro", {"preset": "fast"}),
        ("preset/deep-research", {"preset": "deep-research"}),
    ],
)
def test_presets_of_perplexity(model: str, said: dict[str, str]) -> None:
    found = body(v1.ChatRequest(), Target("perplexity", model), ResponsesQuirks.perplexity())
    assert {name: found[name] for name in ("model", "preset") if name in found} == said


def test_another_path() -> None:
    request = v1.ChatRequest(messages=[v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text="hi")])])
    assert OpenAIResponses(path="/v1/responses").encode(request, OPENAI, stream=False).path == "/v1/responses"
