"""What Ollama is asked, for what our requests say: tools and options."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from parley import v1
from tests.dialects.ollama_ask import body, left_out, made, refused


@pytest.mark.parametrize("stream", [False, True])
def test_shortest_request_says_whether_to_stream(stream: bool) -> None:
    found = made(v1.ChatRequest(), stream=stream)
    assert (found.method, found.path, found.warnings) == ("POST", "/api/chat", ())
    assert found.headers["content-type"] == "application/json"
    assert json.loads(found.body) == {
        "model": "qwen3:4b",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": stream,
    }


def tool(name: str, **fields: Any) -> v1.Tool:
    return v1.Tool(function=v1.FunctionTool(name=name, **fields))


class TestTools:
    def test_functions(self) -> None:
        schema = '{"type":"object","properties":{"z":{},"a":{}}}'
        request = v1.ChatRequest(tools=[tool("f", description="does", parameters_json_schema=schema), tool("g")])
        assert schema.encode() in made(request).body
        assert body(request)["tools"] == [
            {"type": "function", "function": {"name": "f", "description": "does", "parameters": json.loads(schema)}},
            {"type": "function", "function": {"name": "g", "parameters": {"type": "object", "properties": {}}}},
        ]
        assert left_out(request) == {}

    def test_none_lists_no_tools(self) -> None:
        request = v1.ChatRequest(tools=[tool("f")], tool_choice=v1.ToolChoice(mode=v1.ToolChoice.MODE_NONE))
        assert "tools" not in body(request)
        assert left_out(request) == {}

    def test_what_is_not_allowed_is_not_listed(self) -> None:
        request = v1.ChatRequest(tools=[tool("f"), tool("g")], tool_choice=v1.ToolChoice(allowed_tool_names=["g"]))
        assert [one["function"]["name"] for one in body(request)["tools"]] == ["g"]
        assert left_out(request) == {"tools[0]": "TOOL_NOT_LISTED"}
        request.unsupported_policy = v1.UNSUPPORTED_POLICY_ERROR  # the wish is met: nothing to refuse
        assert left_out(request) == {"tools[0]": "TOOL_NOT_LISTED"}

    def test_what_cannot_be_asked_of_tools(self) -> None:
        choice = v1.ToolChoice(mode=v1.ToolChoice.MODE_REQUIRED, parallel_tool_calls=False)
        request = v1.ChatRequest(tools=[tool("f", strict=True)], tool_choice=choice)
        request.tools[0].cache_breakpoint.SetInParent()
        assert set(left_out(request)) == {
            "tool_choice.mode",
            "tool_choice.parallel_tool_calls",
            "tools[0].function.strict",
            "tools[0].cache_breakpoint",
        }
        assert len(body(request)["tools"]) == 1

    def test_tools_of_providers(self) -> None:
        own = v1.Tool(provider_tool=v1.ProviderTool(provider="ollama", json='{"type":"web_search"}'))
        foreign = v1.Tool(provider_tool=v1.ProviderTool(provider="openai", json="{}"))
        request = v1.ChatRequest(tools=[own, foreign])
        assert body(request)["tools"] == [{"type": "web_search"}]
        assert set(left_out(request)) == {"tools[1]"}


class TestOptions:
    def test_sampling(self) -> None:
        sampling = v1.SamplingOptions(
            max_output_tokens=100,
            temperature=0.7,
            top_p=0.9,
            top_k=40,
            min_p=0.05,
            frequency_penalty=0.5,
            presence_penalty=-0.5,
            repetition_penalty=1.1,
            seed=2**40,
            stop_sequences=["END", "###"],
            top_logprobs=3,
        )
        request = v1.ChatRequest(sampling=sampling)
        said = body(request)
        assert said["options"] == {
            "num_predict": 100,
            "temperature": 0.7,
            "top_p": 0.9,
            "top_k": 40,
            "min_p": 0.05,
            "frequency_penalty": 0.5,
            "presence_penalty": -0.5,
            "repeat_penalty": 1.1,
            "seed": 2**40,
            "stop": ["END", "###"],
        }
        assert (said["logprobs"], said["top_logprobs"]) == (True, 3)
        assert left_out(request) == {}

    def test_zeros_are_said(self) -> None:
        request = v1.ChatRequest(sampling=v1.SamplingOptions(temperature=0, seed=0, top_logprobs=0))
        said = body(request)
        assert said["options"] == {"temperature": 0.0, "seed": 0}
        assert said["logprobs"] is True
        assert "top_logprobs" not in said

    @pytest.mark.parametrize(
        ("effort", "think", "clamped"),
        [
            (v1.REASONING_EFFORT_NONE, False, False),
            (v1.REASONING_EFFORT_MINIMAL, "low", True),
            (v1.REASONING_EFFORT_LOW, "low", False),
            (v1.REASONING_EFFORT_MEDIUM, "medium", False),
            (v1.REASONING_EFFORT_HIGH, "high", False),
            (v1.REASONING_EFFORT_XHIGH, "max", True),
            (v1.REASONING_EFFORT_MAX, "max", False),
        ],
    )
    def test_efforts(self, effort: v1.ReasoningEffort.ValueType, think: Any, clamped: bool) -> None:
        request = v1.ChatRequest(reasoning=v1.ReasoningOptions(effort=effort))
        assert body(request)["think"] == think
        assert left_out(request) == ({"reasoning.effort": "CLAMPED"} if clamped else {})

    @pytest.mark.parametrize(
        ("reasoning", "think", "unmet"),
        [
            (v1.ReasoningOptions(budget_tokens=0), False, set()),
            (v1.ReasoningOptions(budget_tokens=9), True, {"reasoning.budget_tokens"}),
            (
                v1.ReasoningOptions(budget_tokens=9, effort=v1.REASONING_EFFORT_LOW),
                "low",
                {"reasoning.budget_tokens"},
            ),
            (v1.ReasoningOptions(visibility=v1.ReasoningOptions.VISIBILITY_FULL), None, set()),
            (v1.ReasoningOptions(visibility=v1.ReasoningOptions.VISIBILITY_SUMMARY), None, {"reasoning.visibility"}),
            (v1.ReasoningOptions(visibility=v1.ReasoningOptions.VISIBILITY_OMITTED), None, {"reasoning.visibility"}),
        ],
    )
    def test_budget_and_visibility(self, reasoning: v1.ReasoningOptions, think: Any, unmet: set[str]) -> None:
        request = v1.ChatRequest(reasoning=reasoning)
        assert body(request).get("think") == think
        assert set(left_out(request)) == unmet

    def test_json_objects_and_schemas(self) -> None:
        assert body(v1.ChatRequest(output=v1.OutputOptions(json_object=v1.JsonObjectFormat())))["format"] == "json"
        assert "format" not in body(v1.ChatRequest(output=v1.OutputOptions(text=v1.TextFormat())))
        schema = '{"type":"object","required":["b","a"]}'
        output = v1.OutputOptions(json_schema=v1.JsonSchemaFormat(name="n", json_schema=schema, strict=True))
        request = v1.ChatRequest(output=output)
        assert schema.encode() in made(request).body
        assert body(request)["format"] == json.loads(schema)
        assert left_out(request) == {}

    def test_wishes_there_is_no_word_for(self) -> None:
        request = v1.ChatRequest(
            sampling=v1.SamplingOptions(logit_bias={1: 2.0}),
            output=v1.OutputOptions(
                verbosity="low",
                predicted_text="x",
                json_schema=v1.JsonSchemaFormat(json_schema="{}", description="what for"),
            ),
            prompt_cache=v1.PromptCacheOptions(key="k", ttl=Duration(seconds=60)),
            routing=v1.RoutingOptions(service_tier="flex"),
            end_user_id="u",
        )
        fields = {
            "sampling.logit_bias",
            "output.verbosity",
            "output.predicted_text",
            "output.json_schema.description",
            "prompt_cache.key",
            "prompt_cache.ttl",
            "routing.service_tier",
            "end_user_id",
        }
        assert set(left_out(request)) == fields
        request.unsupported_policy = v1.UNSUPPORTED_POLICY_ERROR
        assert set(refused(request)) == fields

    def test_provider_options_are_merged_and_cannot_change_what_is_ours(self) -> None:
        options = {
            "keep_alive": "10m",
            "options": {"num_ctx": 8192, "temperature": None},
            "think": True,
            "model": "other",
            "messages": [],
            "stream": True,
        }
        request = v1.ChatRequest(
            sampling=v1.SamplingOptions(temperature=1, top_k=5),
            provider_options_json={"ollama": json.dumps(options), "openai": '{"x":1}'},
        )
        assert body(request) == {
            "model": "qwen3:4b",
            "messages": [{"role": "user", "content": "hi"}],
            "stream": False,
            "options": {"top_k": 5, "num_ctx": 8192},
            "keep_alive": "10m",
            "think": True,
        }
