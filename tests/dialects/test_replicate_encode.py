"""What requests become as inputs of Replicate's models."""

from __future__ import annotations

import json
from typing import Any

import pytest

from parley import v1
from parley_server.core.errors import UnsupportedParameter
from parley_server.dialects.replicate.schema import Schema, read
from tests.dialects.replicate_talk import begun, inputs, schema, user

USER, ASSISTANT, SYSTEM = v1.ROLE_USER, v1.ROLE_ASSISTANT, v1.ROLE_SYSTEM
PNG = v1.MediaSource(data=b"\x89PNG", mime_type="image/png")
DATA_URL = "data:image/png;base64,iVBORw=="


def said(role: v1.Role.ValueType, *parts: v1.Part | str) -> v1.Message:
    return v1.Message(role=role, parts=[v1.Part(text=part) if isinstance(part, str) else part for part in parts])


def image(uri: str = "") -> v1.Part:
    return v1.Part(image=v1.ImagePart(source=v1.MediaSource(uri=uri) if uri else PNG))


def talk(*turns: v1.Message, **fields: Any) -> v1.ChatRequest:
    return v1.ChatRequest(messages=turns, **fields)


def unmet(request: v1.ChatRequest, described: Any = None) -> list[str]:
    """Paths of the warnings; under the other policy the request is refused for the same."""
    fields = [warning.field for warning in begun(request, described=described)[1].call.warnings]
    if fields:
        strict = v1.ChatRequest(unsupported_policy=v1.UNSUPPORTED_POLICY_ERROR)
        strict.MergeFrom(request)
        with pytest.raises(UnsupportedParameter) as refused:
            begun(strict, described=described)
        assert [violation.field for violation in refused.value.violations] == fields
    return fields


def refused(request: v1.ChatRequest, described: Any = None) -> str:
    with pytest.raises(UnsupportedParameter) as caught:
        begun(request, described=described)
    return caught.value.violations[0].field


class TestConversations:
    def test_one_turn(self) -> None:
        request = talk(said(SYSTEM, "Be brief."), said(v1.ROLE_DEVELOPER, "Be kind."), said(USER, "a", "b"))
        assert inputs(request) == {"system_prompt": "Be brief.\n\nBe kind.", "prompt": "a\n\nb"}
        assert unmet(request) == []

    def test_several_turns_are_a_transcript(self) -> None:
        request = talk(said(SYSTEM, "Be brief."), said(USER, "Hi"), said(ASSISTANT, "Hello!"), said(USER, "Bye"))
        assert inputs(request) == {
            "system_prompt": "Be brief.",
            "prompt": "User: Hi\n\nAssistant: Hello!\n\nUser: Bye\n\nAssistant:",
        }
        assert unmet(request) == ["messages"]

    def test_models_that_take_messages_get_them(self) -> None:
        described = schema("prompt", "system_prompt", lists=("messages",))
        request = talk(said(SYSTEM, "Be brief."), said(USER, "Hi"), said(ASSISTANT, "Hello!"), said(USER, "Bye"))
        assert inputs(request, described=described) == {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "Hello!"},
                {"role": "user", "content": "Bye"},
            ]
        }
        assert unmet(request, described) == []
        assert inputs(user(), described=described) == {"prompt": "hi"}
        assert inputs(user(), described=schema(lists=("messages",))) == {
            "messages": [{"role": "user", "content": "hi"}]
        }

    def test_messages_as_a_text_are_nobodys_guess(self) -> None:
        request = talk(said(USER, "Hi"), said(ASSISTANT, "Hello!"), said(USER, "Bye"))
        assert "prompt" in inputs(request, described=schema("prompt", "messages"))

    def test_instructions_without_a_place_begin_the_prompt(self) -> None:
        request = talk(said(SYSTEM, "Be brief."), said(USER, "Hi"))
        assert inputs(request, described=schema("prompt")) == {"prompt": "Be brief.\n\nHi"}
        assert unmet(request, schema("prompt")) == ["messages"]
        assert inputs(request, described=schema("prompt", "system_instruction"))["system_instruction"] == "Be brief."

    def test_documents_are_text(self) -> None:
        source = v1.MediaSource(data=b"Once", mime_type="text/plain")
        document = v1.Part(document=v1.DocumentPart(source=source, title="Tale", citations_enabled=True))
        request = talk(said(USER, document, "Sum up"))
        assert inputs(request) == {"prompt": "Tale\n\nOnce\n\nSum up"}
        assert unmet(request) == ["messages[0].parts[0].document.citations_enabled"]

    def test_what_is_left_out(self) -> None:
        thought = v1.Part(reasoning=v1.ReasoningPart(text="hm"))
        block = v1.Part(provider_part=v1.ProviderPart(provider="x", json="{}"))
        state = v1.Part(text="b", replay_state=v1.ReplayState(provider="x"), cache_breakpoint=v1.CacheBreakpoint())
        turns = [
            said(USER, "a"),
            said(ASSISTANT, thought, block, state),
            v1.Message(role=USER, name="n", parts=[state]),
        ]
        assert unmet(talk(*turns)) == [
            "messages[1].parts[0]",
            "messages[1].parts[1]",
            "messages[1].parts[2].cache_breakpoint",
            "messages[1].parts[2].replay_state",
            "messages[2].name",
            "messages[2].parts[0].cache_breakpoint",
            "messages[2].parts[0].replay_state",
            "messages",
        ]

    @pytest.mark.parametrize(
        "part",
        [
            v1.Part(audio=v1.AudioPart(source=PNG)),
            v1.Part(document=v1.DocumentPart(source=v1.MediaSource(uri="https://x.example", mime_type="text/plain"))),
            v1.Part(document=v1.DocumentPart(source=v1.MediaSource(data=b"x", mime_type="application/pdf"))),
        ],
    )
    def test_what_cannot_be_said(self, part: v1.Part) -> None:
        assert refused(talk(said(USER, "a"), said(ASSISTANT, part), said(USER, "b"))) == "messages[1].parts[0]"

    def test_what_others_did_with_tools_is_told_in_words(self) -> None:
        call = v1.Part(tool_call=v1.ToolCall(id="c", name="look", arguments_json='{"at":"sky"}'))
        fine = v1.Part(tool_result=v1.ToolResult(tool_call_id="c", name="look", parts=[v1.Part(text="blue")]))
        bad = v1.Part(tool_result=v1.ToolResult(tool_call_id="d", parts=[v1.Part(text="gone")], is_error=True))
        request = talk(said(USER, "Well?"), said(ASSISTANT, "Hm.", call), said(v1.ROLE_TOOL, fine, bad))
        assert inputs(request)["prompt"] == (
            'User: Well?\n\nAssistant: Hm.\n\n[look was called with {"at":"sky"}]\n\n'
            "User: [look answered: blue]\n\n[the tool failed: gone]\n\nAssistant:"
        )
        told = ["messages[1].parts[1]", "messages[2].parts[0]", "messages[2].parts[1]", "messages"]
        assert unmet(request) == told

    def test_pictures_in_results_cannot_be_said(self) -> None:
        result = v1.Part(tool_result=v1.ToolResult(tool_call_id="c", parts=[v1.Part(text="look"), image()]))
        at = "messages[1].parts[0].tool_result.parts[1]"
        assert refused(talk(said(USER, "a"), said(v1.ROLE_TOOL, result))) == at

    def test_nothing_to_answer(self) -> None:
        assert refused(talk(said(SYSTEM, "a"))) == "messages"


class TestImages:
    def test_one(self) -> None:
        assert inputs(talk(said(USER, "What?", image()))) == {"prompt": "What?", "image": DATA_URL}
        uri = "https://x.example/1.png"
        assert inputs(talk(said(USER, "What?", image(uri))))["image"] == uri

    def test_several(self) -> None:
        request = talk(said(USER, "What?", image(), image("https://x.example/1.png")))
        sent = inputs(request, described=schema("prompt", lists=("image_input",)))
        assert sent["image_input"] == [DATA_URL, "https://x.example/1.png"]
        assert refused(request) == "messages[0].parts[2].image"

    def test_of_earlier_turns_have_no_place(self) -> None:
        request = talk(said(USER, "a", image()), said(ASSISTANT, "b"), said(USER, "c"))
        assert refused(request) == "messages[0].parts[1]"

    def test_models_that_take_none(self) -> None:
        assert refused(talk(said(USER, "a", image())), schema("prompt")) == "messages[0].parts[1].image"

    def test_there_is_no_detail(self) -> None:
        part = v1.Part(image=v1.ImagePart(source=PNG, detail=v1.IMAGE_DETAIL_LOW))
        assert unmet(talk(said(USER, "a", part))) == ["messages[0].parts[1].image.detail"]


ALL = v1.SamplingOptions(
    max_output_tokens=5,
    temperature=0.5,
    top_p=0.75,
    top_k=4,
    min_p=0.25,
    frequency_penalty=1,
    presence_penalty=1,
    repetition_penalty=2,
    seed=7,
    stop_sequences=["a", "b"],
    logit_bias={1: 2},
    top_logprobs=0,
)


class TestWishes:
    def test_sampling_of_models_that_nobody_described(self) -> None:
        request = user()
        request.sampling.CopyFrom(ALL)
        assert inputs(request) == {
            "prompt": "hi",
            "max_tokens": 5,
            "temperature": 0.5,
            "top_p": 0.75,
            "top_k": 4,
            "frequency_penalty": 1,
            "presence_penalty": 1,
            "seed": 7,
            "stop_sequences": "a,b",
        }
        assert unmet(request) == [
            "sampling.min_p",
            "sampling.repetition_penalty",
            "sampling.logit_bias",
            "sampling.top_logprobs",
        ]

    def test_sampling_goes_by_the_names_of_the_model(self) -> None:
        request = user()
        request.sampling.CopyFrom(ALL)
        sent = inputs(request, described=schema("prompt", "max_new_tokens", "min_p", lists=("stop",)))
        assert sent == {"prompt": "hi", "max_new_tokens": 5, "min_p": 0.25, "stop": ["a", "b"]}
        assert "sampling.temperature" in unmet(request, schema("prompt"))

    def test_commas_in_stop_sequences(self) -> None:
        request = user()
        request.sampling.stop_sequences.append("a,b")
        assert unmet(request) == ["sampling.stop_sequences"]

    def test_effort(self) -> None:
        request = user()
        request.reasoning.effort = v1.REASONING_EFFORT_MAX
        assert unmet(request) == ["reasoning.effort"]
        described = schema("prompt", reasoning_effort={"allOf": [{"$ref": "#/components/schemas/effort"}]})
        assert inputs(request, described=described)["reasoning_effort"] == "high"
        assert unmet(request, described) == ["reasoning.effort"]
        request = user()
        request.reasoning.effort = v1.REASONING_EFFORT_LOW
        assert unmet(request, described) == []

    def test_what_a_prediction_has_no_place_for(self) -> None:
        request = user()
        request.tools.add(function=v1.FunctionTool(name="f"))
        request.output.json_object.SetInParent()
        request.output.verbosity = "low"
        request.output.predicted_text = "x"
        request.reasoning.budget_tokens = 5
        request.reasoning.visibility = v1.ReasoningOptions.VISIBILITY_FULL
        request.prompt_cache.key = "k"
        request.prompt_cache.ttl.seconds = 1
        request.routing.service_tier = "flex"
        request.end_user_id = "u"
        assert unmet(request) == [
            "reasoning.budget_tokens",
            "reasoning.visibility",
            "tools",
            "output.json_object",
            "output.verbosity",
            "output.predicted_text",
            "prompt_cache.key",
            "prompt_cache.ttl",
            "routing.service_tier",
            "end_user_id",
        ]

    def test_verbosity_and_tools_that_are_no_wish(self) -> None:
        request = user()
        request.tools.add(function=v1.FunctionTool(name="f"))
        request.tool_choice.mode = v1.ToolChoice.MODE_NONE
        request.output.verbosity = "low"
        assert inputs(request, described=schema("prompt", "verbosity"))["verbosity"] == "low"
        assert unmet(request, schema("prompt", "verbosity")) == []

    def test_options_of_the_provider(self) -> None:
        request = user()
        options = {"input": {"length_penalty": 2}, "webhook": "https://x.example", "version": "v", "stream": True}
        request.provider_options_json["replicate"] = json.dumps(options)
        body = json.loads(begun(request)[1].call.body)
        assert body == {"input": {"prompt": "hi", "length_penalty": 2}, "webhook": "https://x.example"}


class TestSchemas:
    @pytest.mark.parametrize("version", [None, 7, {}, {"openapi_schema": {"components": {"schemas": {"Input": []}}}}])
    def test_what_cannot_be_read(self, version: Any) -> None:
        assert read(version) is None

    def test_broken_references(self) -> None:
        described = schema("prompt", seed={"allOf": [{"$ref": "#/nowhere"}]})
        assert read(described["latest_version"]) is None

    def test_what_is_not_known_is_taken_for_usual(self) -> None:
        assert Schema().name("max_output_tokens") == "max_tokens"
        assert Schema().name("messages") == ""
