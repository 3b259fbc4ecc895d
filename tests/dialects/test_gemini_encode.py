"""Requests as calls of generateContent: where they go, what is sent, and what is said of all that is not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from parley import v1
from parley_server.core.errors import InvalidRequest, UnsupportedParameter
from parley_server.core.target import Target
from parley_server.dialects.gemini import VERTEX, GeminiChat
from tests.dialects.gemini_ask import (
    OLD,
    OLDER,
    body_of,
    call_of,
    config_of,
    function,
    native,
    request,
    turn,
    warned,
)
from tests.dialects.gemini_wire import TARGET

ON_CLOUD = GeminiChat(VERTEX)
NEVER_HEEDS = Target(provider="gemini", model="gemini-3.8-flash")


def test_the_path_says_model_and_verb() -> None:
    call = call_of(request())
    assert (call.method, call.path) == ("POST", "/models/gemini-3-flash-preview:generateContent")
    assert call_of(request(), stream=True).path.endswith(":streamGenerateContent?alt=sse")
    assert json.loads(call.body) == {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("tunedModels/mine-1", "/tunedModels/mine-1"),
        ("models/gemini-2.5-pro", "/models/gemini-2.5-pro"),
        ("../corpora/x?key=1#", "/models/..%2Fcorpora%2Fx%3Fkey%3D1%23"),
        ("models/../corpora", "/models/models%2F..%2Fcorpora"),
    ],
)
def test_a_name_leads_nowhere_else(model: str, path: str) -> None:
    assert call_of(request(), Target("gemini", model)).path == f"{path}:generateContent"


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("gemini-2.5-pro", "/publishers/google/models/gemini-2.5-pro"),
        ("google/gemini-2.5-pro", "/publishers/google/models/gemini-2.5-pro"),
        ("endpoints/123", "/endpoints/123"),
    ],
)
def test_paths_on_google_cloud(model: str, path: str) -> None:
    assert call_of(request(), Target("vertex", model), ON_CLOUD).path == f"{path}:generateContent"


def test_sampling() -> None:
    sampling = v1.SamplingOptions(
        max_output_tokens=100,
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        frequency_penalty=0.1,
        presence_penalty=-0.1,
        seed=-7,
        stop_sequences=["a", "b"],
        top_logprobs=3,
    )
    assert config_of(request(sampling=sampling), OLDER) == {
        "maxOutputTokens": 100,
        "temperature": 0.5,
        "topP": 0.9,
        "topK": 40,
        "frequencyPenalty": 0.1,
        "presencePenalty": -0.1,
        "seed": -7,
        "stopSequences": ["a", "b"],
        "responseLogprobs": True,
        "logprobs": 3,
    }
    assert warned(request(sampling=sampling), OLDER) == []


def test_log_probabilities_without_alternatives() -> None:
    asked = request(sampling=v1.SamplingOptions(top_logprobs=0))
    assert config_of(asked) == {"responseLogprobs": True}


@pytest.mark.parametrize(
    ("field", "value", "target"),
    [
        ("min_p", 0.1, OLDER),
        ("repetition_penalty", 1.1, OLDER),
        ("logit_bias", {1: 2.0}, OLDER),
        ("seed", 2**31, OLDER),
        ("presence_penalty", 0.5, TARGET),
        ("frequency_penalty", 0.5, TARGET),
        ("temperature", 0.5, NEVER_HEEDS),
        ("top_p", 0.5, NEVER_HEEDS),
        ("top_k", 5, NEVER_HEEDS),
    ],
)
def test_what_a_model_does_not_take_is_said(field: str, value: Any, target: Target) -> None:
    asked = request(sampling=v1.SamplingOptions(**{field: value}))
    assert config_of(asked, target) == {}
    assert warned(asked, target) == [(f"sampling.{field}", "UNSUPPORTED_PARAMETER")]
    asked.unsupported_policy = v1.UNSUPPORTED_POLICY_ERROR
    with pytest.raises(UnsupportedParameter):
        call_of(asked, target)


def test_values_that_say_nothing_are_no_wishes() -> None:
    sampling = v1.SamplingOptions(frequency_penalty=0, presence_penalty=0, repetition_penalty=1, min_p=0)
    assert (config_of(request(sampling=sampling)), warned(request(sampling=sampling))) == ({}, [])


def test_five_stop_sequences_are_the_most() -> None:
    asked = request(sampling=v1.SamplingOptions(stop_sequences=list("abcdef")))
    assert config_of(asked)["stopSequences"] == list("abcde")
    assert warned(asked) == [("sampling.stop_sequences[5]", "UNSUPPORTED_PARAMETER")]


def test_json_output_keeps_the_words_of_the_schema() -> None:
    schema = '{"type":"object","properties":{"b":{"$ref":"#/$defs/x"},"a":{}}}'
    output = v1.OutputOptions(json_schema=v1.JsonSchemaFormat(name="n", json_schema=schema, strict=True))
    call = call_of(request(output=output))
    assert f'"responseMimeType":"application/json","responseJsonSchema":{schema}'.encode() in call.body
    assert call.warnings == ()
    free = v1.OutputOptions(json_object=v1.JsonObjectFormat())
    assert config_of(request(output=free)) == {"responseMimeType": "application/json"}
    assert config_of(request(output=v1.OutputOptions(text=v1.TextFormat()))) == {}


def test_output_wishes_without_a_word() -> None:
    output = v1.OutputOptions(
        json_schema=v1.JsonSchemaFormat(json_schema="{}", description="d"), verbosity="low", predicted_text="p"
    )
    wishes = ["output.json_schema.description", "output.verbosity", "output.predicted_text"]
    assert [field for field, _ in warned(request(output=output))] == wishes


def test_functions_and_tools_of_its_own() -> None:
    schema = '{"type":"object","properties":{"city":{"type":"string"}}}'
    tools = [
        function("weather", description="Says it.", parameters_json_schema=schema),
        native(googleSearch={}),
        function("now"),
    ]
    body = body_of(request(tools=tools))
    weather = {"name": "weather", "description": "Says it.", "parametersJsonSchema": json.loads(schema)}
    assert body["tools"] == [{"functionDeclarations": [weather, {"name": "now"}]}, {"googleSearch": {}}]
    assert body["toolConfig"] == {"includeServerSideToolInvocations": True}
    assert "toolConfig" not in body_of(request(tools=tools), OLDER)
    on_cloud = [
        function("now"),
        v1.Tool(provider_tool=v1.ProviderTool(provider="vertex", json='{"googleSearch":{}}')),
    ]
    assert "toolConfig" not in body_of(request(tools=on_cloud), Target("vertex", TARGET.model), ON_CLOUD)


def test_tools_of_others_are_left_out() -> None:
    foreign = v1.Tool(provider_tool=v1.ProviderTool(provider="openai", json="{}"))
    assert warned(request(tools=[foreign])) == [("tools[0]", "PROVIDER_TOOL_DROPPED")]
    broken = v1.Tool(provider_tool=v1.ProviderTool(provider="gemini", json="[]"))
    with pytest.raises(InvalidRequest):
        call_of(request(tools=[broken]))


MODES = v1.ToolChoice


@pytest.mark.parametrize(
    ("choice", "calling"),
    [
        ({}, None),
        ({"mode": MODES.MODE_AUTO}, {"mode": "AUTO"}),
        ({"mode": MODES.MODE_NONE}, {"mode": "NONE"}),
        ({"mode": MODES.MODE_REQUIRED}, {"mode": "ANY"}),
        (
            {"mode": MODES.MODE_REQUIRED, "allowed_tool_names": ["a"]},
            {"mode": "ANY", "allowedFunctionNames": ["a"]},
        ),
        ({"allowed_tool_names": ["a"]}, {"mode": "VALIDATED", "allowedFunctionNames": ["a"]}),
    ],
)
def test_tool_choice(choice: dict[str, Any], calling: dict[str, Any] | None) -> None:
    asked = request(tools=[function("a"), function("b")], tool_choice=v1.ToolChoice(**choice))
    assert body_of(asked).get("toolConfig") == (calling and {"functionCallingConfig": calling})
    assert warned(asked) == []


def test_models_that_cannot_be_told_which_functions_see_only_those() -> None:
    asked = request(tools=[function("a"), function("b")], tool_choice=v1.ToolChoice(allowed_tool_names=["a"]))
    body = body_of(asked, OLD)
    assert body["tools"] == [{"functionDeclarations": [{"name": "a"}]}]
    assert "toolConfig" not in body
    assert warned(asked, OLD) == [("tools[1]", "TOOL_NOT_LISTED")]


def test_strict_functions() -> None:
    asked = request(tools=[function("a", strict=True), function("b")])
    assert body_of(asked)["toolConfig"] == {"functionCallingConfig": {"mode": "VALIDATED"}}
    assert warned(asked, OLD) == [("tools[0].function.strict", "UNSUPPORTED_PARAMETER")]
    asked.tool_choice.mode = v1.ToolChoice.MODE_REQUIRED
    assert warned(asked, OLD) == []


def test_choices_that_cannot_be_met() -> None:
    nothing = request(tool_choice=v1.ToolChoice(mode=v1.ToolChoice.MODE_REQUIRED))
    assert "toolConfig" not in body_of(nothing)
    assert warned(nothing) == [("tool_choice.mode", "UNSUPPORTED_PARAMETER")]
    one = request(tools=[function("a")], tool_choice=v1.ToolChoice(parallel_tool_calls=False))
    assert warned(one) == [("tool_choice.parallel_tool_calls", "UNSUPPORTED_PARAMETER")]


def test_service_tier() -> None:
    asked = request(routing=v1.RoutingOptions(service_tier="flex"))
    assert body_of(asked)["serviceTier"] == "flex"
    call = call_of(asked, Target("vertex", TARGET.model), ON_CLOUD)
    assert call.headers["x-vertex-ai-llm-shared-request-type"] == "flex"
    assert "serviceTier" not in json.loads(call.body)
    unknown = request(routing=v1.RoutingOptions(service_tier="batch"))
    assert warned(unknown, Target("vertex", TARGET.model), ON_CLOUD) == [
        ("routing.service_tier", "UNSUPPORTED_PARAMETER")
    ]


def test_the_end_user_is_a_label_on_google_cloud() -> None:
    vertex = Target("vertex", TARGET.model)
    assert body_of(request(end_user_id="user-7"), vertex, ON_CLOUD)["labels"] == {"end_user": "user-7"}
    assert warned(request(end_user_id="User 7"), vertex, ON_CLOUD) == [("end_user_id", "UNSUPPORTED_PARAMETER")]
    assert warned(request(end_user_id="user-7")) == [("end_user_id", "UNSUPPORTED_PARAMETER")]


def test_the_prompt_cache_has_no_knobs() -> None:
    cache = v1.PromptCacheOptions(mode=v1.PromptCacheOptions.MODE_EXPLICIT, key="k")
    cache.ttl.FromSeconds(300)
    fields = ["prompt_cache.mode", "prompt_cache.key", "prompt_cache.ttl"]
    assert [field for field, _ in warned(request(prompt_cache=cache))] == fields
    marked = turn(v1.ROLE_USER, v1.Part(text="x", cache_breakpoint=v1.CacheBreakpoint()))
    asked = request(marked)
    assert warned(asked) == [("messages[0].parts[0].cache_breakpoint", "UNSUPPORTED_PARAMETER")]
    asked.prompt_cache.mode = v1.PromptCacheOptions.MODE_OFF
    assert warned(asked) == []


def test_provider_options_are_merged_last() -> None:
    options = {
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}],
        "cachedContent": "cachedContents/1",
        "generationConfig": {"temperature": None, "mediaResolution": "MEDIA_RESOLUTION_LOW"},
        "contents": [],
        "model": "another",
    }
    asked = request(
        sampling=v1.SamplingOptions(temperature=1, seed=1), provider_options_json={"gemini": json.dumps(options)}
    )
    assert body_of(asked) == {
        "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
        "safetySettings": options["safetySettings"],
        "cachedContent": "cachedContents/1",
        "generationConfig": {"seed": 1, "mediaResolution": "MEDIA_RESOLUTION_LOW"},
    }


def test_a_stream_has_no_one_body() -> None:
    asked = request(include_provider_response=True)
    assert [warning.field for warning in call_of(asked, stream=True).warnings] == ["include_provider_response"]
    assert call_of(asked).warnings == ()


def test_deployments_go_by_what_they_are() -> None:
    named = Target("gemini", "tunedModels/mine", base_model="gemini-2.5-flash")
    asked = request(sampling=v1.SamplingOptions(presence_penalty=0.5))
    assert config_of(asked, named) == {"presencePenalty": 0.5}
