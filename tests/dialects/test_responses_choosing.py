"""Which requests go to the Responses API where a provider has chat completions too."""

from __future__ import annotations

from typing import Any

import pytest

from parley import v1
from parley_server.core.target import Target
from parley_server.dialects.openai_chat import OpenAIChat
from parley_server.dialects.openai_responses import OpenAIResponses, by_request, needs_responses
from tests.dialects.responses_ask import assistant, called, text, user
from tests.dialects.responses_wire import decode, function_call, message, reasoning, words

TOOL = v1.Tool(function=v1.FunctionTool(name="f"))
NONE, LOW, HIGH = v1.REASONING_EFFORT_NONE, v1.REASONING_EFFORT_LOW, v1.REASONING_EFFORT_HIGH
Visibility = v1.ReasoningOptions.Visibility


def target(model: str, **rest: Any) -> Target:
    return Target("openai", model, **rest)


def needs(model: str, *messages: v1.Message, **rest: Any) -> bool:
    return needs_responses(v1.ChatRequest(messages=messages or [user(text("hi"))], **rest), target(model))


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        ("gpt-5-pro", True),
        ("gpt-5.4-pro-2026-03-05", True),
        ("o3-pro", True),
        ("gpt-5.3-codex", True),
        ("codex-mini-latest", True),
        ("o4-mini-deep-research", True),
        ("computer-use-preview", True),
        ("openai/gpt-5.2-pro", True),
        ("gpt-4.1", False),
        ("gpt-5.4", False),
        ("gpt-5", False),
        ("o3", False),
        ("gpt-5-chat-latest", False),
        ("gpt-audio", False),
        ("gpt-4o-audio-preview", False),
        ("gpt-5-search-api", False),
    ],
)
def test_models_that_only_one_of_the_two_has(model: str, wanted: bool) -> None:
    assert needs(model) is wanted


@pytest.mark.parametrize(
    ("model", "effort", "wanted"),
    [
        ("gpt-5.4", None, False),
        ("gpt-5.4", NONE, False),
        ("gpt-5.4", LOW, True),
        ("gpt-5.4-mini", HIGH, True),
        ("gpt-5.5", None, True),
        ("gpt-5.6-luna", NONE, False),
        ("gpt-5.10", LOW, True),
        ("gpt-6-astra", None, True),
        ("gpt-5.1", HIGH, False),
        ("gpt-5.3", HIGH, False),
        ("gpt-5", HIGH, False),
        ("o3", HIGH, False),
        ("gpt-4.1", None, False),
    ],
)
def test_functions_for_models_that_reason(model: str, effort: Any, wanted: bool) -> None:
    options = {} if effort is None else {"reasoning": v1.ReasoningOptions(effort=effort)}
    assert needs(model, tools=[TOOL], **options) is wanted
    assert needs(model, **options) is False


def test_a_deployment_is_what_its_base_model_is() -> None:
    request = v1.ChatRequest(messages=[user(text("hi"))], tools=[TOOL])
    assert needs_responses(request, target("mine", base_model="gpt-5.5"))
    assert not needs_responses(request, target("mine"))


@pytest.mark.parametrize(
    ("model", "visibility", "effort", "wanted"),
    [
        ("gpt-5", Visibility.VISIBILITY_SUMMARY, LOW, True),
        ("gpt-5.1", Visibility.VISIBILITY_SUMMARY, 0, True),
        ("gpt-5", Visibility.VISIBILITY_FULL, LOW, True),
        ("gpt-5.1", Visibility.VISIBILITY_SUMMARY, NONE, False),
        ("gpt-5", Visibility.VISIBILITY_OMITTED, LOW, False),
        ("gpt-4.1", Visibility.VISIBILITY_SUMMARY, 0, False),
    ],
)
def test_reasoning_that_is_to_be_seen(model: str, visibility: Any, effort: Any, wanted: bool) -> None:
    assert needs(model, reasoning=v1.ReasoningOptions(visibility=visibility, effort=effort)) is wanted


@pytest.mark.parametrize(
    ("json", "provider", "wanted"),
    [
        ('{"type":"web_search"}', "openai", True),
        ('{"type":"custom","name":"x"}', "openai", True),
        ('{"type":"custom","custom":{"name":"x"}}', "openai", False),
        ('{"type":"function","function":{"name":"x"}}', "openai", False),
        ('{"type":"web_search_20260209"}', "anthropic", False),
        ("[]", "openai", False),
        ("{", "openai", False),
    ],
)
def test_tools_of_the_provider(json: str, provider: str, wanted: bool) -> None:
    tool = v1.Tool(provider_tool=v1.ProviderTool(provider=provider, json=json))
    assert needs("gpt-4.1", tools=[tool]) is wanted


@pytest.mark.parametrize(
    ("part", "wanted"),
    [
        (decode(reasoning(encrypted_content="x")).message.parts[0], True),
        (decode(message(words("a"), phase="final_answer")).message.parts[0], True),
        (decode(function_call(namespace="n")).message.parts[0], True),
        (decode({"type": "web_search_call", "id": "w"}).message.parts[0], True),
        (decode(message(words("a"))).message.parts[0], False),
        (called(), False),
        (v1.Part(text="a", replay_state=v1.ReplayState(provider="openai", data=b'{"field":"x"}')), False),
        (v1.Part(text="a", replay_state=v1.ReplayState(provider="xai", data=b'{"responses":{}}')), False),
        (v1.Part(provider_part=v1.ProviderPart(provider="openai", type="custom", json="{}")), False),
        (v1.Part(provider_part=v1.ProviderPart(provider="anthropic", type="x_call", json="{}")), False),
    ],
)
def test_what_earlier_turns_brought(part: v1.Part, wanted: bool) -> None:
    assert needs("gpt-5.4", user(text("hi")), assistant(part), user(text("more"))) is wanted


def test_documents_that_the_provider_fetches() -> None:
    there = v1.Part(document=v1.DocumentPart(source=v1.MediaSource(uri="https://x/y.pdf")))
    here = v1.Part(document=v1.DocumentPart(source=v1.MediaSource(data=b"x", mime_type="application/pdf")))
    assert needs("gpt-4.1", user(there))
    assert not needs("gpt-4.1", user(here))


def test_audio_is_only_there_in_chat_completions() -> None:
    audio = v1.Part(audio=v1.AudioPart(source=v1.MediaSource(data=b"x", mime_type="audio/wav")))
    thought = decode(reasoning(encrypted_content="x")).message.parts[0]
    assert not needs("gpt-5.5", assistant(thought), user(audio), tools=[TOOL])


@pytest.mark.parametrize(("api", "wanted"), [("auto", [0, 1]), ("chat", [0, 0]), ("responses", [1, 1])])
def test_the_setting(api: Any, wanted: list[int]) -> None:
    dialects = OpenAIChat(), OpenAIResponses()
    choose = by_request(*dialects, api)
    request = v1.ChatRequest(messages=[user(text("hi"))])
    assert [choose(request, target(model)) for model in ("gpt-4.1", "gpt-5-pro")] == [dialects[n] for n in wanted]
