"""What Ollama is asked, for what our requests say."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from parley import v1
from parley_server.core.errors import UnsupportedParameter
from parley_server.dialects.base import HttpCall
from tests.dialects.ollama_wire import DIALECT, TARGET, call, last, unary

ASSISTANT = v1.ROLE_ASSISTANT
PNG = v1.MediaSource(data=b"\x89PNG", mime_type="image/png")


def user(*parts: v1.Part) -> v1.Message:
    return v1.Message(role=v1.ROLE_USER, parts=parts)


def text(words: str) -> v1.Part:
    return v1.Part(text=words)


def made(request: v1.ChatRequest, *, stream: bool = False) -> HttpCall:
    if not request.messages:
        request.messages.append(user(text("hi")))
    return DIALECT.encode(request, TARGET, stream=stream)


def body(request: v1.ChatRequest, *, stream: bool = False) -> Any:
    return json.loads(made(request, stream=stream).body)


def messages(*said: v1.Message) -> Any:
    return body(v1.ChatRequest(messages=said))["messages"]


def left_out(request: v1.ChatRequest) -> dict[str, str]:
    return {warning.field: warning.code for warning in made(request).warnings}


def refused(request: v1.ChatRequest) -> list[str]:
    with pytest.raises(UnsupportedParameter) as error:
        made(request)
    return [violation.field for violation in error.value.violations]


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


class TestMessages:
    def test_roles(self) -> None:
        said = messages(
            v1.Message(role=v1.ROLE_SYSTEM, parts=[text("a")]),
            v1.Message(role=v1.ROLE_DEVELOPER, parts=[text("b")]),
            user(text("c")),
            v1.Message(role=ASSISTANT, parts=[text("d")]),
        )
        assert said == [
            {"role": "system", "content": "a"},
            {"role": "system", "content": "b"},
            {"role": "user", "content": "c"},
            {"role": "assistant", "content": "d"},
        ]

    def test_texts_are_joined_by_blank_lines_and_those_of_the_model_by_nothing(self) -> None:
        said = messages(user(text("a"), text("b")), v1.Message(role=ASSISTANT, parts=[text("c"), text("d")]))
        assert [message["content"] for message in said] == ["a\n\nb", "cd"]

    def test_images_stand_beside_the_text(self) -> None:
        image = v1.Part(image=v1.ImagePart(source=PNG))
        assert messages(user(text("what is"), image, text("this?"), image)) == [
            {"role": "user", "content": "what is\n\nthis?", "images": [b64encode(b"\x89PNG").decode()] * 2}
        ]
        assert messages(user(image)) == [{"role": "user", "content": "", "images": [b64encode(b"\x89PNG").decode()]}]

    def test_an_image_by_uri_is_refused(self) -> None:
        part = v1.Part(image=v1.ImagePart(source=v1.MediaSource(uri="https://example.org/a.png")))
        assert refused(v1.ChatRequest(messages=[user(text("?"), part)])) == ["messages[0].parts[1].image.source.uri"]

    def test_text_documents_are_text(self) -> None:
        source = v1.MediaSource(data="Straße".encode(), mime_type="text/markdown")
        part = v1.Part(document=v1.DocumentPart(source=source, title="Notes", context="of today"))
        assert messages(user(part, text("sum up")))[0]["content"] == "Notes\n\nof today\n\nStraße\n\nsum up"

    @pytest.mark.parametrize(
        "part",
        [
            v1.Part(audio=v1.AudioPart(source=v1.MediaSource(data=b"RIFF", mime_type="audio/wav"))),
            v1.Part(document=v1.DocumentPart(source=v1.MediaSource(data=b"%PDF", mime_type="application/pdf"))),
            v1.Part(provider_part=v1.ProviderPart(provider="anthropic", type="x", json="{}")),
            v1.Part(reasoning=v1.ReasoningPart(text="hm")),
        ],
        ids=["audio", "pdf", "provider_part", "reasoning"],
    )
    def test_content_that_cannot_be_said_refuses_the_request(self, part: v1.Part) -> None:
        assert refused(v1.ChatRequest(messages=[user(text("a")), user(part)])) == ["messages[1].parts[0]"]

    def test_instructions_are_text(self) -> None:
        message = v1.Message(role=v1.ROLE_SYSTEM, parts=[v1.Part(image=v1.ImagePart(source=PNG))])
        assert refused(v1.ChatRequest(messages=[message])) == ["messages[0].parts[0]"]

    def test_small_wishes_are_left_out_with_a_warning(self) -> None:
        image = v1.Part(image=v1.ImagePart(source=PNG, detail=v1.IMAGE_DETAIL_LOW))
        cached = v1.Part(text="x", cache_breakpoint=v1.CacheBreakpoint())
        source = v1.MediaSource(data=b"x", mime_type="text/plain")
        cited = v1.Part(document=v1.DocumentPart(source=source, citations_enabled=True))
        request = v1.ChatRequest(messages=[v1.Message(role=v1.ROLE_USER, name="ann", parts=[image, cached, cited])])
        assert left_out(request) == {
            "messages[0].name": "UNSUPPORTED_PARAMETER",
            "messages[0].parts[0].image.detail": "UNSUPPORTED_PARAMETER",
            "messages[0].parts[1].cache_breakpoint": "UNSUPPORTED_PARAMETER",
            "messages[0].parts[2].document.citations_enabled": "UNSUPPORTED_PARAMETER",
        }
        request.prompt_cache.mode = v1.PromptCacheOptions.MODE_OFF
        assert "messages[0].parts[1].cache_breakpoint" not in left_out(request)


class TestTurns:
    def test_tool_calls_and_results(self) -> None:
        called = v1.Part(
            tool_call=v1.ToolCall(id="call_1", name="add", arguments_json='{"y":1,"x":12345678901234567890}')
        )
        named = v1.ToolResult(tool_call_id="call_1", name="sum", parts=[text("3")])
        unnamed = v1.ToolResult(tool_call_id="call_1", parts=[text("no"), text("way")], is_error=True)
        request = v1.ChatRequest(
            messages=[
                v1.Message(role=ASSISTANT, parts=[called]),
                v1.Message(role=v1.ROLE_TOOL, parts=[v1.Part(tool_result=named), v1.Part(tool_result=unnamed)]),
            ]
        )
        raw = made(request).body
        assert b'{"y":1,"x":12345678901234567890}' in raw  # as the model wrote it, key order and all
        assert json.loads(raw)["messages"] == [
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    {"id": "call_1", "function": {"name": "add", "arguments": {"y": 1, "x": 12345678901234567890}}}
                ],
            },
            {"role": "tool", "content": "3", "tool_name": "sum", "tool_call_id": "call_1"},
            {"role": "tool", "content": "Error: no\n\nway", "tool_name": "add", "tool_call_id": "call_1"},
        ]

    @pytest.mark.parametrize(
        ("written", "sent"),
        [("", {}), ("{}", {}), ("[1]", {"arguments": "[1]"}), ('{"x":', {"arguments": '{"x":'})],
    )
    def test_arguments_are_always_an_object(self, written: str, sent: Any) -> None:
        part = v1.Part(tool_call=v1.ToolCall(id="c", name="f", arguments_json=written))
        said = messages(v1.Message(role=ASSISTANT, parts=[part]))
        assert said[0]["tool_calls"][0]["function"]["arguments"] == sent

    def test_images_of_results_follow_in_a_user_message(self) -> None:
        image = v1.Part(image=v1.ImagePart(source=PNG))
        results = [
            v1.Part(tool_result=v1.ToolResult(tool_call_id="a", name="f", parts=[image])),
            v1.Part(tool_result=v1.ToolResult(tool_call_id="b", name="f", parts=[text("ok"), image])),
        ]
        said = messages(v1.Message(role=v1.ROLE_TOOL, parts=results), user(text("go on")))
        assert [(message["role"], message["content"]) for message in said] == [
            ("tool", "The result is attached to the next user message."),
            ("tool", "ok"),
            ("user", "Attached to the result of tool call a:\n\nAttached to the result of tool call b:"),
            ("user", "go on"),
        ]
        assert len(said[2]["images"]) == 2

    def test_a_decoded_turn_goes_back_as_it_came(self) -> None:
        answer = last({"thinking": "Hm", "content": "So", "tool_calls": [call("add", {"x": 2}, id="call_7")]})
        said = messages(unary(answer).message)
        assert said == [
            {
                "role": "assistant",
                "content": "So",
                "thinking": "Hm",
                "tool_calls": [{"id": "call_7", "function": {"name": "add", "arguments": {"x": 2}}}],
            }
        ]

    def test_foreign_reasoning_and_state_are_left_out(self) -> None:
        foreign = v1.ReplayState(provider="anthropic", model="m", data=b"signature")
        request = v1.ChatRequest(
            messages=[
                v1.Message(
                    role=ASSISTANT,
                    parts=[
                        v1.Part(reasoning=v1.ReasoningPart(text="theirs"), replay_state=foreign),
                        v1.Part(text="kept", replay_state=foreign),
                        v1.Part(provider_part=v1.ProviderPart(provider="openai", type="x", json="{}")),
                        v1.Part(refusal=v1.RefusalPart(text=" but no")),
                    ],
                )
            ]
        )
        assert left_out(request) == {
            "messages[0].parts[0]": "REPLAY_STATE_DROPPED",
            "messages[0].parts[1].replay_state": "REPLAY_STATE_DROPPED",
            "messages[0].parts[2]": "REPLAY_STATE_DROPPED",
        }
        assert body(request)["messages"] == [{"role": "assistant", "content": "kept but no"}]

    def test_reasoning_of_nobody_in_particular_is_sent(self) -> None:
        part = v1.Part(reasoning=v1.ReasoningPart(text="Hm"))
        assert messages(v1.Message(role=ASSISTANT, parts=[part, text("a")]))[0]["thinking"] == "Hm"


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
