"""Every documented limit is enforced, with the path of the field, and nothing within the limits is refused."""

from __future__ import annotations

import json
import math

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from parley import v1
from parley_server.api import validate

TEXT = v1.Part(text="hi")


def user(*parts: v1.Part) -> v1.Message:
    return v1.Message(role=v1.ROLE_USER, parts=parts or (TEXT,))


def ask(**fields: object) -> v1.ChatRequest:
    return v1.ChatRequest(**{"model": "mock/echo", "messages": [user()], **fields})  # type: ignore[arg-type]


def function(name: str = "f", schema: str = "") -> v1.Tool:
    return v1.Tool(function=v1.FunctionTool(name=name, parameters_json_schema=schema))


def image(**source: object) -> v1.Part:
    return v1.Part(image=v1.ImagePart(source=v1.MediaSource(**source)))  # type: ignore[arg-type]


def result(call_id: str, *parts: v1.Part) -> v1.Message:
    return v1.Message(role=v1.ROLE_TOOL, parts=[v1.Part(tool_result=v1.ToolResult(tool_call_id=call_id, parts=parts))])


def call(**fields: str) -> v1.Message:
    return v1.Message(role=v1.ROLE_ASSISTANT, parts=[v1.Part(tool_call=v1.ToolCall(**fields))])


def nested(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


def sampling(**fields: object) -> v1.ChatRequest:
    return ask(sampling=v1.SamplingOptions(**fields))  # type: ignore[arg-type]


REFUSED = {
    "no_model": (ask(model=""), "model"),
    "long_model": (ask(model="m" * 257), "model"),
    "no_messages": (v1.ChatRequest(model="m"), "messages"),
    "too_many_messages": (ask(messages=[user()] * 10_001), "messages"),
    "no_role": (ask(messages=[v1.Message(parts=[TEXT])]), "messages[0].role"),
    "unknown_role": (ask(messages=[user(), v1.Message(role=77, parts=[TEXT])]), "messages[1].role"),  # type: ignore[arg-type]
    "no_parts": (ask(messages=[v1.Message(role=v1.ROLE_USER)]), "messages[0].parts"),
    "thousand_and_one_parts": (ask(messages=[user(*[TEXT] * 1001)]), "messages[0].parts"),
    "empty_part": (ask(messages=[user(TEXT, v1.Part())]), "messages[0].parts[1]"),
    "bad_participant": (ask(messages=[v1.Message(role=v1.ROLE_USER, parts=[TEXT], name="a b")]), "messages[0].name"),
    "image_by_system": (
        ask(messages=[v1.Message(role=v1.ROLE_SYSTEM, parts=[image(uri="https://x/y")])]),
        "messages[0].parts[0]",
    ),
    "tool_call_by_user": (
        ask(messages=[user(v1.Part(tool_call=v1.ToolCall(id="1", name="f")))]),
        "messages[0].parts[0]",
    ),
    "text_by_tool": (ask(messages=[v1.Message(role=v1.ROLE_TOOL, parts=[TEXT])]), "messages[0].parts[0]"),
    "image_without_source": (ask(messages=[user(v1.Part(image=v1.ImagePart()))]), "messages[0].parts[0].image.source"),
    "data_uri": (ask(messages=[user(image(uri="data:image/png;base64,xx"))]), "messages[0].parts[0].image.source.uri"),
    "plain_http": (ask(messages=[user(image(uri="http://x/y"))]), "messages[0].parts[0].image.source.uri"),
    "data_without_type": (ask(messages=[user(image(data=b"1"))]), "messages[0].parts[0].image.source.mime_type"),
    "empty_data": (ask(messages=[user(image(data=b"", mime_type="a/b"))]), "messages[0].parts[0].image.source.data"),
    "call_without_id": (ask(messages=[call(name="f")]), "messages[0].parts[0].tool_call.id"),
    "call_without_name": (ask(messages=[call(id="1")]), "messages[0].parts[0].tool_call.name"),
    "result_without_id": (ask(messages=[result("")]), "messages[0].parts[0].tool_result.tool_call_id"),
    "result_of_nothing": (ask(messages=[result("nope")]), "messages[0].parts[0].tool_result.tool_call_id"),
    "result_before_call": (
        ask(messages=[result("1"), call(id="1", name="f")]),
        "messages[0].parts[0].tool_result.tool_call_id",
    ),
    "result_in_result": (
        ask(messages=[call(id="1", name="f"), result("1", v1.Part(tool_result=v1.ToolResult(tool_call_id="1")))]),
        "messages[1].parts[0].tool_result.parts[0]",
    ),
    "provider_part_without_provider": (
        ask(messages=[user(v1.Part(provider_part=v1.ProviderPart(json="{}")))]),
        "messages[0].parts[0].provider_part.provider",
    ),
    "provider_part_not_json": (
        ask(messages=[user(v1.Part(provider_part=v1.ProviderPart(provider="p", json="[")))]),
        "messages[0].parts[0].provider_part.json",
    ),
    "too_many_tools": (ask(tools=[function(f"f{i}") for i in range(1025)]), "tools"),
    "tool_without_name": (ask(tools=[function("")]), "tools[0].function.name"),
    "tool_name_with_space": (ask(tools=[function("a b")]), "tools[0].function.name"),
    "tool_name_too_long": (ask(tools=[function("a" * 65)]), "tools[0].function.name"),
    "tool_twice": (ask(tools=[function(), function()]), "tools[1].function.name"),
    "tool_of_no_kind": (ask(tools=[v1.Tool()]), "tools[0]"),
    "schema_not_json": (ask(tools=[function("f", '{"type":')]), "tools[0].function.parameters_json_schema"),
    "schema_not_an_object": (ask(tools=[function("f", "[]")]), "tools[0].function.parameters_json_schema"),
    "schema_not_a_schema": (
        ask(tools=[function("f", '{"type":"objekt"}')]),
        "tools[0].function.parameters_json_schema",
    ),
    "schema_too_large": (
        ask(tools=[function("f", json.dumps({"description": "x" * 262_144}))]),
        "tools[0].function.parameters_json_schema",
    ),
    "schema_too_deep": (
        ask(tools=[function("f", '{"properties":' + nested(128) + "}")]),
        "tools[0].function.parameters_json_schema",
    ),
    "required_without_tools": (ask(tool_choice=v1.ToolChoice(mode=v1.ToolChoice.MODE_REQUIRED)), "tool_choice.mode"),
    "allowed_tool_unknown": (
        ask(tools=[function()], tool_choice=v1.ToolChoice(allowed_tool_names=["g"])),
        "tool_choice.allowed_tool_names[0]",
    ),
    "nan_temperature": (sampling(temperature=math.nan), "sampling.temperature"),
    "hot": (sampling(temperature=2.01), "sampling.temperature"),
    "infinite_top_p": (sampling(top_p=math.inf), "sampling.top_p"),
    "negative_top_k": (sampling(top_k=-1), "sampling.top_k"),
    "min_p_above_one": (sampling(min_p=1.1), "sampling.min_p"),
    "frequency_penalty_below": (sampling(frequency_penalty=-2.1), "sampling.frequency_penalty"),
    "presence_penalty_above": (sampling(presence_penalty=2.1), "sampling.presence_penalty"),
    "repetition_penalty_zero": (sampling(repetition_penalty=0), "sampling.repetition_penalty"),
    "negative_tokens": (sampling(max_output_tokens=-1), "sampling.max_output_tokens"),
    "top_logprobs_21": (sampling(top_logprobs=21), "sampling.top_logprobs"),
    "seventeen_stops": (sampling(stop_sequences=["x"] * 17), "sampling.stop_sequences"),
    "empty_stop": (sampling(stop_sequences=["a", ""]), "sampling.stop_sequences[1]"),
    "long_stop": (sampling(stop_sequences=["x" * 257]), "sampling.stop_sequences[0]"),
    "strong_bias": (sampling(logit_bias={7: 101.0}), "sampling.logit_bias[7]"),
    "many_biases": (sampling(logit_bias=dict.fromkeys(range(1025), 1.0)), "sampling.logit_bias"),
    "unknown_effort": (ask(reasoning=v1.ReasoningOptions(effort=99)), "reasoning.effort"),  # type: ignore[arg-type]
    "negative_budget": (ask(reasoning=v1.ReasoningOptions(budget_tokens=-1)), "reasoning.budget_tokens"),
    "verbosity": (ask(output=v1.OutputOptions(verbosity="chatty")), "output.verbosity"),
    "no_schema": (ask(output=v1.OutputOptions(json_schema=v1.JsonSchemaFormat())), "output.json_schema.json_schema"),
    "schema_name": (
        ask(output=v1.OutputOptions(json_schema=v1.JsonSchemaFormat(name="a b", json_schema="{}"))),
        "output.json_schema.name",
    ),
    "long_cache_key": (ask(prompt_cache=v1.PromptCacheOptions(key="k" * 257)), "prompt_cache.key"),
    "cache_ttl_zero": (ask(prompt_cache=v1.PromptCacheOptions(ttl=Duration())), "prompt_cache.ttl"),
    "long_end_user": (ask(end_user_id="u" * 129), "end_user_id"),
    "many_pairs": (ask(metadata={str(i): "" for i in range(65)}), "metadata"),
    "options_not_json": (ask(provider_options_json={"openai": "nope"}), "provider_options_json['openai']"),
    "unknown_policy": (ask(unsupported_policy=9), "unsupported_policy"),
    "nine_fallbacks": (
        ask(routing=v1.RoutingOptions(fallbacks=[v1.FallbackTarget(model="m")] * 9)),
        "routing.fallbacks",
    ),
    "fallback_without_model": (
        ask(routing=v1.RoutingOptions(fallbacks=[v1.FallbackTarget()])),
        "routing.fallbacks[0].model",
    ),
    "long_key": (ask(idempotency_key="k" * 256), "idempotency_key"),
    "key_not_ascii": (ask(idempotency_key="schlüssel"), "idempotency_key"),
    "key_not_printable": (ask(idempotency_key="a\nb"), "idempotency_key"),
    "unknown_recovery": (ask(routing=v1.RoutingOptions(mid_stream_fallback=9)), "routing.mid_stream_fallback"),  # type: ignore[arg-type]
    "unknown_continuation": (
        ask(routing=v1.RoutingOptions(mid_stream_fallback=3, continuation=9)),  # type: ignore[arg-type]
        "routing.continuation",
    ),
    "continuation_of_what": (ask(routing=v1.RoutingOptions(continuation=1)), "routing.continuation"),  # type: ignore[arg-type]
    "unknown_strategy": (ask(routing=v1.RoutingOptions(strategy=99)), "routing.strategy"),  # type: ignore[arg-type]
    "no_money": (ask(routing=v1.RoutingOptions(max_cost_nano_usd=0)), "routing.max_cost_nano_usd"),
    "weight_1001": (
        ask(routing=v1.RoutingOptions(fallbacks=[v1.FallbackTarget(model="m", weight=1001)])),
        "routing.fallbacks[0].weight",
    ),
    "negative_weight": (
        ask(routing=v1.RoutingOptions(fallbacks=[v1.FallbackTarget(model="m", weight=-1)])),
        "routing.fallbacks[0].weight",
    ),
    "regions_33": (ask(routing=v1.RoutingOptions(regions=["eu"] * 33)), "routing.regions"),
    "region_of_no_name": (ask(routing=v1.RoutingOptions(regions=["eu", ""])), "routing.regions[1]"),
    "region_in_capitals": (ask(routing=v1.RoutingOptions(regions=["EU"])), "routing.regions[0]"),
    "no_attempts": (ask(routing=v1.RoutingOptions(max_attempts=0)), "routing.max_attempts"),
    "attempts_33": (ask(routing=v1.RoutingOptions(max_attempts=33)), "routing.max_attempts"),
    "no_time": (ask(routing=v1.RoutingOptions(attempt_timeout=Duration(seconds=0))), "routing.attempt_timeout"),
    "negative_time": (
        ask(routing=v1.RoutingOptions(first_output_timeout=Duration(seconds=-1))),
        "routing.first_output_timeout",
    ),
}


@pytest.mark.parametrize(("request_", "path"), REFUSED.values(), ids=REFUSED)
def test_refused_with_the_path_of_the_field(request_: v1.ChatRequest, path: str) -> None:
    violations = validate.chat(request_)
    assert path in [violation.field for violation in violations]
    assert all(violation.description for violation in violations)


ACCEPTED = {
    "shortest": ask(),
    "thousand_parts": ask(messages=[user(*[TEXT] * 1000)]),
    "ten_thousand_messages": ask(messages=[user()] * 10_000),
    "every_bound": sampling(
        temperature=2,
        top_p=1,
        min_p=0,
        frequency_penalty=-2,
        presence_penalty=2,
        top_logprobs=20,
        stop_sequences=["x" * 256] * 16,
    ),
    "tool_loop": ask(messages=[user(), call(id="1", name="f", arguments_json="not json"), result("1", TEXT)]),
    "result_by_user": ask(
        messages=[call(id="1", name="f"), user(v1.Part(tool_result=v1.ToolResult(tool_call_id="1")))],
    ),
    "schema_at_depth_128": ask(tools=[function("f", nested(128))]),
    "forced_tool": ask(
        tools=[function()], tool_choice=v1.ToolChoice(mode=v1.ToolChoice.MODE_REQUIRED, allowed_tool_names=["f"])
    ),
    "warm_cache": sampling(max_output_tokens=0),
    "longest_key": ask(idempotency_key="k !" * 85),
    "routed": ask(
        routing=v1.RoutingOptions(
            strategy=v1.RoutingOptions.STRATEGY_AFFINITY,
            fallbacks=[v1.FallbackTarget(model="m", weight=0), v1.FallbackTarget(model="m", weight=1000)],
            max_cost_nano_usd=1,
            regions=["eu-central-1", "swedencentral", "r" * 63] + ["eu"] * 29,
        )
    ),
    "continued_by_paragraph": ask(routing=v1.RoutingOptions(mid_stream_fallback=3, continuation=2)),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("request_", ACCEPTED.values(), ids=ACCEPTED)
def test_accepted(request_: v1.ChatRequest) -> None:
    assert validate.chat(request_) == []


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"mode": 9}, "response_cache.mode"),
        ({"ttl": Duration()}, "response_cache.ttl"),
        ({"ttl": Duration(seconds=-1)}, "response_cache.ttl"),
        ({"namespace": "n" * 129}, "response_cache.namespace"),
        ({"min_similarity": 1.1}, "response_cache.min_similarity"),
        ({"min_similarity": float("nan")}, "response_cache.min_similarity"),
    ],
)
def test_options_of_the_response_cache(options: dict[str, object], path: str) -> None:
    cache = v1.ResponseCacheOptions(**options)  # type: ignore[arg-type]
    assert [violation.field for violation in validate.chat(ask(response_cache=cache))] == [path]
    whole = v1.ResponseCacheOptions(mode=v1.ResponseCacheOptions.MODE_REFRESH, namespace="n" * 128, min_similarity=0)
    assert validate.chat(ask(response_cache=whole)) == []


def test_metadata_limits_count_bytes() -> None:
    assert validate.chat(ask(metadata={"é" * 32: "é" * 256})) == []
    assert len(validate.chat(ask(metadata={"é" * 33: "é" * 257}))) == 2


@pytest.mark.parametrize(
    ("request_", "path"),
    [
        (v1.EmbedRequest(model="m"), "inputs"),
        (v1.EmbedRequest(model="m", inputs=[v1.EmbedInput(text="x")] * 2049), "inputs"),
        (v1.EmbedRequest(model="m", inputs=[v1.EmbedInput(text="")]), "inputs[0].text"),
        (v1.EmbedRequest(model="m", inputs=[v1.EmbedInput(tokens=v1.TokenIds())]), "inputs[0].tokens.ids"),
        (v1.EmbedRequest(model="m", inputs=[v1.EmbedInput()]), "inputs[0]"),
        (v1.EmbedRequest(model="m", inputs=[v1.EmbedInput(text="x")], dimensions=0), "dimensions"),
        (
            v1.EmbedRequest(
                model="m",
                inputs=[v1.EmbedInput(text="x")],
                routing=v1.RoutingOptions(fallbacks=[v1.FallbackTarget(model="n", sampling=v1.SamplingOptions())]),
            ),
            "routing.fallbacks[0].sampling",
        ),
        (
            v1.EmbedRequest(
                model="m",
                inputs=[v1.EmbedInput(text="x")],
                response_cache=v1.ResponseCacheOptions(min_similarity=0.5),
            ),
            "response_cache.min_similarity",
        ),
        (v1.EmbedRequest(model="m", inputs=[v1.EmbedInput(text="x")], encoding=9), "encoding"),  # type: ignore[arg-type]
    ],
)
def test_embedding_requests_are_refused_with_the_path(request_: v1.EmbedRequest, path: str) -> None:
    assert path in [violation.field for violation in validate.embed(request_)]


def ranking(**fields: object) -> v1.RerankRequest:
    return v1.RerankRequest(**{"model": "m", "query": "q", "documents": ["a"], **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("request_", "path"),
    [
        (ranking(model=""), "model"),
        (ranking(query=""), "query"),
        (ranking(documents=[]), "documents"),
        (ranking(documents=["x"] * 1001), "documents"),
        (ranking(documents=["a", ""]), "documents[1]"),
        (ranking(top_n=0), "top_n"),
        (ranking(top_n=-1), "top_n"),
        (ranking(max_tokens_per_document=0), "max_tokens_per_document"),
        (ranking(metadata={"": "x"}), "metadata['']"),
        (ranking(provider_options_json={"p": "["}), "provider_options_json['p']"),
        (ranking(unsupported_policy=9), "unsupported_policy"),
        (
            ranking(routing=v1.RoutingOptions(fallbacks=[v1.FallbackTarget(model="n", reasoning={})])),  # type: ignore[arg-type]
            "routing.fallbacks[0].reasoning",
        ),
    ],
)
def test_requests_for_rankings_are_refused_with_the_path(request_: v1.RerankRequest, path: str) -> None:
    assert path in [violation.field for violation in validate.rerank(request_)]


def test_the_largest_request_for_a_ranking_is_accepted() -> None:
    fallbacks = [v1.FallbackTarget(model="n")]
    largest = ranking(documents=["x"] * 1000, top_n=1, routing=v1.RoutingOptions(fallbacks=fallbacks))
    assert validate.rerank(largest) == []


@given(st.text() | st.dictionaries(st.text(), st.integers() | st.text()).map(json.dumps))
def test_options_are_accepted_exactly_if_they_are_a_json_object(text: str) -> None:
    try:
        is_object = isinstance(json.loads(text), dict)
    except ValueError:
        is_object = False
    assert bool(validate.chat(ask(provider_options_json={"p": text}))) is not is_object


@pytest.mark.parametrize(
    ("name", "seconds"), [("heartbeat_interval", 0), ("heartbeat_interval", 301), ("coalesce_interval", 2)]
)
def test_stream_options_out_of_range(name: str, seconds: int) -> None:
    options = v1.StreamOptions(**{name: Duration(seconds=seconds)})  # type: ignore[arg-type]
    assert [violation.field for violation in validate.stream_options(options)] == [f"options.{name}"]
