"""What every chat dialect must do with requests: say all of it or say what it left out, and take its own turns back."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from parley import v1
from parley_server.core.errors import UnsupportedParameter
from tests.contract.case import Case
from tests.contract.cases import cases
from tests.contract.said import sayings

every_case = pytest.mark.parametrize("case", cases(), ids=str)
examples = settings(max_examples=50)  # of each property, for each of a dozen dialects
streaming = pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
SCHEMA = '{"type":"object","properties":{"city":{"type":"string"}},"required":["city"],"additionalProperties":false}'


def user(text: str) -> v1.Message:
    return v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text=text)])


def plain(**fields: Any) -> v1.ChatRequest:
    return v1.ChatRequest(messages=[user("Hello")], **fields)


def everything(case: Case) -> v1.ChatRequest:
    """A request that wishes for all there is, its pieces in plain text."""
    call = v1.ToolCall(id="call_1", name="weather", arguments_json='{"city":"Oslo"}')
    result = v1.ToolResult(tool_call_id="call_1", name="weather", parts=[v1.Part(text="rain")])
    cached = v1.CacheBreakpoint()
    return v1.ChatRequest(
        model=str(case.target),
        messages=[
            v1.Message(role=v1.ROLE_SYSTEM, parts=[v1.Part(text="Be brief.", cache_breakpoint=cached)]),
            v1.Message(role=v1.ROLE_DEVELOPER, parts=[v1.Part(text="Answer in verse.")]),
            v1.Message(role=v1.ROLE_USER, name="ann", parts=[v1.Part(text="Do I need"), v1.Part(text=" a coat?")]),
            v1.Message(role=v1.ROLE_ASSISTANT, parts=[v1.Part(text="Let me look."), v1.Part(tool_call=call)]),
            v1.Message(role=v1.ROLE_TOOL, parts=[v1.Part(tool_result=result)]),
            v1.Message(role=v1.ROLE_SYSTEM, parts=[v1.Part(text="It is winter.")]),
            user("So?"),
        ],
        tools=[
            v1.Tool(
                function=v1.FunctionTool(
                    name="weather", description="The weather.", parameters_json_schema=SCHEMA, strict=True
                )
            ),
            v1.Tool(function=v1.FunctionTool(name="clock", description="The time.")),
        ],
        tool_choice=v1.ToolChoice(
            mode=v1.ToolChoice.MODE_REQUIRED, allowed_tool_names=["clock"], parallel_tool_calls=False
        ),
        sampling=v1.SamplingOptions(
            max_output_tokens=3000,
            temperature=0.5,
            top_p=0.9,
            top_k=40,
            min_p=0.05,
            frequency_penalty=0.1,
            presence_penalty=0.2,
            repetition_penalty=1.1,
            seed=7,
            stop_sequences=["END", "STOP"],
            logit_bias={7: 1.5},
            top_logprobs=3,
        ),
        reasoning=v1.ReasoningOptions(
            effort=v1.REASONING_EFFORT_HIGH, budget_tokens=2000, visibility=v1.ReasoningOptions.VISIBILITY_SUMMARY
        ),
        output=v1.OutputOptions(
            json_schema=v1.JsonSchemaFormat(name="answer", json_schema=SCHEMA, strict=True, description="The answer."),
            verbosity="low",
            predicted_text="Yes.",
        ),
        prompt_cache=v1.PromptCacheOptions(mode=v1.PromptCacheOptions.MODE_AUTO, key="k"),
        end_user_id="user-1",
        metadata={"team": "search"},
        provider_options_json={case.target.provider: '{"zz_option": {"a": 1}}', "someone-else": '{"zz_foreign": 1}'},
        unsupported_policy=v1.UNSUPPORTED_POLICY_WARN,
    )


def at(message: Message, path: str) -> bool:
    """Whether `path` leads to a field of `message` that is set, or could be."""
    found: Any = message
    for step, index in re.findall(r"(\w+)|\[([^\]]+)\]", path):
        if step:
            if not isinstance(found, Message) or step not in found.DESCRIPTOR.fields_by_name:
                return False
            found = getattr(found, step)
        elif not index.strip("'").isdigit():
            return index.strip("'") in found
        else:
            number = int(index)
            if number in found if hasattr(found, "keys") else number < len(found):
                found = found[number]
            else:
                return False
    return True


# ------------------------------------------------------------------------------------------------------------ requests


@every_case
@streaming
def test_the_shortest_request_needs_no_excuse(case: Case, stream: bool) -> None:
    call = case.call(plain(), stream=stream)
    assert not call.warnings
    assert call.path.startswith("/")
    assert "Hello" in call.body.decode()
    assert isinstance(json.loads(call.body), dict)
    assert all(name == name.lower() for name in call.headers)


@every_case
@streaming
def test_encoding_is_pure(case: Case, stream: bool) -> None:
    request = everything(case)
    before = request.SerializeToString(deterministic=True)
    first, second = (case.call(request, stream=stream) for _ in range(2))
    assert first == second
    assert request.SerializeToString(deterministic=True) == before


@every_case
@streaming
def test_what_is_left_out_is_told_by_its_path(case: Case, stream: bool) -> None:
    request = everything(case)
    for warning in case.call(request, stream=stream).warnings:
        assert warning.code
        assert warning.message
        assert at(request, warning.field), f"{warning.field} is no field of the request"


@every_case
@streaming
def test_under_the_strict_policy_every_warning_is_a_refusal(case: Case, stream: bool) -> None:
    request = everything(case)
    told = {warning.field for warning in case.call(request, stream=stream).warnings}
    request.unsupported_policy = v1.UNSUPPORTED_POLICY_ERROR
    if not told:
        case.call(request, stream=stream)
        return
    with pytest.raises(UnsupportedParameter) as caught:
        case.call(request, stream=stream)
    assert {violation.field for violation in caught.value.violations} <= told
    assert caught.value.violations


WISHES: dict[str, v1.ChatRequest] = {
    "sampling.temperature": plain(sampling=v1.SamplingOptions(temperature=0.4567)),
    "sampling.top_p": plain(sampling=v1.SamplingOptions(top_p=0.4567)),
    "sampling.top_k": plain(sampling=v1.SamplingOptions(top_k=4567)),
    "sampling.min_p": plain(sampling=v1.SamplingOptions(min_p=0.4567)),
    "sampling.frequency_penalty": plain(sampling=v1.SamplingOptions(frequency_penalty=0.4567)),
    "sampling.presence_penalty": plain(sampling=v1.SamplingOptions(presence_penalty=0.4567)),
    "sampling.repetition_penalty": plain(sampling=v1.SamplingOptions(repetition_penalty=1.4567)),
    "sampling.max_output_tokens": plain(sampling=v1.SamplingOptions(max_output_tokens=4567)),
    "sampling.seed": plain(sampling=v1.SamplingOptions(seed=4567)),
    "sampling.stop_sequences": plain(sampling=v1.SamplingOptions(stop_sequences=["4567"])),
    "sampling.logit_bias": plain(sampling=v1.SamplingOptions(logit_bias={4567: 1})),
    "output.verbosity": plain(output=v1.OutputOptions(verbosity="v4567")),
    "output.predicted_text": plain(output=v1.OutputOptions(predicted_text="4567")),
    "end_user_id": plain(end_user_id="4567"),
}


@every_case
@pytest.mark.parametrize("wish", WISHES)
def test_a_wish_is_met_or_told_and_never_lost(case: Case, wish: str) -> None:
    call = case.call(WISHES[wish])
    met = "4567" in call.body.decode()
    told = [w.field for w in call.warnings if w.field.startswith(wish) or wish.startswith(f"{w.field}.")]
    assert met or told
    assert {warning.field for warning in call.warnings} == set(told)


@every_case
def test_options_of_this_provider_are_merged_and_those_of_others_are_not(case: Case) -> None:
    body = case.call(everything(case)).body.decode()
    assert '"zz_option":{"a":1}' in body
    assert "zz_foreign" not in body


@every_case
def test_turns_with_tools_are_sent_or_told_in_words(case: Case) -> None:
    """Also to models without tools: other models may have called them before."""
    call = v1.ToolCall(id="call_1", name="weather", arguments_json='{"city":"Oslo"}')
    result = v1.ToolResult(tool_call_id="call_1", name="weather", parts=[v1.Part(text="rain, 7 degrees")])
    request = plain(tools=[v1.Tool(function=v1.FunctionTool(name="weather", parameters_json_schema=SCHEMA))])
    request.messages.add(role=v1.ROLE_ASSISTANT, parts=[v1.Part(tool_call=call)])
    request.messages.add(role=v1.ROLE_TOOL, parts=[v1.Part(tool_result=result)])
    made = case.call(request)
    for words in ("weather", "Oslo", "rain, 7 degrees"):
        assert words in made.body.decode()
    told = {warning.field for warning in made.warnings}
    if "tool_calls" not in case.lacks:
        assert not told
        return
    assert {"tools", "messages[1].parts[0]", "messages[2].parts[0]"} <= told
    request.unsupported_policy = v1.UNSUPPORTED_POLICY_ERROR
    with pytest.raises(UnsupportedParameter) as caught:
        case.call(request)
    assert {violation.field for violation in caught.value.violations} == told


@every_case
def test_a_refusal_goes_back_as_one_or_in_words(case: Case) -> None:
    request = plain()
    request.messages.add(role=v1.ROLE_ASSISTANT, parts=[v1.Part(refusal=v1.RefusalPart(text="I will not."))])
    request.messages.append(user("Go on."))
    assert "I will not." in case.call(request).body.decode()


# ------------------------------------------------------------------------------------------------------- the way back


@every_case
@examples
@given(data=st.data())
def test_a_turn_goes_back_as_it_came(case: Case, data: st.DataObject) -> None:
    said = data.draw(sayings(case.lacks))
    if data.draw(st.booleans(), label="streamed"):
        message = case.decoded(case.stream(said), said).message
    else:
        message = case.answered(case.whole(said)).message
    calls = [part.tool_call for part in message.parts if part.HasField("tool_call")]
    results = [
        v1.ToolResult(tool_call_id=call.id, name=call.name, parts=[v1.Part(text=f"result {number}")])
        for number, call in enumerate(calls)
    ]
    request = plain(
        tools=[v1.Tool(function=v1.FunctionTool(name=name)) for name in dict.fromkeys(call.name for call in calls)]
    )
    request.messages.append(message)
    if results:
        parts = [v1.Part(tool_result=result) for result in results]
        request.messages.append(v1.Message(role=v1.ROLE_TOOL, parts=parts))
    else:
        request.messages.append(user("Go on."))
    call = case.call(request)
    body = json.loads(call.body)
    wanted = case.returned(said)
    if wanted.text or wanted.reasoning or wanted.refusal or wanted.calls:
        assert case.turn(body) == wanted
    if said.reasoning and not wanted.reasoning:
        assert "REPLAY_STATE_DROPPED" in {warning.code for warning in call.warnings}
    assert [text for _, text in case.results(body)] == [f"result {number}" for number in range(len(calls))]
    assert [id for id, _ in case.results(body)] == [id for id, _ in case.paired(said)]


@every_case
@examples
@given(data=st.data())
def test_a_turn_of_another_provider_is_taken_without_its_secrets(case: Case, data: st.DataObject) -> None:
    said = data.draw(sayings(case.lacks))
    message = case.answered(case.whole(said)).message
    reasoning = v1.Part(reasoning=v1.ReasoningPart(text="zz foreign thoughts"))
    reasoning.replay_state.MergeFrom(v1.ReplayState(provider="elsewhere", model="m", data=b"zz-foreign-state"))
    message.parts.insert(0, reasoning)
    request = plain()
    request.messages.append(message)
    request.messages.append(user("Go on."))
    call = case.call(request)
    assert "zz-foreign-state" not in call.body.decode()
    assert "REPLAY_STATE_DROPPED" in {warning.code for warning in call.warnings}
