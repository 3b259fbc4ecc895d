"""What makes two requests the same, and what does not."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from google.protobuf.unknown_fields import UnknownFieldSet

from parley import v1
from parley_server.pipeline.cache.keys import Keys, Scope, Target, canonical

KEYS = Keys(b"secret")
SCOPE = Scope("tenant", "", Target("lab/model"))


def request(**fields: Any) -> v1.ChatRequest:
    base = v1.ChatRequest(model="lab/model", messages=[v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text="hello")])])
    base.MergeFrom(v1.ChatRequest(**fields))
    return base


def key(asked: v1.ChatRequest, scope: Scope = SCOPE) -> bytes:
    return KEYS.chat(asked, scope)


SAME: list[dict[str, Any]] = [
    {"metadata": {"a": "b"}},
    {"end_user_id": "u"},
    {"idempotency_key": "k"},
    {"response_cache": v1.ResponseCacheOptions(mode=v1.ResponseCacheOptions.MODE_REFRESH, min_similarity=0.9)},
    {"routing": v1.RoutingOptions(max_attempts=1)},
    {"routing": v1.RoutingOptions(mid_stream_fallback=v1.RoutingOptions.MID_STREAM_FALLBACK_RESTART)},
    {"model": "model"},  # another name of the target
]


@pytest.mark.parametrize("fields", SAME)
def test_what_changes_no_answer_makes_no_difference(fields: dict[str, Any]) -> None:
    assert key(request(**fields)) == key(request())


OTHER: list[dict[str, Any]] = [
    {"sampling": v1.SamplingOptions(temperature=0)},
    {"sampling": v1.SamplingOptions(max_output_tokens=0)},
    {"tools": [v1.Tool(function=v1.FunctionTool(name="f"))]},
    {"tool_choice": v1.ToolChoice(mode=v1.ToolChoice.MODE_NONE)},
    {"reasoning": v1.ReasoningOptions(effort=v1.REASONING_EFFORT_LOW)},
    {"output": v1.OutputOptions(verbosity="low")},
    {"routing": v1.RoutingOptions(fallbacks=[v1.FallbackTarget(model="other")])},
    {"routing": v1.RoutingOptions(denied_providers=["x"])},
    {"routing": v1.RoutingOptions(service_tier="flex")},
    {"provider_options_json": {"lab": "{}"}},
    {"unsupported_policy": v1.UNSUPPORTED_POLICY_ERROR},
    {"include_provider_response": True},
    {"messages": [v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text="hello")])]},
]


def test_what_may_change_an_answer_makes_a_difference() -> None:
    keys = [key(request()), *(key(request(**fields)) for fields in OTHER)]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            {"sampling": v1.SamplingOptions(stop_sequences=["a", "b"], logit_bias={1: 1, 2: 2})},
            {"sampling": v1.SamplingOptions(stop_sequences=["b", "a"], logit_bias={2: 2, 1: 1})},
        ),
        (
            {"tool_choice": v1.ToolChoice(allowed_tool_names=["a", "b"])},
            {"tool_choice": v1.ToolChoice(allowed_tool_names=["b", "a"])},
        ),
        (
            {"routing": v1.RoutingOptions(allowed_providers=["a", "b"])},
            {"routing": v1.RoutingOptions(allowed_providers=["b", "a"], max_attempts=2)},
        ),
        (
            {"provider_options_json": {"lab": '{"a": 1, "b": {"c": 2, "d": 3}}', "x": "{}"}},
            {"provider_options_json": {"x": " {}", "lab": '{"b":{"d":3,"c":2},"a":1}'}},
        ),
    ],
)
def test_where_the_api_knows_no_order_there_is_none(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert key(request(**one)) == key(request(**other))


def test_the_order_of_messages_and_tools_counts() -> None:
    tools = [v1.Tool(function=v1.FunctionTool(name=name)) for name in "ab"]
    assert key(request(tools=tools)) != key(request(tools=tools[::-1]))


def test_a_field_that_this_server_does_not_know_counts() -> None:
    newer = request()
    newer.MergeFromString(b"\xfa\x3f\x03new")  # number 1023
    assert len(UnknownFieldSet(newer)) == 1
    inner = request()
    inner.messages[0].MergeFromString(b"\xfa\x3f\x03new")
    assert len({key(newer), key(inner), key(request())}) == 3


def test_the_request_is_left_as_it_was() -> None:
    asked = request(**{name: value for fields in OTHER + SAME[:-1] for name, value in fields.items()})
    before = asked.SerializeToString(deterministic=True)
    canonical(asked)
    assert asked.SerializeToString(deterministic=True) == before


def test_scopes_have_keys_of_their_own() -> None:
    scopes = [
        SCOPE,
        Scope("other", "", Target("lab/model")),
        Scope("tenant", "n", Target("lab/model")),
        Scope("tenant", "", Target("lab/other")),
        Scope("tenant", "", Target("lab/model", version="2")),
        Scope("tenantlab/model", "", Target("")),
        Scope("", "tenant", Target("lab/model")),
    ]
    assert len({key(request(), scope) for scope in scopes}) == len(scopes)
    assert key(request(), SCOPE) != Keys(b"other").chat(request(), SCOPE)


def test_each_input_of_an_embedding_has_its_key_whatever_is_beside_it() -> None:
    def keys(*texts: str, **fields: Any) -> list[bytes]:
        inputs = [v1.EmbedInput(text=text) for text in texts]
        return list(KEYS.inputs(v1.EmbedRequest(model="lab/model", inputs=inputs, **fields), SCOPE))

    assert keys("a", "b", "a") == [*keys("a"), *keys("b"), *keys("a")]
    assert keys("a") != keys("a", dimensions=3) != keys("a", encoding=v1.EMBEDDING_ENCODING_FLOAT32_BYTES)
    assert keys("a") == keys("a", end_user_id="u", idempotency_key="k")


def test_targets_that_may_be_any_of_several_are_not_told_apart_by_the_one_that_is_meant() -> None:
    assert key(request(), Scope("t", "", Target("route", "1", primary="x"))) == key(
        request(), copy.copy(Scope("t", "", Target("route", "1")))
    )


def test_the_short_way_to_the_canonical_form_gives_what_the_long_one_does() -> None:
    plain = request(sampling=v1.SamplingOptions(temperature=0, stop_sequences=["a"]))
    plain.MergeFromString(b"\xfa\x3f\x03new")
    long_way = v1.ChatRequest()
    long_way.CopyFrom(plain)
    long_way.end_user_id = "u"
    assert canonical(plain) == canonical(long_way)
    assert b"lab/model" not in canonical(plain)
