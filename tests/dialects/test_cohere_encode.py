"""What requests become on Cohere's wire."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from parley import v1
from parley_server.core.errors import UnsupportedParameter
from parley_server.dialects.base import HttpCall
from tests.dialects.cohere_wire import DIALECT, TARGET

ASSISTANT, USER, SYSTEM, TOOL = v1.ROLE_ASSISTANT, v1.ROLE_USER, v1.ROLE_SYSTEM, v1.ROLE_TOOL
PNG = v1.MediaSource(data=b"\x89PNG", mime_type="image/png")
OURS = v1.ReplayState(provider="cohere", model=TARGET.model)


def text(words: str) -> v1.Part:
    return v1.Part(text=words)


def image(source: v1.MediaSource = PNG, detail: v1.ImageDetail.ValueType = v1.IMAGE_DETAIL_UNSPECIFIED) -> v1.Part:
    return v1.Part(image=v1.ImagePart(source=source, detail=detail))


def document(words: bytes = b"The sky is green.", mime_type: str = "text/plain", **fields: Any) -> v1.Part:
    source = v1.MediaSource(data=words, mime_type=mime_type)
    return v1.Part(document=v1.DocumentPart(source=source, **fields))


def thought(words: str, state: v1.ReplayState | None = None) -> v1.Part:
    return v1.Part(reasoning=v1.ReasoningPart(text=words), replay_state=state)


def call(name: str = "f", call_id: str = "c0", arguments: str = "{}") -> v1.Part:
    return v1.Part(tool_call=v1.ToolCall(id=call_id, name=name, arguments_json=arguments))


def result(*parts: v1.Part, call_id: str = "c0", is_error: bool = False) -> v1.Part:
    return v1.Part(tool_result=v1.ToolResult(tool_call_id=call_id, parts=parts, is_error=is_error))


def said(role: v1.Role.ValueType, *parts: v1.Part) -> v1.Message:
    return v1.Message(role=role, parts=parts)


def function(name: str, **fields: Any) -> v1.Tool:
    return v1.Tool(function=v1.FunctionTool(name=name, **fields))


def made(*messages: v1.Message, stream: bool = False, **fields: Any) -> HttpCall:
    """The call that a request becomes; somebody says hi where it has no messages."""
    request = v1.ChatRequest(messages=messages or [said(USER, text("hi"))], **fields)
    return DIALECT.encode(request, TARGET, stream=stream)


def body(*messages: v1.Message, **fields: Any) -> Any:
    return json.loads(made(*messages, **fields).body)


def unmet(*messages: v1.Message, **fields: Any) -> list[tuple[str, str]]:
    """Paths and codes of the warnings; under the other policy the request is refused for the same."""
    warnings = [(warning.field, warning.code) for warning in made(*messages, **fields).warnings]
    if warnings:
        with pytest.raises(UnsupportedParameter) as refused:
            made(*messages, unsupported_policy=v1.UNSUPPORTED_POLICY_ERROR, **fields)
        assert [(violation.field, violation.reason) for violation in refused.value.violations] == warnings
    return warnings


def refused(*messages: v1.Message) -> str:
    """The path of what cannot be said at all."""
    with pytest.raises(UnsupportedParameter) as caught:
        made(*messages)
    return caught.value.violations[0].field


class TestMessages:
    def test_the_shortest_request(self) -> None:
        call = made()
        assert (call.method, call.path, call.warnings) == ("POST", "/v2/chat", ())
        expected = {"model": TARGET.model, "messages": [{"role": "user", "content": "hi"}], "stream": False}
        assert json.loads(call.body) == expected
        assert body(stream=True) == expected | {"stream": True}

    def test_roles(self) -> None:
        turns = [
            said(SYSTEM, text("a")),
            said(v1.ROLE_DEVELOPER, text("b")),
            said(USER, text("c")),
            said(USER, text("d")),
        ]
        roles = [(message["role"], message["content"]) for message in body(*turns)["messages"]]
        assert roles == [("system", "a"), ("system", "b"), ("user", "c"), ("user", "d")]

    def test_several_parts_stay_apart(self) -> None:
        uri = v1.MediaSource(uri="https://x.example/1.png")
        content = body(said(USER, text("a"), image(), image(uri, v1.IMAGE_DETAIL_LOW), text("b")))["messages"][0][
            "content"
        ]
        assert content == [
            {"type": "text", "text": "a"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}},
            {"type": "image_url", "image_url": {"url": "https://x.example/1.png", "detail": "low"}},
            {"type": "text", "text": "b"},
        ]

    def test_details_are_low_or_high(self) -> None:
        turn = said(USER, image(detail=v1.IMAGE_DETAIL_MEDIUM))
        assert body(turn)["messages"][0]["content"][0]["image_url"]["detail"] == "high"
        assert unmet(turn) == [("messages[0].parts[0].image.detail", "CLAMPED")]

    @pytest.mark.parametrize(
        ("turn", "path"),
        [
            (said(SYSTEM, image()), "messages[0].parts[0]"),
            (said(SYSTEM, document()), "messages[0].parts[0]"),
            (said(USER, v1.Part(audio=v1.AudioPart(source=PNG))), "messages[0].parts[0]"),
            (said(USER, document(mime_type="application/pdf")), "messages[0].parts[0]"),
            (said(USER, document(b"[1]", "application/json")), "messages[0].parts[0].document.source.data"),
            (said(USER, document(b"{", "application/json")), "messages[0].parts[0].document.source.data"),
            (said(ASSISTANT, image()), "messages[0].parts[0]"),
            (said(TOOL, result(v1.Part(audio=v1.AudioPart()))), "messages[0].parts[0].tool_result.parts[0]"),
            (said(ASSISTANT, text("")), "messages"),
        ],
    )
    def test_what_cannot_be_said(self, turn: v1.Message, path: str) -> None:
        assert refused(turn) == path

    def test_a_document_by_uri_cannot_be_said(self) -> None:
        source = v1.MediaSource(uri="https://x.example/1.txt", mime_type="text/plain")
        part = v1.Part(document=v1.DocumentPart(source=source))
        assert refused(said(USER, part)) == "messages[0].parts[0].document.source.uri"


class TestDocuments:
    def test_they_stand_beside_the_messages(self) -> None:
        first = said(USER, document(title="Sky", context="of a poem"), text("What colour?"))
        second = said(USER, text("And now?"), document(b'{"colour": "blue"}', "application/json"))
        sent = body(first, second)
        assert sent["documents"] == [
            {"id": "doc:0", "data": {"text": "The sky is green.", "title": "Sky", "context": "of a poem"}},
            {"id": "doc:1", "data": {"colour": "blue"}},
        ]
        assert [message["content"] for message in sent["messages"]] == ["What colour?", "And now?"]
        assert "citation_options" not in sent

    def test_those_of_results_stay_there_and_are_numbered_too(self) -> None:
        sent = body(said(USER, document(), text("?")), said(ASSISTANT, call()), said(TOOL, result(document(b"blue"))))
        assert sent["documents"][0]["id"] == "doc:0"
        assert sent["messages"][2]["content"] == [
            {"type": "document", "document": {"id": "doc:1", "data": {"text": "blue"}}}
        ]

    def test_citations_are_off_for_all_or_none(self) -> None:
        on, off, plain = document(citations_enabled=True), document(citations_enabled=False), document()
        assert body(said(USER, text("?"), off, off, plain))["citation_options"] == {"mode": "OFF"}
        assert "citation_options" not in body(said(USER, text("?"), on, plain))
        assert unmet(said(USER, text("?"), on, off)) == [
            ("messages[0].parts[2].document.citations_enabled", "UNSUPPORTED_PARAMETER")
        ]


class TestTurnsOfTheModel:
    def test_text_before_calls_is_the_plan(self) -> None:
        turn = said(ASSISTANT, thought("hm", OURS), text("I "), text("add."), call("add", "c1", '{"x":1}'))
        assert body(turn)["messages"] == [
            {
                "role": "assistant",
                "content": [{"type": "thinking", "thinking": "hm"}],
                "tool_plan": "I add.",
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"x":1}'}},
                ],
            }
        ]

    def test_text_without_calls_is_content(self) -> None:
        turn = said(ASSISTANT, text("a"), v1.Part(refusal=v1.RefusalPart(text="no")), text(""))
        assert body(turn)["messages"][0]["content"] == [{"type": "text", "text": "a"}, {"type": "text", "text": "no"}]

    def test_a_turn_that_says_nothing_is_left_out(self) -> None:
        sent = body(said(USER, text("a")), said(ASSISTANT, text("")), said(USER, text("b")))
        assert [message["role"] for message in sent["messages"]] == ["user", "user"]

    @pytest.mark.parametrize(
        "state", [v1.ReplayState(provider="openai"), v1.ReplayState(provider="cohere", model="another")]
    )
    def test_thoughts_of_others_are_left_out(self, state: v1.ReplayState) -> None:
        turn = said(ASSISTANT, thought("hm", state), text("a"))
        assert body(turn)["messages"][0]["content"] == "a"
        assert unmet(turn) == [("messages[0].parts[0]", "REPLAY_STATE_DROPPED")]

    def test_state_and_parts_of_others_are_left_out(self) -> None:
        foreign = v1.Part(text="a", replay_state=v1.ReplayState(provider="gemini"))
        block = v1.Part(provider_part=v1.ProviderPart(provider="anthropic", type="x", json="{}"))
        assert unmet(said(ASSISTANT, foreign, block)) == [
            ("messages[0].parts[0].replay_state", "REPLAY_STATE_DROPPED"),
            ("messages[0].parts[1]", "REPLAY_STATE_DROPPED"),
        ]

    def test_empty_arguments_are_no_arguments(self) -> None:
        turn = said(ASSISTANT, call(arguments=""))
        assert body(turn)["messages"][0]["tool_calls"][0]["function"]["arguments"] == "{}"


class TestResults:
    def test_each_is_a_message(self) -> None:
        turn = said(TOOL, result(text("1")), result(text("2"), text("3"), call_id="c1"))
        assert body(turn)["messages"] == [
            {"role": "tool", "tool_call_id": "c0", "content": "1"},
            {
                "role": "tool",
                "tool_call_id": "c1",
                "content": [{"type": "text", "text": "2"}, {"type": "text", "text": "3"}],
            },
        ]

    def test_failures_are_said_in_words(self) -> None:
        turn = said(TOOL, result(text("no"), is_error=True), result(document(b"why"), is_error=True, call_id="c1"))
        first, second = body(turn)["messages"]
        assert first["content"] == "Error: no"
        assert second["content"][0] == {"type": "text", "text": "Error"}

    def test_an_empty_result(self) -> None:
        assert body(said(TOOL, result()))["messages"][0]["content"] == ""

    def test_images_follow_in_a_message_of_the_user(self) -> None:
        first = said(TOOL, result(image()), result(text("2"), call_id="c1"))
        roles = [(one["role"], one["content"]) for one in body(first, said(USER, text("so?")))["messages"]]
        assert roles[0] == ("tool", "The result is attached to the next user message.")
        assert roles[1] == ("tool", "2")
        assert roles[2][0] == "user"
        assert roles[2][1][0] == {"type": "text", "text": "Attached to the result of tool call c0:"}
        assert roles[3] == ("user", "so?")


class TestTools:
    def test_functions(self) -> None:
        schema = '{"type":"object","properties":{"b":{},"a":{}}}'
        sent = body(tools=[function("f", description="does", parameters_json_schema=schema), function("g")])
        assert sent["tools"] == [
            {"type": "function", "function": {"name": "f", "description": "does", "parameters": json.loads(schema)}},
            {"type": "function", "function": {"name": "g", "parameters": {"type": "object", "properties": {}}}},
        ]
        assert "tool_choice" not in sent
        assert "strict_tools" not in sent

    @pytest.mark.parametrize(
        ("mode", "expected"),
        [
            (v1.ToolChoice.MODE_AUTO, None),
            (v1.ToolChoice.MODE_NONE, "NONE"),
            (v1.ToolChoice.MODE_REQUIRED, "REQUIRED"),
        ],
    )
    def test_choices(self, mode: v1.ToolChoice.Mode.ValueType, expected: str | None) -> None:
        sent = body(tools=[function("f")], tool_choice=v1.ToolChoice(mode=mode))
        assert sent.get("tool_choice") == expected
        assert len(sent["tools"]) == 1

    def test_a_named_tool_is_the_only_one_listed(self) -> None:
        choice = v1.ToolChoice(mode=v1.ToolChoice.MODE_REQUIRED, allowed_tool_names=["g"])
        asked = made(tools=[function("f"), function("g")], tool_choice=choice)
        sent = json.loads(asked.body)
        assert [tool["function"]["name"] for tool in sent["tools"]] == ["g"]
        assert sent["tool_choice"] == "REQUIRED"
        assert [(warning.code, warning.field) for warning in asked.warnings] == [("TOOL_NOT_LISTED", "tools[0]")]

    def test_strict_is_all_or_none(self) -> None:
        assert body(tools=[function("f", strict=True), function("g", strict=True)])["strict_tools"] is True
        tools = [function("f", strict=True), function("g")]
        assert "strict_tools" not in body(tools=tools)
        assert unmet(tools=tools) == [("tools[0].function.strict", "UNSUPPORTED_PARAMETER")]

    def test_tools_of_providers(self) -> None:
        mine = v1.Tool(provider_tool=v1.ProviderTool(provider="cohere", json='{"type":"search"}'))
        foreign = v1.Tool(provider_tool=v1.ProviderTool(provider="openai", json="{}"))
        assert body(tools=[mine, foreign])["tools"] == [{"type": "search"}]
        assert unmet(tools=[foreign]) == [("tools[0]", "UNSUPPORTED_PARAMETER")]

    def test_wishes_that_cannot_be_met(self) -> None:
        choice = v1.ToolChoice(mode=v1.ToolChoice.MODE_REQUIRED, parallel_tool_calls=False)
        assert [field for field, _ in unmet(tool_choice=choice)] == [
            "tool_choice.mode",
            "tool_choice.parallel_tool_calls",
        ]
        tool = v1.Tool(function=v1.FunctionTool(name="f"), cache_breakpoint=v1.CacheBreakpoint())
        assert unmet(tools=[tool]) == [("tools[0].cache_breakpoint", "UNSUPPORTED_PARAMETER")]


class TestOptions:
    def test_sampling(self) -> None:
        sampling = v1.SamplingOptions(
            max_output_tokens=5,
            temperature=0.5,
            top_p=0.75,
            top_k=0,
            frequency_penalty=0.25,
            presence_penalty=0.5,
            seed=7,
            stop_sequences=["a", "b"],
            top_logprobs=0,
            min_p=0,
            repetition_penalty=1,
        )
        sent = body(sampling=sampling)
        for name in ("model", "messages", "stream"):
            del sent[name]
        assert sent == {
            "max_tokens": 5,
            "temperature": 0.5,
            "p": 0.75,
            "k": 0,
            "frequency_penalty": 0.25,
            "presence_penalty": 0.5,
            "seed": 7,
            "stop_sequences": ["a", "b"],
            "logprobs": True,
        }
        assert unmet(sampling=sampling) == []

    def test_sampling_that_there_is_not(self) -> None:
        sampling = v1.SamplingOptions(
            min_p=0.5, repetition_penalty=2, stop_sequences=list("abcdef"), logit_bias={1: 2}, top_logprobs=3
        )
        assert {field for field, _ in unmet(sampling=sampling)} == {
            "sampling.min_p",
            "sampling.repetition_penalty",
            "sampling.stop_sequences[5]",
            "sampling.logit_bias",
            "sampling.top_logprobs",
        }
        assert body(sampling=sampling)["stop_sequences"] == list("abcde")

    @pytest.mark.parametrize(
        ("reasoning", "expected", "warned"),
        [
            (v1.ReasoningOptions(), None, False),
            (v1.ReasoningOptions(effort=v1.REASONING_EFFORT_NONE), {"type": "disabled"}, False),
            (v1.ReasoningOptions(effort=v1.REASONING_EFFORT_HIGH), {"type": "enabled"}, True),
            (v1.ReasoningOptions(budget_tokens=0), {"type": "disabled"}, False),
            (
                v1.ReasoningOptions(budget_tokens=9, effort=v1.REASONING_EFFORT_LOW),
                {"type": "enabled", "token_budget": 9},
                False,
            ),
        ],
    )
    def test_reasoning(self, reasoning: v1.ReasoningOptions, expected: Any, warned: bool) -> None:
        assert body(reasoning=reasoning).get("thinking") == expected
        assert unmet(reasoning=reasoning) == ([("reasoning.effort", "CLAMPED")] if warned else [])

    def test_forms_of_output(self) -> None:
        schema = v1.JsonSchemaFormat(name="n", json_schema='{"type":"object"}', strict=True)
        assert "response_format" not in body(output=v1.OutputOptions(text=v1.TextFormat()))
        json_object = v1.OutputOptions(json_object=v1.JsonObjectFormat())
        assert body(output=json_object)["response_format"] == {"type": "json_object"}
        expected = {"type": "json_object", "json_schema": {"type": "object"}}
        assert body(output=v1.OutputOptions(json_schema=schema))["response_format"] == expected

    def test_wishes_that_cannot_be_met(self) -> None:
        described = v1.JsonSchemaFormat(json_schema="{}", description="d")
        output = v1.OutputOptions(json_schema=described, verbosity="low", predicted_text="x")
        cache = v1.PromptCacheOptions(mode=v1.PromptCacheOptions.MODE_EXPLICIT, key="k", ttl=Duration(seconds=1))
        reasoning = v1.ReasoningOptions(visibility=v1.ReasoningOptions.VISIBILITY_SUMMARY)
        turn = v1.Message(role=USER, name="ann", parts=[v1.Part(text="a", cache_breakpoint=v1.CacheBreakpoint())])
        fields = unmet(
            turn,
            output=output,
            prompt_cache=cache,
            reasoning=reasoning,
            routing=v1.RoutingOptions(service_tier="flex"),
            end_user_id="u",
            include_provider_response=True,
            stream=True,
        )
        assert [field for field, _ in fields] == [
            "messages[0].name",
            "messages[0].parts[0].cache_breakpoint",
            "reasoning.visibility",
            "output.json_schema.description",
            "output.verbosity",
            "output.predicted_text",
            "prompt_cache.mode",
            "prompt_cache.key",
            "prompt_cache.ttl",
            "routing.service_tier",
            "end_user_id",
            "include_provider_response",
        ]

    def test_breakpoints_that_are_off_are_no_wish(self) -> None:
        turn = said(USER, v1.Part(text="a", cache_breakpoint=v1.CacheBreakpoint()))
        assert unmet(turn, prompt_cache=v1.PromptCacheOptions(mode=v1.PromptCacheOptions.MODE_OFF)) == []

    def test_options_of_the_provider_come_last_and_some_fields_stay_ours(self) -> None:
        options = {"safety_mode": "OFF", "model": "x", "stream": True, "messages": [], "temperature": None}
        sent = body(
            sampling=v1.SamplingOptions(temperature=1),
            provider_options_json={"cohere": json.dumps(options), "openai": '{"x":1}'},
        )
        assert sent["safety_mode"] == "OFF"
        assert (sent["model"], sent["stream"], len(sent["messages"])) == (TARGET.model, False, 1)
        assert "temperature" not in sent
        assert "x" not in sent
