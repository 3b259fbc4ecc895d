"""What servers are asked that differ from OpenAI: each quirk on its own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from parley import v1
from parley_server.core.errors import UnsupportedParameter
from parley_server.core.target import Target
from parley_server.dialects.openai_chat import Quirks
from parley_server.dialects.openai_chat.quirks import Variant
from tests.dialects.openai_ask import SERVER, body, call, left_out, text, user


def asked(request: v1.ChatRequest, quirks: Quirks, target: Target = SERVER, **how: Any) -> tuple[Any, dict[str, str]]:
    """The body without model and messages, and what is left out."""
    made = call(request, target, quirks, **how)
    said = json.loads(made.body)
    return {name: value for name, value in said.items() if name not in ("model", "messages")}, left_out(made)


def thinking(**options: Any) -> v1.ChatRequest:
    return v1.ChatRequest(reasoning=v1.ReasoningOptions(**options))


def effort(level: str) -> v1.ChatRequest:
    return thinking(effort=f"REASONING_EFFORT_{level.upper()}")


def tools(*names: str, **choice: Any) -> v1.ChatRequest:
    listed = [v1.Tool(function=v1.FunctionTool(name=name)) for name in names]
    return v1.ChatRequest(tools=listed, tool_choice=v1.ToolChoice(**choice))


# ---------------------------------------------------------------------------------------------------------- tool choice


def choice(request: v1.ChatRequest, quirks: Quirks) -> tuple[list[str], Any, set[str]]:
    """Names of the listed tools, the choice among them, and the fields that are left out."""
    said, missing = asked(request, quirks)
    return [tool["function"]["name"] for tool in said.get("tools", [])], said.get("tool_choice"), set(missing)


NAMED = {"type": "function", "function": {"name": "a"}}


@pytest.mark.parametrize(
    ("modes", "mode", "only", "expected"),
    [
        ({"auto", "none", "required", "named"}, "NONE", "", (["a", "b"], "none", set())),
        ({"auto", "required", "named"}, "NONE", "", ([], None, set())),
        ({"none", "required"}, "AUTO", "", (["a", "b"], None, set())),
        ({"auto", "none"}, "REQUIRED", "", (["a", "b"], None, {"tool_choice.mode"})),
        ({"auto", "none", "named"}, "REQUIRED", "a", (["a", "b"], NAMED, set())),
        ({"auto", "none", "required"}, "REQUIRED", "a", (["a"], "required", {"tools[1]"})),
        ({"auto"}, "REQUIRED", "a", (["a"], None, {"tools[1]", "tool_choice.mode"})),
        ({"auto"}, "AUTO", "a", (["a"], "auto", {"tools[1]"})),
    ],
)
def test_choices_that_a_server_cannot_be_told(modes: Any, mode: str, only: str, expected: Any) -> None:
    request = tools("a", "b", mode=f"MODE_{mode}", allowed_tool_names=[only] if only else [])
    assert choice(request, Quirks(tool_modes=frozenset(modes))) == expected


def test_a_wish_for_a_call_can_have_another_word() -> None:
    assert choice(tools("a", mode="MODE_REQUIRED"), Quirks(required_word="any"))[1] == "any"


def test_a_server_that_thinks_cannot_be_made_to_call_a_tool() -> None:
    quirks = Quirks(free_choice_while_thinking=True)
    request = tools("a", mode="MODE_REQUIRED")
    assert choice(request, quirks) == (["a"], None, {"tool_choice.mode"})
    request.reasoning.effort = v1.REASONING_EFFORT_NONE
    assert choice(request, quirks) == (["a"], "required", set())


def test_strict_is_missed_only_where_it_is_asked_for() -> None:
    quirks = Quirks(missing=frozenset({"strict"}))
    for strict, missing in ((True, {"tools[0].function.strict"}), (False, set())):
        request = tools("a")
        request.tools[0].function.strict = strict
        said, left = asked(request, quirks)
        assert "strict" not in said["tools"][0]["function"]
        assert left.keys() == missing


@pytest.mark.parametrize(
    ("field", "harmless", "wish"),
    [("parallel_tool_calls", True, "tool_choice.parallel_tool_calls"), ("tool_choice", "auto", "tool_choice")],
)
def test_defaults_that_a_server_does_not_take_are_not_missed(field: str, harmless: Any, wish: str) -> None:
    quirks = Quirks(missing=frozenset({field}))
    quiet = tools("a", mode="MODE_AUTO", parallel_tool_calls=True)
    loud = tools("a", mode="MODE_REQUIRED", parallel_tool_calls=False)
    for request, expected in ((quiet, set()), (loud, {wish})):
        said, missing = asked(request, quirks)
        assert field not in said
        assert missing.keys() == expected


# ------------------------------------------------------------------------------------------------------------ reasoning


def _switched(switch: Any, *, on: bool) -> Any:
    inner: Any = {"thinking.type": "enabled" if on else "disabled"}.get(switch, on)
    for step in reversed(switch.split(".")):
        inner = {step: inner}
    return inner


@pytest.mark.parametrize(
    "switch", ["thinking.type", "reasoning.enabled", "enable_thinking", "chat_template_kwargs.enable_thinking"]
)
def test_reasoning_is_switched_on_and_off(switch: Any) -> None:
    quirks = Quirks(reasoning_switch=switch, efforts=("none", "low", "high"))
    assert asked(effort("none"), quirks) == (_switched(switch, on=False), {})
    assert asked(effort("high"), quirks) == ({"reasoning_effort": "high"} | _switched(switch, on=True), {})
    assert asked(thinking(budget_tokens=0), quirks) == (_switched(switch, on=False), {})


def test_a_switch_without_levels_says_yes_and_warns() -> None:
    quirks = Quirks(reasoning_switch="enable_thinking", efforts=("none",))
    assert asked(effort("high"), quirks) == ({"enable_thinking": True}, {"reasoning.effort": "CLAMPED"})


def test_what_always_thinks_is_not_switched() -> None:
    quirks = Quirks(reasoning_switch="thinking.type", efforts=("low", "max"))
    assert asked(effort("none"), quirks) == ({"reasoning_effort": "low"}, {"reasoning.effort": "CLAMPED"})
    assert asked(effort("max"), quirks) == ({"reasoning_effort": "max"}, {})


@pytest.mark.parametrize(
    ("levels", "wanted", "sent"),
    [
        (("none", "low", "high", "max"), "medium", "low"),
        (("none", "low", "high", "max"), "minimal", "low"),
        (("low", "high", "max"), "xhigh", "high"),
        (("none", "high"), "none", "none"),
        (("none",), "high", None),  # it must not be switched off for want of a level
        ((), "none", None),
        ((), "high", None),
    ],
)
def test_levels_that_there_are_not(levels: tuple[str, ...], wanted: str, sent: str | None) -> None:
    said, missing = asked(effort(wanted), Quirks(efforts=levels))
    assert said == ({"reasoning_effort": sent} if sent else {})
    assert missing == ({} if sent == wanted else {"reasoning.effort": "CLAMPED"})


@pytest.mark.parametrize("field", ["reasoning.effort", "chat_template_kwargs.reasoning_effort"])
def test_the_effort_can_stand_elsewhere(field: Any) -> None:
    outer, inner = field.split(".")
    assert asked(effort("low"), Quirks(effort_field=field)) == ({outer: {inner: "low"}}, {})


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("reasoning.max_tokens", {"reasoning": {"max_tokens": 500}}),
        ("thinking.budget_tokens", {"thinking": {"type": "enabled", "budget_tokens": 500}}),
        ("thinking_budget", {"thinking_budget": 500}),
        ("thinking_token_budget", {"thinking_token_budget": 500}),
    ],
)
def test_a_budget_stands_instead_of_an_effort(field: Any, said: Any) -> None:
    request = thinking(effort="REASONING_EFFORT_LOW", budget_tokens=500)
    assert asked(request, Quirks(budget_field=field)) == (said, {})
    assert asked(request, Quirks()) == (
        {"reasoning_effort": "low"},
        {"reasoning.budget_tokens": "UNSUPPORTED_PARAMETER"},
    )


def test_a_budget_switches_reasoning_on() -> None:
    quirks = Quirks(budget_field="thinking_budget", reasoning_switch="enable_thinking")
    assert asked(thinking(budget_tokens=9), quirks) == ({"thinking_budget": 9, "enable_thinking": True}, {})


@pytest.mark.parametrize(
    ("field", "said"),
    [("reasoning.exclude", {"reasoning": {"exclude": True}}), ("include_reasoning", {"include_reasoning": False})],
)
def test_reasoning_can_be_kept_out_of_the_answer(field: Any, said: Any) -> None:
    hidden = thinking(visibility="VISIBILITY_OMITTED")
    assert asked(hidden, Quirks(hiding_field=field)) == (said, {})
    assert asked(hidden, Quirks())[1] == {"reasoning.visibility": "UNSUPPORTED_PARAMETER"}


def test_reasoning_in_tags_or_blocks_is_shown() -> None:
    full = thinking(visibility="VISIBILITY_FULL")
    for quirks in (
        Quirks(reasoning_fields=(), think_tags=True),
        Quirks(reasoning_fields=(), reasoning_blocks="thinking"),
    ):
        assert asked(full, quirks)[1] == {}
    assert asked(full, Quirks(reasoning_fields=()))[1] == {"reasoning.visibility": "UNSUPPORTED_PARAMETER"}


def _loop(*parts: v1.Part) -> v1.ChatRequest:
    call = v1.Part(tool_call=v1.ToolCall(id="c", name="f"))
    result = v1.Part(tool_result=v1.ToolResult(tool_call_id="c", parts=[text("r")]))
    return v1.ChatRequest(
        messages=[
            user(text("hi")),
            v1.Message(role=v1.ROLE_ASSISTANT, parts=[*parts, call]),
            v1.Message(role=v1.ROLE_TOOL, parts=[result]),
        ]
    )


def test_earlier_reasoning_counts_where_it_is_sent_back() -> None:
    for field, said in (
        ("clear_thinking", {"clear_thinking": False}),
        ("thinking.clear_thinking", {"thinking": {"clear_thinking": False}}),
    ):
        quirks = Quirks(keeping_field=field)  # type: ignore[arg-type]
        assert asked(_loop(v1.Part(reasoning=v1.ReasoningPart(text="hm"))), quirks)[0] == said
        assert asked(_loop(), quirks)[0] == {}


def test_a_space_stands_for_reasoning_that_is_lost() -> None:
    quirks = Quirks(reasoning_placeholder=True, reasoning_switch="thinking.type")
    assert body(_loop(), SERVER, quirks)["messages"][1]["reasoning_content"] == " "
    there = _loop(v1.Part(reasoning=v1.ReasoningPart(text="hm")))
    assert body(there, SERVER, quirks)["messages"][1]["reasoning_content"] == "hm"
    off = _loop()
    off.reasoning.effort = v1.REASONING_EFFORT_NONE
    assert "reasoning_content" not in body(off, SERVER, quirks)["messages"][1]
    assert "reasoning_content" not in body(_loop(), SERVER, Quirks())["messages"][1]
    no_call = v1.ChatRequest(messages=[v1.Message(role=v1.ROLE_ASSISTANT, parts=[text("hi")]), user(text("ho"))])
    assert "reasoning_content" not in body(no_call, SERVER, quirks)["messages"][0]


# ------------------------------------------------------------------------------------------------------------- variants


VARIANTS = (
    Variant(("small*",), frozenset({"stop"}), efforts=()),
    Variant(("*-thinking",), efforts=("high",), streams_only=True),
    Variant(("*",), frozenset({"temperature"})),
)


@pytest.mark.parametrize(
    ("model", "said", "missing"),
    [
        ("vendor/Small-8b", {"temperature": 0.5}, {"sampling.stop_sequences", "reasoning.effort"}),
        ("large-thinking", {"temperature": 0.5, "stop": ["x"], "reasoning_effort": "high"}, {"reasoning.effort"}),
        ("large", {"stop": ["x"], "reasoning_effort": "low"}, {"sampling.temperature"}),
    ],
)
def test_models_that_differ_from_the_others(model: str, said: Any, missing: set[str]) -> None:
    request = effort("low")
    request.sampling.temperature = 0.5
    request.sampling.stop_sequences.append("x")
    found, left = asked(request, Quirks(variants=VARIANTS), Target("local", model))
    assert {name: value for name, value in found.items() if not name.startswith("stream")} == said
    assert left.keys() == missing


def test_a_model_that_only_streams_is_asked_to_stream() -> None:
    made = call(v1.ChatRequest(), Target("local", "x-thinking"), Quirks(variants=VARIANTS))
    assert made.streams is True
    assert json.loads(made.body)["stream"] is True
    assert json.loads(made.body)["stream_options"] == {"include_usage": True}
    assert call(v1.ChatRequest(), Target("local", "x"), Quirks(variants=VARIANTS)).streams is None


def test_a_variant_goes_by_what_a_deployment_is() -> None:
    target = Target("local", "mine", base_model="x-thinking")
    assert call(v1.ChatRequest(), target, Quirks(variants=VARIANTS)).streams is True


# ---------------------------------------------------------------------------------------------------- sampling, formats


def test_other_names_of_knobs() -> None:
    request = v1.ChatRequest(sampling=v1.SamplingOptions(seed=7, top_logprobs=3))
    assert asked(request, Quirks(seed_field="random_seed", logprobs_count=True)) == (
        {"random_seed": 7, "logprobs": 3},
        {},
    )
    assert asked(request, Quirks(seed_field=""))[1] == {"sampling.seed": "UNSUPPORTED_PARAMETER"}


SCHEMA = '{"type":"object","properties":{"a":{"type":"string"}}}'


@pytest.mark.parametrize(
    ("formats", "wish", "sent", "missing"),
    [
        ({"json_object"}, "json_schema", {"type": "json_object"}, {"output.json_schema"}),
        (set(), "json_schema", None, {"output.json_schema"}),
        ({"json_object"}, "json_object", {"type": "json_object"}, set()),
        (
            {"json_schema"},
            "json_object",
            {"type": "json_schema", "json_schema": {"name": "output", "schema": {"type": "object"}}},
            set(),
        ),
        (set(), "json_object", None, {"output.json_object"}),
    ],
)
def test_forms_of_output_that_there_are_not(formats: Any, wish: str, sent: Any, missing: set[str]) -> None:
    request = v1.ChatRequest()
    if wish == "json_schema":
        request.output.json_schema.json_schema = SCHEMA
    else:
        request.output.json_object.SetInParent()
    said, left = asked(request, Quirks(formats=frozenset(formats)))
    assert said.get("response_format") == sent
    assert left.keys() == missing


def test_nothing_is_left_out_silently_under_the_strict_policy() -> None:
    request = v1.ChatRequest(unsupported_policy=v1.UNSUPPORTED_POLICY_ERROR)
    request.output.json_schema.json_schema = SCHEMA
    with pytest.raises(UnsupportedParameter) as caught:
        call(request, SERVER, Quirks(formats=frozenset()))
    assert [violation.field for violation in caught.value.violations] == ["output.json_schema"]
