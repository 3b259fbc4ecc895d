"""Keyword arguments become exactly these requests."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, cast, get_type_hints

import pytest

import parley
from parley import v1
from parley.request import (
    ChatArguments,
    EmbedArguments,
    SamplingArguments,
    StreamArguments,
    chat_request,
    deadline,
    embed_request,
    messages,
    stream_request,
)


def weather(city: str) -> str:
    """The weather now."""
    return city


@dataclass
class Person:
    name: str
    age: int


PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
Choice = v1.ToolChoice

CASES: list[tuple[ChatArguments, v1.ChatRequest]] = [
    ({"temperature": 0.0}, v1.ChatRequest(sampling=v1.SamplingOptions(temperature=0.0))),
    ({"stop": "END"}, v1.ChatRequest(sampling=v1.SamplingOptions(stop_sequences=["END"]))),
    ({"stop": ["a", "b"]}, v1.ChatRequest(sampling=v1.SamplingOptions(stop_sequences=["a", "b"]))),
    ({"logit_bias": {5: -1.0}}, v1.ChatRequest(sampling=v1.SamplingOptions(logit_bias={5: -1.0}))),
    ({"tool_choice": "none"}, v1.ChatRequest(tool_choice=Choice(mode=Choice.MODE_NONE))),
    (
        {"tool_choice": "weather"},
        v1.ChatRequest(tool_choice=Choice(mode=Choice.MODE_REQUIRED, allowed_tool_names=["weather"])),
    ),
    (
        {"parallel_tool_calls": False, "tool_choice": Choice(mode=Choice.MODE_AUTO)},
        v1.ChatRequest(tool_choice=Choice(mode=Choice.MODE_AUTO, parallel_tool_calls=False)),
    ),
    (
        {"response_cache": "only_if_cached"},
        v1.ChatRequest(response_cache=v1.ResponseCacheOptions(mode=v1.ResponseCacheOptions.MODE_ONLY_IF_CACHED)),
    ),
    (
        {"response_cache": v1.ResponseCacheOptions(namespace="n", min_similarity=0.9)},
        v1.ChatRequest(response_cache=v1.ResponseCacheOptions(namespace="n", min_similarity=0.9)),
    ),
    ({"reasoning": "xhigh"}, v1.ChatRequest(reasoning=v1.ReasoningOptions(effort=v1.REASONING_EFFORT_XHIGH))),
    (
        {"reasoning": v1.ReasoningOptions(budget_tokens=0)},
        v1.ChatRequest(reasoning=v1.ReasoningOptions(budget_tokens=0)),
    ),
    ({"output": "text"}, v1.ChatRequest(output=v1.OutputOptions(text=v1.TextFormat()))),
    ({"output": "json"}, v1.ChatRequest(output=v1.OutputOptions(json_object=v1.JsonObjectFormat()))),
    (
        {"output": {"type": "object"}, "verbosity": "low"},
        v1.ChatRequest(
            output=v1.OutputOptions(json_schema=v1.JsonSchemaFormat(json_schema='{"type": "object"}'), verbosity="low")
        ),
    ),
    (
        {"verbosity": "low", "output": Person},
        v1.ChatRequest(
            output=v1.OutputOptions(
                json_schema=v1.JsonSchemaFormat(name="Person", json_schema=json.dumps(PERSON)), verbosity="low"
            )
        ),
    ),
    (
        {"prompt_cache": v1.PromptCacheOptions(key="k")},
        v1.ChatRequest(prompt_cache=v1.PromptCacheOptions(key="k")),
    ),
    (
        {"fallbacks": ["a/b", v1.FallbackTarget(model="c/d")], "routing": v1.RoutingOptions(max_attempts=2)},
        v1.ChatRequest(
            routing=v1.RoutingOptions(
                max_attempts=2, fallbacks=[v1.FallbackTarget(model="a/b"), v1.FallbackTarget(model="c/d")]
            )
        ),
    ),
    ({"idempotency_key": "k"}, v1.ChatRequest(idempotency_key="k")),
    ({"metadata": {"k": "v"}, "end_user_id": "u"}, v1.ChatRequest(metadata={"k": "v"}, end_user_id="u")),
    (
        {"provider_options": {"openai": {"store": False}}},
        v1.ChatRequest(provider_options_json={"openai": '{"store": false}'}),
    ),
    ({"unsupported": "error"}, v1.ChatRequest(unsupported_policy=v1.UNSUPPORTED_POLICY_ERROR)),
    ({"include_provider_response": True}, v1.ChatRequest(include_provider_response=True)),
    ({"timeout": 3.0, "headers": {"a": "b"}}, v1.ChatRequest()),
]


@pytest.mark.parametrize(
    ("given", "wanted"), CASES, ids=lambda value: "+".join(value) if isinstance(value, dict) else ""
)
def test_argument_becomes_field(given: ChatArguments, wanted: v1.ChatRequest) -> None:
    wanted.model = "m"
    wanted.messages.append(parley.user("x"))
    assert chat_request("m", "x", given) == wanted


def test_every_sampling_option_of_the_contract_is_an_argument() -> None:
    fields = {field.name for field in v1.SamplingOptions.DESCRIPTOR.fields}
    assert fields == set(get_type_hints(SamplingArguments)) - {"stop"} | {"stop_sequences"}


@pytest.mark.parametrize("name", sorted(set(get_type_hints(SamplingArguments)) - {"stop", "logit_bias"}))
def test_sampling_arguments_keep_zero_apart_from_unset(name: str) -> None:
    request = chat_request("m", "x", cast(Any, {name: 0}))
    assert request.sampling.HasField(cast(Any, name))
    assert [field.name for field, _ in request.sampling.ListFields()] == [name]


def test_every_field_of_the_requests_can_be_said() -> None:
    chat = {field.name for field in v1.ChatRequest.DESCRIPTOR.fields}
    renamed = {"sampling", "provider_options_json", "unsupported_policy"}
    assert chat - renamed - {"model", "messages"} <= set(get_type_hints(ChatArguments))
    embed = {field.name for field in v1.EmbedRequest.DESCRIPTOR.fields}
    assert embed - renamed - {"model", "inputs", "encoding"} <= set(get_type_hints(EmbedArguments))
    options = {field.name for field in v1.StreamOptions.DESCRIPTOR.fields}
    assert options <= set(get_type_hints(StreamArguments))


def test_functions_become_tools() -> None:
    made = v1.Tool(function=v1.FunctionTool(name="by_hand"))
    request = chat_request("m", "x", {"tools": [weather, parley.tool(weather, name="other"), made]})
    assert [tool.function.name for tool in request.tools] == ["weather", "other", "by_hand"]


def test_a_request_may_be_given_and_is_not_changed() -> None:
    base = v1.ChatRequest(model="m", messages=[parley.system("s")], sampling=v1.SamplingOptions(top_k=3))
    before = v1.ChatRequest.FromString(base.SerializeToString())
    request = chat_request("", "x", {"request": base, "temperature": 1.0})
    assert base == before
    assert request.model == "m"
    assert [message.role for message in request.messages] == [v1.ROLE_SYSTEM, v1.ROLE_USER]
    assert (request.sampling.top_k, request.sampling.temperature) == (3, 1.0)
    assert chat_request("other", (), {"request": base}).model == "other"


def test_embed_request_takes_the_common_arguments() -> None:
    base = v1.EmbedRequest(model="m", inputs=[v1.EmbedInput(text="a")])
    request = embed_request(
        "", "b", {"request": base, "dimensions": 8, "fallbacks": ["x/y"], "unsupported": "warn", "end_user_id": "u"}
    )
    assert [one.text for one in request.inputs] == ["a", "b"]
    assert request.dimensions == 8
    assert request.routing.fallbacks[0].model == "x/y"
    assert request.unsupported_policy == v1.UNSUPPORTED_POLICY_WARN
    assert request.end_user_id == "u"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: chat_request("m", "x", cast(Any, {"temprature": 1})), "unknown argument: temprature"),
        (lambda: embed_request("m", "x", cast(Any, {"temperature": 1})), "unknown argument: temperature"),
        (lambda: chat_request("m", cast(Any, parley.image(b"\x89PNG\r\n\x1a\n")), {}), "needs an author"),
        (lambda: chat_request("m", cast(Any, 5), {}), "not iterable"),
        (lambda: chat_request("m", "x", cast(Any, {"temperature": "hot"})), "temperature|float|real number"),
    ],
)
def test_misuse_is_a_type_error(make: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        make()


@pytest.mark.parametrize("given", [{"output": "yaml"}, {"reasoning": "extreme"}, {"unsupported": "ignore"}])
def test_unknown_words_are_value_errors(given: Any) -> None:
    with pytest.raises(ValueError, match=r"yaml|EXTREME|IGNORE"):
        chat_request("m", "x", given)


def test_stream_request_has_no_options_that_nobody_gave() -> None:
    assert stream_request("m", "x", {}).options == v1.StreamOptions()


def test_prompts_of_all_kinds() -> None:
    reply = parley.Reply(v1.ChatResponse(message=parley.assistant("b")))
    assert messages(["a", reply, (parley.user("c"), "d")]) == [  # type: ignore[list-item]  # nesting is forgiven
        parley.user("a"),
        parley.assistant("b"),
        parley.user("c"),
        parley.user("d"),
    ]


def test_deadlines() -> None:
    assert deadline({}, 600) == 600
    assert deadline({"timeout": 2}, 600) == 2
    assert deadline({"timeout": float("inf")}, 600) is None
