"""Requests in the words of the Messages API: limits, tools and options."""

from __future__ import annotations

import json
from typing import Any

import pytest

from parley import v1
from parley_server.core.errors import InvalidRequest, UnsupportedParameter
from parley_server.core.target import Target
from tests.dialects.anthropic_ask import (
    body_of,
    call_of,
    function,
    native,
    request,
    warned,
)


def test_the_shortest_request() -> None:
    call = call_of(request())
    assert (call.method, call.path) == ("POST", "/messages")
    assert call.headers == {"content-type": "application/json", "anthropic-version": "2023-06-01"}
    assert call.warnings == ()
    assert json.loads(call.body) == {
        "model": "claude-sonnet-4-5",
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
    }
    assert json.loads(call_of(request(), stream=True).body)["stream"] is True


def test_max_tokens_is_asked_for_or_the_models_most_or_a_constant() -> None:
    card = v1.Model(limits=v1.ModelLimits(max_output_tokens=64000))
    known = Target(provider="anthropic", model="claude-sonnet-4-5", card=card)
    assert body_of(request(sampling=v1.SamplingOptions(max_output_tokens=0)), known)["max_tokens"] == 0
    assert body_of(request(sampling=v1.SamplingOptions(max_output_tokens=7)), known)["max_tokens"] == 7
    assert body_of(request(), known)["max_tokens"] == 64000
    assert body_of(request())["max_tokens"] == 4096


class TestTools:
    def test_functions_and_tools_of_the_provider(self) -> None:
        schema = '{"type":"object","properties":{"z":{},"a":{}}}'
        tools = [
            function("f", description="does", parameters_json_schema=schema, strict=True),
            function("g"),
            native(type="web_search_20260318", name="web_search"),
            v1.Tool(provider_tool=v1.ProviderTool(provider="openai", json="{}")),
        ]
        call = call_of(request(tools=tools))
        assert json.loads(call.body)["tools"] == [
            {"name": "f", "description": "does", "input_schema": json.loads(schema), "strict": True},
            {"name": "g", "input_schema": {"type": "object", "properties": {}}},
            {"type": "web_search_20260318", "name": "web_search"},
        ]
        assert schema.encode() in call.body
        assert [(w.field, w.code) for w in call.warnings] == [("tools[3]", "PROVIDER_TOOL_DROPPED")]

    @pytest.mark.parametrize(
        ("choice", "said"),
        [
            ({}, None),
            ({"mode": v1.ToolChoice.MODE_AUTO}, {"type": "auto"}),
            ({"mode": v1.ToolChoice.MODE_NONE}, {"type": "none"}),
            ({"mode": v1.ToolChoice.MODE_REQUIRED}, {"type": "any"}),
            ({"mode": v1.ToolChoice.MODE_REQUIRED, "allowed_tool_names": ["f"]}, {"type": "tool", "name": "f"}),
            ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
            (
                {"mode": v1.ToolChoice.MODE_REQUIRED, "parallel_tool_calls": True},
                {"type": "any", "disable_parallel_tool_use": False},
            ),
        ],
    )
    def test_choices(self, choice: dict[str, Any], said: dict[str, Any] | None) -> None:
        body = body_of(request(tools=[function("f"), function("g")], tool_choice=v1.ToolChoice(**choice)))
        assert body.get("tool_choice") == said
        assert [tool["name"] for tool in body["tools"]] == ["f", "g"]

    def test_a_subset_is_made_by_listing_no_others(self) -> None:
        tools = [function("f"), native(type="web_search_20260318", name="web_search"), function("g")]
        choice = v1.ToolChoice(allowed_tool_names=["g", "web_search"])
        asked = request(tools=tools, tool_choice=choice)
        assert [tool["name"] for tool in body_of(asked)["tools"]] == ["web_search", "g"]
        assert warned(asked) == [("tool_choice.allowed_tool_names", "TOOL_NOT_LISTED")]
        asked.unsupported_policy = v1.UNSUPPORTED_POLICY_ERROR
        assert body_of(asked)["tools"], "the wish is met, so there is nothing to refuse"

    def test_a_call_cannot_be_forced_on_models_that_always_think(self) -> None:
        choice = v1.ToolChoice(mode=v1.ToolChoice.MODE_REQUIRED, allowed_tool_names=["g"])
        asked = request(tools=[function("f"), function("g")], tool_choice=choice)
        body = body_of(asked, Target("anthropic", "claude-opus-5-5"))
        assert body["tool_choice"] == {"type": "auto"}
        assert [tool["name"] for tool in body["tools"]] == ["g"]
        assert ("tool_choice.mode", "UNSUPPORTED_PARAMETER") in warned(asked, Target("anthropic", "claude-opus-5-5"))

    def test_a_call_cannot_be_forced_while_thinking_on_a_budget(self) -> None:
        asked = request(
            tools=[function("f")],
            tool_choice=v1.ToolChoice(mode=v1.ToolChoice.MODE_REQUIRED),
            reasoning=v1.ReasoningOptions(budget_tokens=2000),
        )
        assert body_of(asked)["tool_choice"] == {"type": "auto"}
        assert warned(asked) == [("tool_choice.mode", "UNSUPPORTED_PARAMETER")]

    def test_without_tools_there_is_no_choice(self) -> None:
        asked = request(tool_choice=v1.ToolChoice(mode=v1.ToolChoice.MODE_REQUIRED))
        assert "tool_choice" not in body_of(asked)
        assert warned(asked) == [("tool_choice.mode", "UNSUPPORTED_PARAMETER")]


class TestOptions:
    def test_sampling_goes_out_as_it_is(self) -> None:
        sampling = v1.SamplingOptions(temperature=0.7, top_p=0, top_k=0, stop_sequences=["END"])
        body = body_of(request(sampling=sampling))
        assert {name: body[name] for name in ("temperature", "top_p", "top_k", "stop_sequences")} == {
            "temperature": 0.7,
            "top_p": 0,
            "top_k": 0,
            "stop_sequences": ["END"],
        }

    def test_models_without_sampling_parameters_get_none(self) -> None:
        target = Target("anthropic", "claude-opus-4-8")
        asked = request(sampling=v1.SamplingOptions(temperature=0.7, top_p=1, stop_sequences=["END"]))
        body = body_of(asked, target)
        assert body.keys() >= {"stop_sequences"}
        assert not body.keys() & {"temperature", "top_p"}
        assert warned(asked, target) == [("sampling.temperature", "UNSUPPORTED_PARAMETER")]

    def test_everything_that_cannot_be_said_is_unmet(self) -> None:
        asked = request(
            sampling=v1.SamplingOptions(
                min_p=0.1,
                frequency_penalty=1,
                presence_penalty=-1,
                repetition_penalty=1.1,
                seed=0,
                logit_bias={5: 1.0},
                top_logprobs=0,
            ),
            output=v1.OutputOptions(json_object=v1.JsonObjectFormat(), verbosity="low", predicted_text="x"),
            prompt_cache=v1.PromptCacheOptions(key="k"),
        )
        fields = {field for field, _ in warned(asked)}
        assert fields == {
            *(f"sampling.{name}" for name in ("min_p", "frequency_penalty", "presence_penalty", "repetition_penalty")),
            *(f"sampling.{name}" for name in ("seed", "logit_bias", "top_logprobs")),
            *(f"output.{name}" for name in ("json_object", "verbosity", "predicted_text")),
            "prompt_cache.key",
        }
        asked.unsupported_policy = v1.UNSUPPORTED_POLICY_ERROR
        with pytest.raises(UnsupportedParameter) as raised:
            call_of(asked)
        assert {violation.field for violation in raised.value.violations} == fields

    def test_penalties_of_nothing_wish_nothing(self) -> None:
        assert warned(request(sampling=v1.SamplingOptions(frequency_penalty=0, repetition_penalty=1))) == []

    def test_structured_output(self) -> None:
        schema = '{"type":"object","properties":{"z":{"type":"string"},"a":{"type":"string"}}}'
        form = v1.JsonSchemaFormat(name="n", json_schema=schema, strict=True)
        call = call_of(request(output=v1.OutputOptions(json_schema=form)))
        assert json.loads(call.body)["output_config"] == {
            "format": {"type": "json_schema", "schema": json.loads(schema)}
        }
        assert schema.encode() in call.body
        assert call.warnings == ()

    def test_who_and_how_fast(self) -> None:
        body = body_of(request(end_user_id="u-1", routing=v1.RoutingOptions(service_tier="standard_only")))
        assert body["metadata"] == {"user_id": "u-1"}
        assert body["service_tier"] == "standard_only"

    def test_provider_options_are_merged_last(self) -> None:
        options = {
            "max_tokens": 9,
            "container": "c",
            "model": "x",
            "messages": [],
            "stream": True,
            "metadata": {"a": 1},
        }
        asked = request(end_user_id="u-1", provider_options_json={"anthropic": json.dumps(options), "openai": "{}"})
        body = body_of(asked)
        assert (body["max_tokens"], body["container"]) == (9, "c")
        assert body["metadata"] == {"user_id": "u-1", "a": 1}
        assert (body["model"], body["messages"] != [], "stream" in body) == ("claude-sonnet-4-5", True, False)

    def test_betas_and_versions_are_headers(self) -> None:
        options = {
            "anthropic_beta": ["a-2025-01-01", "b-2026-01-01"],
            "anthropic_version": "2026-10-21",
            "speed": "fast",
        }
        call = call_of(request(provider_options_json={"anthropic": json.dumps(options)}))
        assert call.headers["anthropic-beta"] == "a-2025-01-01,b-2026-01-01"
        assert call.headers["anthropic-version"] == "2026-10-21"
        assert json.loads(call.body).keys() == {"model", "max_tokens", "messages", "speed"}

    @pytest.mark.parametrize("value", ["a\r\nx-evil: 1", "", [], ["é"], {"a": 1}, 5.5e99])
    def test_a_header_cannot_be_smuggled_in(self, value: Any) -> None:
        options = json.dumps({"anthropic_beta": value})
        with pytest.raises(InvalidRequest) as raised:
            call_of(request(provider_options_json={"anthropic": options}))
        assert raised.value.violations[0].field == "provider_options_json[anthropic].anthropic_beta"

    def test_a_stream_has_no_body_to_return(self) -> None:
        asked = request(include_provider_response=True)
        assert warned(asked) == []
        assert [w.field for w in call_of(asked, stream=True).warnings] == ["include_provider_response"]
