"""Requests as bodies of Converse: tools, thinking by family, caching, output, and what is left out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from parley import v1
from parley_server.core.errors import InvalidRequest, UnsupportedParameter
from parley_server.core.target import Target
from tests.dialects.bedrock_ask import (
    ASSISTANT,
    CALL,
    HI,
    SYSTEM,
    TOOL,
    USER,
    body_of,
    cached,
    call_of,
    function,
    native,
    pdf,
    request,
    result,
    turn,
    warned,
)
from tests.dialects.bedrock_wire import CLAUDE, NOVA

OSS = Target("bedrock", "openai.gpt-oss-120b-1:0")
QWEN = Target("bedrock", "qwen.qwen3-32b-v1:0")
LLAMA = Target("bedrock", "us.meta.llama3-3-70b-instruct-v1:0")
SONNET_4_6 = Target("bedrock", "global.anthropic.claude-sonnet-4-6")
OPUS_5_5 = Target("bedrock", "us.anthropic.claude-opus-5-5")
HAIKU_3 = Target("bedrock", "anthropic.claude-3-haiku-20240307-v1:0")
PROFILE = "arn:aws:bedrock:us-east-1:000000000000:application-inference-profile/1arbu5hu2sjr"
MODE = v1.ToolChoice
EFFORT = {name: getattr(v1, f"REASONING_EFFORT_{name.upper()}") for name in ("none", "minimal", "low", "high", "max")}
FIELDS = "additionalModelRequestFields"


# --------------------------------------------------------------------------------------------------------------- paths


@pytest.mark.parametrize(
    ("model", "segment"),
    [
        ("amazon.nova-lite-v1:0", "amazon.nova-lite-v1%3A0"),
        (PROFILE, PROFILE.replace(":", "%3A").replace("/", "%2F")),
    ],
)
def test_the_name_of_the_model_is_one_segment_of_the_path(model: str, segment: str) -> None:
    target = Target("bedrock", model)
    assert call_of(request(), target).path == f"/model/{segment}/converse"
    assert call_of(request(), target, stream=True).path == f"/model/{segment}/converse-stream"
    assert body_of(request(), target) == {"messages": [{"role": "user", "content": [{"text": "hi"}]}]}


# --------------------------------------------------------------------------------------------------------------- tools


def test_functions_and_tools_of_the_provider() -> None:
    tools = [
        function("f", description="does", parameters_json_schema='{"type":"object","b":1,"a":2}', strict=True),
        function("g"),
        native(systemTool={"name": "nova_code_interpreter"}),
        v1.Tool(provider_tool=v1.ProviderTool(provider="openai", json="{}")),
    ]
    call = call_of(request(tools=tools), NOVA)
    assert json.loads(call.body)["toolConfig"] == {
        "tools": [
            {
                "toolSpec": {
                    "name": "f",
                    "description": "does",
                    "inputSchema": {"json": {"type": "object", "b": 1, "a": 2}},
                    "strict": True,
                }
            },
            {"toolSpec": {"name": "g", "inputSchema": {"json": {"type": "object", "properties": {}}}}},
            {"systemTool": {"name": "nova_code_interpreter"}},
        ]
    }
    assert b'"b":1,"a":2' in call.body
    assert [(w.field, w.code) for w in call.warnings] == [("tools[3]", "PROVIDER_TOOL_DROPPED")]
    with pytest.raises(InvalidRequest):
        call_of(request(tools=[v1.Tool(provider_tool=v1.ProviderTool(provider="bedrock", json="[]"))]))


def chosen(choice: v1.ToolChoice, target: Target = CLAUDE, **fields: Any) -> tuple[Any, list[str], list[str]]:
    """`toolChoice`, names of the tools, and codes of the warnings."""
    asked = request(tools=[function("f"), function("g")], tool_choice=choice, **fields)
    config = body_of(asked, target).get("toolConfig", {"tools": []})
    names = [tool["toolSpec"]["name"] for tool in config["tools"]]
    return config.get("toolChoice"), names, [code for _, code in warned(asked, target)]


def test_choices_among_tools() -> None:
    both = ["f", "g"]
    assert chosen(v1.ToolChoice(mode=MODE.MODE_AUTO)) == (None, both, [])
    assert chosen(v1.ToolChoice(mode=MODE.MODE_REQUIRED)) == ({"any": {}}, both, [])
    one = v1.ToolChoice(mode=MODE.MODE_REQUIRED, allowed_tool_names=["g"])
    assert chosen(one) == ({"tool": {"name": "g"}}, both, [])
    assert chosen(v1.ToolChoice(allowed_tool_names=["g"])) == (None, ["g"], ["TOOL_NOT_LISTED"])
    assert chosen(v1.ToolChoice(mode=MODE.MODE_REQUIRED), LLAMA) == (None, both, ["UNSUPPORTED_PARAMETER"])
    thinking = v1.ReasoningOptions(budget_tokens=2000)
    assert chosen(v1.ToolChoice(mode=MODE.MODE_REQUIRED), reasoning=thinking)[::2] == (None, ["UNSUPPORTED_PARAMETER"])
    assert chosen(v1.ToolChoice(parallel_tool_calls=False))[2] == ["UNSUPPORTED_PARAMETER"]
    assert warned(request(tool_choice=v1.ToolChoice(mode=MODE.MODE_REQUIRED))) == [
        ("tool_choice.mode", "UNSUPPORTED_PARAMETER")
    ]


def test_no_calls_means_no_tools_unless_the_history_has_some() -> None:
    none = v1.ToolChoice(mode=MODE.MODE_NONE)
    assert chosen(none) == (None, [], [])
    asked = request(HI, turn(ASSISTANT, CALL), turn(TOOL, result("ok")), tools=[function("f")], tool_choice=none)
    assert body_of(asked)["toolConfig"]["tools"][0]["toolSpec"]["name"] == "f"
    assert warned(asked) == [("tool_choice.mode", "UNSUPPORTED_PARAMETER")]


def test_a_history_with_calls_has_tools_declared() -> None:
    asked = request(HI, turn(ASSISTANT, CALL), turn(TOOL, result("ok")))
    assert body_of(asked)["toolConfig"] == {
        "tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object"}}}}]
    }
    assert warned(asked) == [("tools", "TOOL_PLACEHOLDER")]


# ------------------------------------------------------------------------------------------------------------ thinking


def budget(tokens: int) -> dict[str, Any]:
    """What Claude is told to spend."""
    return {"thinking": {"type": "enabled", "budget_tokens": tokens}}


def nova(effort: str) -> dict[str, Any]:
    """How hard Nova is told to think."""
    return {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": effort}}


def asked_to_think(target: Target, limit: int | None = None, **options: Any) -> tuple[Any, list[tuple[str, str]]]:
    """The model's own fields, and the warnings."""
    asked = request(reasoning=v1.ReasoningOptions(**options))
    if limit is not None:
        asked.sampling.max_output_tokens = limit
    return body_of(asked, target).get(FIELDS), warned(asked, target)


@pytest.mark.parametrize(
    ("target", "options", "fields"),
    [
        (CLAUDE, {"budget_tokens": 2000}, {"thinking": {"type": "enabled", "budget_tokens": 2000}}),
        (CLAUDE, {"effort": EFFORT["none"]}, {"thinking": {"type": "disabled"}}),
        (CLAUDE, {"budget_tokens": 0}, {"thinking": {"type": "disabled"}}),
        (
            SONNET_4_6,
            {"effort": EFFORT["high"]},
            {"output_config": {"effort": "high"}, "thinking": {"type": "adaptive"}},
        ),
        (SONNET_4_6, {"budget_tokens": 2000}, {"thinking": {"type": "enabled", "budget_tokens": 2000}}),
        (OPUS_5_5, {"visibility": 2}, {"thinking": {"type": "adaptive", "display": "summarized"}}),
        (NOVA, {"effort": EFFORT["low"]}, {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}}),
        (NOVA, {"effort": EFFORT["none"]}, {"reasoningConfig": {"type": "disabled"}}),
        (OSS, {"effort": EFFORT["high"]}, {"reasoning_effort": "high"}),
        (QWEN, {"effort": EFFORT["low"]}, {"reasoning_config": "low"}),
        (LLAMA, {"effort": EFFORT["none"]}, None),
    ],
)
def test_thinking_in_the_words_of_the_family(target: Target, options: dict[str, Any], fields: Any) -> None:
    assert asked_to_think(target, **options) == (fields, [])


@pytest.mark.parametrize(
    ("target", "limit", "options", "fields", "code"),
    [
        (CLAUDE, None, {"effort": EFFORT["high"]}, budget(16384), "CLAMPED"),
        (CLAUDE, 4000, {"effort": EFFORT["high"]}, budget(2976), "CLAMPED"),
        (CLAUDE, 1000, {"effort": EFFORT["high"]}, None, "UNSUPPORTED_PARAMETER"),
        (CLAUDE, 1500, {"budget_tokens": 9000}, budget(1499), "CLAMPED"),
        (CLAUDE, 1000, {"budget_tokens": 9000}, None, "UNSUPPORTED_PARAMETER"),
        (CLAUDE, None, {"budget_tokens": 10}, budget(1024), "CLAMPED"),
        (OPUS_5_5, None, {"effort": EFFORT["none"]}, {"output_config": {"effort": "low"}}, "CLAMPED"),
        (HAIKU_3, None, {"effort": EFFORT["high"]}, None, "UNSUPPORTED_PARAMETER"),
        (HAIKU_3, None, {"visibility": 2}, None, "UNSUPPORTED_PARAMETER"),
        (NOVA, None, {"effort": EFFORT["max"]}, nova("high"), "CLAMPED"),
        (NOVA, None, {"budget_tokens": 500}, None, "UNSUPPORTED_PARAMETER"),
        (OSS, None, {"effort": EFFORT["none"]}, {"reasoning_effort": "low"}, "CLAMPED"),
        (QWEN, None, {"effort": EFFORT["minimal"]}, {"reasoning_config": "low"}, "CLAMPED"),
        (QWEN, None, {"effort": EFFORT["none"]}, None, "UNSUPPORTED_PARAMETER"),
        (LLAMA, None, {"effort": EFFORT["low"]}, None, "UNSUPPORTED_PARAMETER"),
        (LLAMA, None, {"visibility": 1}, None, "UNSUPPORTED_PARAMETER"),
    ],
)
def test_thinking_that_a_family_cannot_do_as_asked(
    target: Target, limit: int | None, options: dict[str, Any], fields: Any, code: str
) -> None:
    found, warnings = asked_to_think(target, limit, **options)
    assert found == fields
    assert code in [said for _, said in warnings]


def test_nova_takes_no_sampling_while_it_thinks_hard() -> None:
    hard = v1.ReasoningOptions(effort=v1.REASONING_EFFORT_HIGH)
    asked = request(reasoning=hard, sampling=v1.SamplingOptions(temperature=0.5, max_output_tokens=9))
    assert body_of(asked, NOVA)[FIELDS] == nova("medium")
    assert warned(asked, NOVA) == [("reasoning.effort", "CLAMPED")]
    assert body_of(request(reasoning=hard, sampling=v1.SamplingOptions(max_output_tokens=9)), NOVA)[FIELDS] == nova(
        "high"
    )


def test_an_operator_says_what_a_profile_stands_for() -> None:
    anonymous = Target("bedrock", PROFILE)
    known = Target("bedrock", PROFILE, base_model="anthropic.claude-sonnet-4-6")
    assert asked_to_think(anonymous, effort=EFFORT["low"])[0] is None
    assert asked_to_think(known, effort=EFFORT["low"])[0]["thinking"] == {"type": "adaptive"}


# ------------------------------------------------------------------------------------------------- sampling and output


def test_sampling() -> None:
    sampling = v1.SamplingOptions(max_output_tokens=9, temperature=0.5, top_p=0.9, top_k=3, stop_sequences=["x"])
    body = body_of(request(sampling=sampling))
    assert body["inferenceConfig"] == {"maxTokens": 9, "temperature": 0.5, "topP": 0.9, "stopSequences": ["x"]}
    assert body[FIELDS] == {"top_k": 3}
    assert body_of(request(sampling=sampling), NOVA)[FIELDS] == {"inferenceConfig": {"topK": 3}}
    assert warned(request(sampling=sampling), LLAMA) == [("sampling.top_k", "UNSUPPORTED_PARAMETER")]
    newest = [field for field, _ in warned(request(sampling=sampling), OPUS_5_5)]
    assert newest == ["sampling.temperature", "sampling.top_p", "sampling.top_k"]
    others = v1.SamplingOptions(seed=1, min_p=0.1, frequency_penalty=0, presence_penalty=1)
    assert [field for field, _ in warned(request(sampling=others))] == [
        "sampling.min_p",
        "sampling.presence_penalty",
        "sampling.seed",
    ]


def test_structured_output_carries_its_schema_as_text() -> None:
    schema = '{"type":"object","b":1,"a":2}'
    form = v1.JsonSchemaFormat(name="city", json_schema=schema, description="a city")
    body = body_of(request(output=v1.OutputOptions(json_schema=form)))
    assert body["outputConfig"]["textFormat"] == {
        "type": "json_schema",
        "structure": {"jsonSchema": {"schema": schema, "name": "city", "description": "a city"}},
    }
    loose = v1.OutputOptions(json_object=v1.JsonObjectFormat(), verbosity="low", predicted_text="x")
    assert [field for field, _ in warned(request(output=loose))] == [
        "output.json_object",
        "output.verbosity",
        "output.predicted_text",
    ]


def test_tier_options_and_the_rest() -> None:
    options = json.dumps({"guardrailConfig": {"guardrailIdentifier": "g"}, "messages": [], FIELDS: {"x": 1}})
    asked = request(
        routing=v1.RoutingOptions(service_tier="flex"),
        sampling=v1.SamplingOptions(top_k=3),
        provider_options_json={"bedrock": options, "other": "{}"},
        end_user_id="u",
    )
    body = body_of(asked)
    assert body["serviceTier"] == {"type": "flex"}
    assert body["guardrailConfig"] == {"guardrailIdentifier": "g"}
    assert body[FIELDS] == {"top_k": 3, "x": 1}
    assert len(body["messages"]) == 1
    assert [field for field, _ in warned(asked)] == ["end_user_id"]
    asked.unsupported_policy = v1.UNSUPPORTED_POLICY_ERROR
    with pytest.raises(UnsupportedParameter):
        call_of(asked)
    whole = call_of(request(include_provider_response=True), stream=True)
    assert [warning.field for warning in whole.warnings] == ["include_provider_response"]


# ------------------------------------------------------------------------------------------------------------- caching

POINT = {"cachePoint": {"type": "default"}}


def points(body: dict[str, Any]) -> list[str]:
    lists = [body.get("toolConfig", {}).get("tools", []), body.get("system", [])]
    lists += [message["content"] for message in body["messages"]]
    return [block["cachePoint"].get("ttl", "") for blocks in lists for block in blocks if "cachePoint" in block]


def test_cache_points_behind_tools_instructions_and_parts() -> None:
    tool = function("f")
    tool.cache_breakpoint.SetInParent()
    asked = request(turn(SYSTEM, cached("Be brief.")), turn(USER, cached("long"), "short"), tools=[tool])
    body = body_of(asked)
    assert body["toolConfig"]["tools"][1:] == [POINT]
    assert body["system"] == [{"text": "Be brief."}, POINT]
    assert body["messages"][0]["content"] == [{"text": "long"}, POINT, {"text": "short"}]
    assert body_of(asked, NOVA)["toolConfig"]["tools"][1:] == []
    assert warned(asked, NOVA) == [("tools[0].cache_breakpoint", "UNSUPPORTED_PARAMETER")]
    assert points(body_of(asked, LLAMA)) == []
    assert len(warned(asked, LLAMA)) == 3
    asked.prompt_cache.mode = v1.PromptCacheOptions.MODE_OFF
    assert points(body_of(asked)) == []


def test_lifetimes_are_those_on_offer_and_never_grow() -> None:
    asked = request(turn(USER, cached("a"), cached("b", 1800), cached("c", 60)))
    assert points(body_of(asked)) == ["1h", "1h", "5m"]
    assert [code for _, code in warned(asked)] == ["CLAMPED", "CLAMPED", "CLAMPED"]
    hour = v1.PromptCacheOptions(key="k", mode=v1.PromptCacheOptions.MODE_AUTO)
    hour.ttl.FromSeconds(3600)
    asked = request(turn(USER, cached("a")), prompt_cache=hour)
    assert points(body_of(asked)) == ["1h"]
    assert [field for field, _ in warned(asked)] == ["prompt_cache.mode", "prompt_cache.key"]
    assert points(body_of(asked, NOVA)) == [""]


def test_the_oldest_of_too_many_go() -> None:
    asked = request(turn(SYSTEM, cached("s")), turn(USER, *(cached(str(number)) for number in range(4))))
    body = body_of(asked)
    assert body["system"] == [{"text": "s"}]
    assert len(points(body)) == 4
    assert warned(asked) == [("prompt_cache", "CACHE_BREAKPOINTS_DROPPED")]


def test_no_cache_point_follows_a_document_or_leads_a_turn() -> None:
    asked = request(turn(USER, "read", pdf("A"), cached(pdf("B"))))
    content = body_of(asked)["messages"][0]["content"]
    assert [next(iter(block)) for block in content] == ["text", "cachePoint", "document", "document"]
    assert warned(asked) == [("messages[0].parts[2].cache_breakpoint", "CLAMPED")]
    asked = request(turn(USER, cached(pdf("A")), "read"))
    assert points(body_of(asked)) == []
    assert warned(asked) == [("messages[0].parts[0].cache_breakpoint", "UNSUPPORTED_PARAMETER")]


def test_points_in_results_go_behind_them_and_reasoning_ends_no_prefix() -> None:
    asked = request(HI, turn(ASSISTANT, CALL), turn(TOOL, result(cached("done")), "and"))
    content = body_of(asked)["messages"][2]["content"]
    assert [next(iter(block)) for block in content] == ["toolResult", "cachePoint", "text"]
    state = v1.ReplayState(provider="bedrock", data=b"s")
    thought = cached(v1.Part(reasoning=v1.ReasoningPart(text="hm"), replay_state=state))
    asked = request(HI, turn(ASSISTANT, thought, CALL), turn(TOOL, result("done")))
    assert points(body_of(asked)) == []
    assert ("messages[1].parts[0].cache_breakpoint", "UNSUPPORTED_PARAMETER") in warned(asked)
