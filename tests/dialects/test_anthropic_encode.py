"""Requests in the words of the Messages API."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from parley import v1
from parley_server.core.errors import InvalidRequest, UnsupportedParameter
from parley_server.core.target import Target
from parley_server.dialects.base import HttpCall
from tests.dialects.anthropic_wire import DIALECT, TARGET

HI = v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text="hi")])
USER, ASSISTANT, TOOL, SYSTEM = v1.ROLE_USER, v1.ROLE_ASSISTANT, v1.ROLE_TOOL, v1.ROLE_SYSTEM
PNG = v1.MediaSource(data=b"\x89PNG", mime_type="image/png")


def request(*messages: v1.Message, **fields: Any) -> v1.ChatRequest:
    return v1.ChatRequest(model="anthropic/claude-sonnet-4-5", messages=messages or [HI], **fields)


def turn(role: v1.Role.ValueType, *parts: v1.Part | str) -> v1.Message:
    return v1.Message(role=role, parts=[v1.Part(text=part) if isinstance(part, str) else part for part in parts])


def call_of(asked: v1.ChatRequest, target: Target = TARGET, *, stream: bool = False) -> HttpCall:
    return DIALECT.encode(asked, target, stream=stream)


def body_of(asked: v1.ChatRequest, target: Target = TARGET) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(call_of(asked, target).body)
    return body


def blocks_of(*messages: v1.Message) -> list[Any]:
    return [block for said in body_of(request(*messages))["messages"] for block in said["content"]]


def warned(asked: v1.ChatRequest, target: Target = TARGET) -> list[tuple[str, str]]:
    return [(warning.field, warning.code) for warning in call_of(asked, target).warnings]


def function(name: str, **fields: Any) -> v1.Tool:
    return v1.Tool(function=v1.FunctionTool(name=name, **fields))


def native(**tool: Any) -> v1.Tool:
    return v1.Tool(provider_tool=v1.ProviderTool(provider="anthropic", json=json.dumps(tool)))


def test_the_shortest_request() -> None:
    call = call_of(request())
    assert (call.method, call.path) == ("POST", "/messages")
    assert call.headers == {"content-type": "application/json", "anthropic-version": "2023-06-01"}
    assert call.warnings == ()
    assert json.loads(call.body) == {
        "model": "claude-sonnet-4-5",
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
    }
    assert json.loads(call_of(request(), stream=True).body)["stream"] is True


def test_max_tokens_is_asked_for_or_the_models_most_or_a_constant() -> None:
    card = v1.Model(limits=v1.ModelLimits(max_output_tokens=64000))
    known = Target(provider="anthropic", model="claude-sonnet-4-5", card=card)
    assert body_of(request(sampling=v1.SamplingOptions(max_output_tokens=0)), known)["max_tokens"] == 0
    assert body_of(request(sampling=v1.SamplingOptions(max_output_tokens=7)), known)["max_tokens"] == 7
    assert body_of(request(), known)["max_tokens"] == 64000
    assert body_of(request())["max_tokens"] == 4096


class TestConversation:
    def test_leading_instructions_are_hoisted(self) -> None:
        body = body_of(request(turn(SYSTEM, "Be brief."), turn(v1.ROLE_DEVELOPER, "Rhyme.", " "), HI))
        assert body["system"] == [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Rhyme."}]
        assert [said["role"] for said in body["messages"]] == ["user"]

    def test_later_instructions_are_folded_into_a_user_turn(self) -> None:
        asked = request(HI, turn(ASSISTANT, "Hello."), turn(SYSTEM, "Now in French."), turn(USER, "Bye?"))
        assert body_of(asked)["messages"][-1] == {
            "role": "user",
            "content": [
                {"type": "text", "text": "<system>\nNow in French.\n</system>"},
                {"type": "text", "text": "Bye?"},
            ],
        }
        assert warned(asked) == [("messages[2]", "FOLDED")]

    def test_later_instructions_keep_their_role_where_the_card_says_so(self) -> None:
        target = Target("anthropic", "claude-opus-5", v1.Model(capabilities=["system-turns"]))
        asked = request(HI, turn(SYSTEM, "Now in French."), HI)
        roles = [said["role"] for said in body_of(asked, target)["messages"]]
        assert roles == ["user", "system", "user"]
        assert warned(asked, target) == []

    def test_only_text_can_instruct(self) -> None:
        asked = request(turn(SYSTEM, "Look:", v1.Part(image=v1.ImagePart(source=PNG))), HI)
        assert body_of(asked)["system"] == [{"type": "text", "text": "Look:"}]
        assert warned(asked) == [("messages[0]", "UNSUPPORTED_PARAMETER")]

    def test_turns_of_one_role_are_joined_and_results_come_first(self) -> None:
        call = v1.Part(tool_call=v1.ToolCall(id="a", name="f", arguments_json="{}"))
        result = v1.Part(tool_result=v1.ToolResult(tool_call_id="a", parts=[v1.Part(text="42")]))
        messages = body_of(request(HI, turn(ASSISTANT, call), turn(USER, "Well?"), turn(TOOL, result)))["messages"]
        assert [said["role"] for said in messages] == ["user", "assistant", "user"]
        assert [block["type"] for block in messages[-1]["content"]] == ["tool_result", "text"]

    def test_blank_text_is_left_out(self) -> None:
        assert blocks_of(turn(USER, "", " \n", "hi")) == [{"type": "text", "text": "hi"}]

    def test_instructions_alone_cannot_be_sent(self) -> None:
        for messages in ([turn(SYSTEM, "Be brief.")], [turn(USER, " ")]):
            with pytest.raises(UnsupportedParameter) as raised:
                call_of(request(*messages))
            assert raised.value.violations[0].field == "messages"

    def test_white_space_at_the_end_of_a_prefill_goes(self) -> None:
        asked = request(HI, turn(ASSISTANT, "The answer is: "))
        assert body_of(asked)["messages"][-1]["content"] == [{"type": "text", "text": "The answer is:"}]
        assert warned(asked) == [("messages[1]", "TRIMMED")]
        assert warned(request(HI, turn(ASSISTANT, "Yes. "), HI)) == []

    def test_names_are_unmet(self) -> None:
        asked = request(v1.Message(role=USER, name="ann", parts=[v1.Part(text="hi")]))
        assert warned(asked) == [("messages[0].name", "UNSUPPORTED_PARAMETER")]


class TestParts:
    def test_images(self) -> None:
        by_data = v1.Part(image=v1.ImagePart(source=PNG))
        by_uri = v1.Part(image=v1.ImagePart(source=v1.MediaSource(uri="https://x.example/a.png")))
        data = base64.b64encode(b"\x89PNG").decode()
        assert blocks_of(turn(USER, by_data, by_uri)) == [
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}},
            {"type": "image", "source": {"type": "url", "url": "https://x.example/a.png"}},
        ]

    def test_image_detail_is_unmet(self) -> None:
        part = v1.Part(image=v1.ImagePart(source=PNG, detail=v1.IMAGE_DETAIL_LOW))
        assert warned(request(turn(USER, part))) == [("messages[0].parts[0].image.detail", "UNSUPPORTED_PARAMETER")]

    def test_documents(self) -> None:
        pdf = v1.MediaSource(data=b"%PDF", mime_type="application/pdf")
        text = v1.MediaSource(data="# Hé".encode(), mime_type="text/markdown")
        url = v1.MediaSource(uri="https://x.example/a.pdf")
        parts = [
            v1.Part(document=v1.DocumentPart(source=pdf, title="A", context="old", citations_enabled=True)),
            v1.Part(document=v1.DocumentPart(source=text, citations_enabled=False)),
            v1.Part(document=v1.DocumentPart(source=url)),
        ]
        encoded = base64.b64encode(b"%PDF").decode()
        assert blocks_of(turn(USER, *parts)) == [
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": encoded},
                "title": "A",
                "context": "old",
                "citations": {"enabled": True},
            },
            {
                "type": "document",
                "source": {"type": "text", "media_type": "text/plain", "data": "# Hé"},
                "citations": {"enabled": False},
            },
            {"type": "document", "source": {"type": "url", "url": "https://x.example/a.pdf"}},
        ]

    def test_a_text_document_must_be_utf_8(self) -> None:
        source = v1.MediaSource(data=b"\xff", mime_type="text/plain")
        with pytest.raises(InvalidRequest) as raised:
            call_of(request(turn(USER, v1.Part(document=v1.DocumentPart(source=source)))))
        assert raised.value.violations[0].field == "messages[0].parts[0].document.source.data"

    def test_audio_is_unmet(self) -> None:
        asked = request(turn(USER, "hi", v1.Part(audio=v1.AudioPart(source=PNG))))
        assert warned(asked) == [("messages[0].parts[1].audio", "UNSUPPORTED_PARAMETER")]

    @pytest.mark.parametrize(
        ("written", "sent"),
        [
            ('{"b": 1, "a": 12345678901234567890123}', '{"b": 1, "a": 12345678901234567890123}'),
            ("", "{}"),
            ("[1]", '{"arguments":"[1]"}'),
            ('{"a": tru', '{"arguments":"{\\"a\\": tru"}'),
        ],
    )
    def test_arguments_are_sent_as_the_model_wrote_them_or_wrapped(self, written: str, sent: str) -> None:
        call = v1.Part(tool_call=v1.ToolCall(id="toolu_1", name="f", arguments_json=written))
        raw = call_of(request(HI, turn(ASSISTANT, call))).body.decode()
        assert f'{{"type":"tool_use","id":"toolu_1","name":"f","input":{sent}}}' in raw

    def test_ids_of_others_are_made_fit_alike(self) -> None:
        call = v1.Part(tool_call=v1.ToolCall(id="functions.f:0", name="f", arguments_json="{}"))
        result = v1.Part(tool_result=v1.ToolResult(tool_call_id="functions.f:0"))
        use, answer = blocks_of(turn(ASSISTANT, call), turn(TOOL, result))
        assert use["id"] == answer["tool_use_id"] == "functions_f_0"

    def test_results_with_blocks_and_errors(self) -> None:
        parts = [v1.Part(text="see"), v1.Part(image=v1.ImagePart(source=PNG))]
        result = v1.ToolResult(tool_call_id="a", parts=parts, is_error=True)
        (block,) = blocks_of(turn(TOOL, v1.Part(tool_result=result)))
        assert block["is_error"] is True
        assert [inner["type"] for inner in block["content"]] == ["text", "image"]
        (empty,) = blocks_of(turn(TOOL, v1.Part(tool_result=v1.ToolResult(tool_call_id="a"))))
        assert empty == {"type": "tool_result", "tool_use_id": "a"}

    def test_a_refusal_is_text(self) -> None:
        refusal = v1.Part(refusal=v1.RefusalPart(text="No.", category="bio"))
        assert blocks_of(HI, turn(ASSISTANT, refusal))[1:] == [{"type": "text", "text": "No."}]

    def test_blocks_of_the_provider_go_verbatim_and_in_place(self) -> None:
        block = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"z": 1, "a": 2}}
        part = v1.Part(provider_part=v1.ProviderPart(provider="anthropic", json=json.dumps(block)))
        sent = blocks_of(HI, turn(ASSISTANT, "Looking.", part, "Found."))
        assert [item["type"] for item in sent[1:]] == ["text", "server_tool_use", "text"]
        assert json.dumps(sent[2]) == json.dumps(block)

    def test_blocks_of_another_provider_are_left_out(self) -> None:
        part = v1.Part(provider_part=v1.ProviderPart(provider="openai", json='{"type":"x"}'))
        assert warned(request(turn(USER, "hi", part))) == [("messages[0].parts[1]", "PROVIDER_PART_DROPPED")]

    @pytest.mark.parametrize("text", ["", "[]", "{"])
    def test_a_provider_part_must_be_an_object(self, text: str) -> None:
        part = v1.Part(provider_part=v1.ProviderPart(provider="anthropic", json=text))
        with pytest.raises(InvalidRequest) as raised:
            call_of(request(turn(USER, part)))
        assert raised.value.violations[0].field == "messages[0].parts[0].provider_part.json"


class TestTools:
    def test_functions_and_tools_of_the_provider(self) -> None:
        schema = '{"type":"object","properties":{"z":{},"a":{}}}'
        tools = [
            function("f", description="does", parameters_json_schema=schema, strict=True),
            function("g"),
            native(type="web_search_20260318", name="web_search"),
            v1.Tool(provider_tool=v1.ProviderTool(provider="openai", json="{}")),
        ]
        call = call_of(request(tools=tools))
        assert json.loads(call.body)["tools"] == [
            {"name": "f", "description": "does", "input_schema": json.loads(schema), "strict": True},
            {"name": "g", "input_schema": {"type": "object", "properties": {}}},
            {"type": "web_search_20260318", "name": "web_search"},
        ]
        assert schema.encode() in call.body
        assert [(w.field, w.code) for w in call.warnings] == [("tools[3]", "PROVIDER_TOOL_DROPPED")]

    @pytest.mark.parametrize(
        ("choice", "said"),
        [
            ({}, None),
            ({"mode": v1.ToolChoice.MODE_AUTO}, {"type": "auto"}),
            ({"mode": v1.ToolChoice.MODE_NONE}, {"type": "none"}),
            ({"mode": v1.ToolChoice.MODE_REQUIRED}, {"type": "any"}),
            ({"mode": v1.ToolChoice.MODE_REQUIRED, "allowed_tool_names": ["f"]}, {"type": "tool", "name": "f"}),
            ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
            (
                {"mode": v1.ToolChoice.MODE_REQUIRED, "parallel_tool_calls": True},
                {"type": "any", "disable_parallel_tool_use": False},
            ),
        ],
    )
    def test_choices(self, choice: dict[str, Any], said: dict[str, Any] | None) -> None:
        body = body_of(request(tools=[function("f"), function("g")], tool_choice=v1.ToolChoice(**choice)))
        assert body.get("tool_choice") == said
        assert [tool["name"] for tool in body["tools"]] == ["f", "g"]

    def test_a_subset_is_made_by_listing_no_others(self) -> None:
        tools = [function("f"), native(type="web_search_20260318", name="web_search"), function("g")]
        choice = v1.ToolChoice(allowed_tool_names=["g", "web_search"])
        asked = request(tools=tools, tool_choice=choice)
        assert [tool["name"] for tool in body_of(asked)["tools"]] == ["web_search", "g"]
        assert warned(asked) == [("tool_choice.allowed_tool_names", "TOOL_NOT_LISTED")]
        asked.unsupported_policy = v1.UNSUPPORTED_POLICY_ERROR
        assert body_of(asked)["tools"], "the wish is met, so there is nothing to refuse"

    def test_a_call_cannot_be_forced_on_models_that_always_think(self) -> None:
        choice = v1.ToolChoice(mode=v1.ToolChoice.MODE_REQUIRED, allowed_tool_names=["g"])
        asked = request(tools=[function("f"), function("g")], tool_choice=choice)
        body = body_of(asked, Target("anthropic", "claude-opus-5-5"))
        assert body["tool_choice"] == {"type": "auto"}
        assert [tool["name"] for tool in body["tools"]] == ["g"]
        assert ("tool_choice.mode", "UNSUPPORTED_PARAMETER") in warned(asked, Target("anthropic", "claude-opus-5-5"))

    def test_a_call_cannot_be_forced_while_thinking_on_a_budget(self) -> None:
        asked = request(
            tools=[function("f")],
            tool_choice=v1.ToolChoice(mode=v1.ToolChoice.MODE_REQUIRED),
            reasoning=v1.ReasoningOptions(budget_tokens=2000),
        )
        assert body_of(asked)["tool_choice"] == {"type": "auto"}
        assert warned(asked) == [("tool_choice.mode", "UNSUPPORTED_PARAMETER")]

    def test_without_tools_there_is_no_choice(self) -> None:
        asked = request(tool_choice=v1.ToolChoice(mode=v1.ToolChoice.MODE_REQUIRED))
        assert "tool_choice" not in body_of(asked)
        assert warned(asked) == [("tool_choice.mode", "UNSUPPORTED_PARAMETER")]


class TestOptions:
    def test_sampling_goes_out_as_it_is(self) -> None:
        sampling = v1.SamplingOptions(temperature=0.7, top_p=0, top_k=0, stop_sequences=["END"])
        body = body_of(request(sampling=sampling))
        assert {name: body[name] for name in ("temperature", "top_p", "top_k", "stop_sequences")} == {
            "temperature": 0.7,
            "top_p": 0,
            "top_k": 0,
            "stop_sequences": ["END"],
        }

    def test_models_without_sampling_parameters_get_none(self) -> None:
        target = Target("anthropic", "claude-opus-4-8")
        asked = request(sampling=v1.SamplingOptions(temperature=0.7, top_p=1, stop_sequences=["END"]))
        body = body_of(asked, target)
        assert body.keys() >= {"stop_sequences"}
        assert not body.keys() & {"temperature", "top_p"}
        assert warned(asked, target) == [("sampling.temperature", "UNSUPPORTED_PARAMETER")]

    def test_everything_that_cannot_be_said_is_unmet(self) -> None:
        asked = request(
            sampling=v1.SamplingOptions(
                min_p=0.1,
                frequency_penalty=1,
                presence_penalty=-1,
                repetition_penalty=1.1,
                seed=0,
                logit_bias={5: 1.0},
                top_logprobs=0,
            ),
            output=v1.OutputOptions(json_object=v1.JsonObjectFormat(), verbosity="low", predicted_text="x"),
            prompt_cache=v1.PromptCacheOptions(key="k"),
        )
        fields = {field for field, _ in warned(asked)}
        assert fields == {
            *(f"sampling.{name}" for name in ("min_p", "frequency_penalty", "presence_penalty", "repetition_penalty")),
            *(f"sampling.{name}" for name in ("seed", "logit_bias", "top_logprobs")),
            *(f"output.{name}" for name in ("json_object", "verbosity", "predicted_text")),
            "prompt_cache.key",
        }
        asked.unsupported_policy = v1.UNSUPPORTED_POLICY_ERROR
        with pytest.raises(UnsupportedParameter) as raised:
            call_of(asked)
        assert {violation.field for violation in raised.value.violations} == fields

    def test_penalties_of_nothing_wish_nothing(self) -> None:
        assert warned(request(sampling=v1.SamplingOptions(frequency_penalty=0, repetition_penalty=1))) == []

    def test_structured_output(self) -> None:
        schema = '{"type":"object","properties":{"z":{"type":"string"},"a":{"type":"string"}}}'
        form = v1.JsonSchemaFormat(name="n", json_schema=schema, strict=True)
        call = call_of(request(output=v1.OutputOptions(json_schema=form)))
        assert json.loads(call.body)["output_config"] == {
            "format": {"type": "json_schema", "schema": json.loads(schema)}
        }
        assert schema.encode() in call.body
        assert call.warnings == ()

    def test_who_and_how_fast(self) -> None:
        body = body_of(request(end_user_id="u-1", routing=v1.RoutingOptions(service_tier="standard_only")))
        assert body["metadata"] == {"user_id": "u-1"}
        assert body["service_tier"] == "standard_only"

    def test_provider_options_are_merged_last(self) -> None:
        options = {
            "max_tokens": 9,
            "container": "c",
            "model": "x",
            "messages": [],
            "stream": True,
            "metadata": {"a": 1},
        }
        asked = request(end_user_id="u-1", provider_options_json={"anthropic": json.dumps(options), "openai": "{}"})
        body = body_of(asked)
        assert (body["max_tokens"], body["container"]) == (9, "c")
        assert body["metadata"] == {"user_id": "u-1", "a": 1}
        assert (body["model"], body["messages"] != [], "stream" in body) == ("claude-sonnet-4-5", True, False)

    def test_betas_and_versions_are_headers(self) -> None:
        options = {
            "anthropic_beta": ["a-2025-01-01", "b-2026-01-01"],
            "anthropic_version": "2026-10-21",
            "speed": "fast",
        }
        call = call_of(request(provider_options_json={"anthropic": json.dumps(options)}))
        assert call.headers["anthropic-beta"] == "a-2025-01-01,b-2026-01-01"
        assert call.headers["anthropic-version"] == "2026-10-21"
        assert json.loads(call.body).keys() == {"model", "max_tokens", "messages", "speed"}

    @pytest.mark.parametrize("value", ["a\r\nx-evil: 1", "", [], ["é"], {"a": 1}, 5.5e99])
    def test_a_header_cannot_be_smuggled_in(self, value: Any) -> None:
        options = json.dumps({"anthropic_beta": value})
        with pytest.raises(InvalidRequest) as raised:
            call_of(request(provider_options_json={"anthropic": options}))
        assert raised.value.violations[0].field == "provider_options_json[anthropic].anthropic_beta"

    def test_a_stream_has_no_body_to_return(self) -> None:
        asked = request(include_provider_response=True)
        assert warned(asked) == []
        assert [w.field for w in call_of(asked, stream=True).warnings] == ["include_provider_response"]


class TestCaching:
    @staticmethod
    def marked(text: str, seconds: int | None = None) -> v1.Part:
        ttl = None if seconds is None else Duration(seconds=seconds)
        return v1.Part(text=text, cache_breakpoint=v1.CacheBreakpoint(ttl=ttl))

    @staticmethod
    def marks(body: dict[str, Any]) -> list[str]:
        """Where the marks are and how long they last, in the order of the prefix."""
        blocks = [*body.get("tools", ()), *body.get("system", ())]
        blocks += [block for said in body["messages"] for block in said["content"]]
        return [
            f"{block.get('text') or block.get('name') or block['type']}:{block['cache_control'].get('ttl', '')}"
            for block in blocks
            if "cache_control" in block
        ]

    def test_breakpoints_on_tools_instructions_parts_and_results(self) -> None:
        tool = function("f")
        tool.cache_breakpoint.SetInParent()
        result = v1.ToolResult(tool_call_id="a", parts=[self.marked("inner", 3600)])
        asked = request(
            turn(SYSTEM, self.marked("sys", 3600)),
            turn(USER, self.marked("hi", 300), v1.Part(tool_result=result)),
            tools=[tool],
        )
        body = body_of(asked)
        assert self.marks(body) == ["f:1h", "sys:1h", "hi:5m"]
        assert body["messages"][0]["content"][0]["content"][0]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
        assert warned(asked) == [("prompt_cache", "CLAMPED")], "the tool's must live as long as what follows"

    @pytest.mark.parametrize(
        ("seconds", "word", "exact"),
        [(1, "5m", False), (300, "5m", True), (301, "1h", False), (3600, "1h", True), (7200, "1h", False)],
    )
    def test_lifetimes_are_rounded_up_to_what_there_is(self, seconds: int, word: str, exact: bool) -> None:
        asked = request(turn(USER, self.marked("hi", seconds)))
        assert self.marks(body_of(asked)) == [f"hi:{word}"]
        clamped = [("messages[0].parts[0].cache_breakpoint.ttl", "CLAMPED")]
        assert warned(asked) == ([] if exact else clamped)

    def test_the_requests_lifetime_is_that_of_breakpoints_without_their_own(self) -> None:
        options = v1.PromptCacheOptions(ttl=Duration(seconds=3000))
        asked = request(turn(USER, self.marked("a"), self.marked("b")), prompt_cache=options)
        assert self.marks(body_of(asked)) == ["a:1h", "b:1h"]
        assert warned(asked) == [("prompt_cache.ttl", "CLAMPED")]

    def test_the_oldest_of_too_many_go(self) -> None:
        asked = request(turn(SYSTEM, self.marked("s")), turn(USER, *(self.marked(str(n)) for n in range(5))))
        assert self.marks(body_of(asked)) == ["1:", "2:", "3:", "4:"]
        assert warned(asked) == [("prompt_cache", "CACHE_BREAKPOINTS_DROPPED")]

    def test_the_automatic_one_counts(self) -> None:
        options = v1.PromptCacheOptions(mode=v1.PromptCacheOptions.MODE_AUTO, ttl=Duration(seconds=300))
        body = body_of(request(turn(USER, *(self.marked(str(n)) for n in range(4))), prompt_cache=options))
        assert body["cache_control"] == {"type": "ephemeral", "ttl": "5m"}
        assert self.marks(body) == ["1:5m", "2:5m", "3:5m"]

    def test_off_means_none(self) -> None:
        tool = function("f")
        tool.cache_breakpoint.SetInParent()
        options = v1.PromptCacheOptions(mode=v1.PromptCacheOptions.MODE_OFF, ttl=Duration(seconds=7))
        asked = request(turn(USER, self.marked("hi", 7)), tools=[tool], prompt_cache=options)
        assert b"cache_control" not in call_of(asked).body
        assert warned(asked) == []

    def test_a_breakpoint_on_a_blank_part_ends_the_prefix_before_it(self) -> None:
        assert self.marks(body_of(request(turn(USER, "hi", self.marked(""))))) == ["hi:"]
        asked = request(turn(USER, self.marked(""), "hi"))
        assert self.marks(body_of(asked)) == []
        assert warned(asked) == [("messages[0].parts[0].cache_breakpoint", "UNSUPPORTED_PARAMETER")]
