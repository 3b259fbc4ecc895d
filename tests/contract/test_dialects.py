"""What every chat dialect must do with answers: whole, streamed, cut, broken, strange."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley import v1
from parley.fold import fold
from parley_server.core.errors import GatewayError, ProtocolError, StreamInterrupted
from tests.contract.case import Case, with_unknown_fields
from tests.contract.cases import cases
from tests.contract.said import Call, Said, Used, heard, sayings, turn_of, used

CASES = cases()
every_case = pytest.mark.parametrize("case", CASES, ids=str)
examples = settings(max_examples=50)  # of each property, for each of a dozen dialects
RICH = Said(
    text="Well: 👩‍🚀 is näive, 你好\n\n—\u2028data: end",
    reasoning="Let me see … 🤔",
    calls=(Call("call_1", "get_weather", '{"city":"Zürich 🏔","days":3}'), Call("call_2", "clock", "{}")),
    used=Used(120, 45, cache_read=60, cache_write=20, reasoning=15),
)


def the(case: Case, said: Said) -> Said:
    """`said` as far as the case's wire can say it."""
    found = case.without(said)
    if found.used is None:
        return found
    counts = {
        "cache_read": {"cache_read": 0},
        "cache_write": {"cache_write": 0},
        "reasoning_tokens": {"reasoning": 0},
    }
    for lack, none in counts.items():
        if lack in case.lacks:
            found = replace(found, used=replace(found.used, **none))
    return found


def lacking(case: Case, *lacks: str) -> bool:
    """Whether the test has nothing to ask of this case: its wire cannot say it."""
    return bool(case.lacks & set(lacks))


def check(case: Case, said: Said, response: v1.ChatResponse) -> None:
    """`response` says what was said, to its counts."""
    assert heard(response) == turn_of(said)
    assert response.finish_reason == said.finish
    assert used(response.usage) == said.used
    assert response.message.role == v1.ROLE_ASSISTANT
    if said.used is not None:
        assert response.usage.source == v1.Usage.SOURCE_PROVIDER
    assert not response.warnings


def split(data: st.DataObject, body: bytes) -> list[bytes]:
    """`body`, cut anywhere."""
    cuts = sorted(data.draw(st.sets(st.integers(0, len(body)), max_size=8), label="cuts"))
    return [body[start:end] for start, end in pairwise([0, *cuts, len(body)])]


def well_formed(events: Sequence[v1.StreamChatResponse]) -> None:
    """The guarantees of `StreamChatResponse`, down to where a part begins and ends."""
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds[0] == "started"
    assert kinds.count("started") == 1
    assert kinds[-1] == "completed"
    assert kinds.count("completed") == 1
    open_parts: dict[int, v1.Part] = {}
    begun = 0
    counts = v1.Usage()
    for event in events:
        match event.WhichOneof("event"):
            case "part_started":
                assert event.part_started.part_index == begun
                begun += 1
                open_parts[event.part_started.part_index] = event.part_started.part
            case "part_delta":
                assert event.part_delta.part_index in open_parts
                assert event.part_delta.WhichOneof("delta")
            case "part_completed":
                part, shell = event.part_completed.part, open_parts.pop(event.part_completed.part_index)
                assert part.WhichOneof("kind") == shell.WhichOneof("kind")
                assert not part.text
                assert not part.reasoning.text
                assert not part.tool_call.arguments_json
                assert (part.tool_call.id, part.tool_call.name) == (shell.tool_call.id, shell.tool_call.name)
            case "usage":
                assert event.usage.input_tokens >= counts.input_tokens
                assert event.usage.output_tokens >= counts.output_tokens
                counts = event.usage
    assert not open_parts


# ------------------------------------------------------------------------------------------------------ any answer


@every_case
@examples
@given(data=st.data())
def test_a_whole_answer_says_what_was_said(case: Case, data: st.DataObject) -> None:
    said = data.draw(sayings(case.lacks))
    check(case, said, case.answered(case.whole(said)))


@every_case
@examples
@given(data=st.data())
def test_a_stream_cut_anywhere_folds_to_the_whole_answer(case: Case, data: st.DataObject) -> None:
    said = data.draw(sayings(case.lacks))
    events = case.heard(split(data, b"".join(case.stream(said))), said)
    well_formed(events)
    folded = fold(events)
    check(case, said, folded)
    assert folded == case.answered(case.whole(said))


@every_case
@pytest.mark.parametrize("size", [1, 2, 3])
def test_characters_cut_in_the_midst_stay_whole(case: Case, size: int) -> None:
    said = the(case, RICH)
    body = b"".join(case.stream(said))
    check(case, said, case.decoded([body[start : start + size] for start in range(0, len(body), size)], said))


@every_case
@examples
@given(data=st.data())
def test_a_prefix_is_interrupted_and_never_an_answer(case: Case, data: st.DataObject) -> None:
    """Unless all that is missing are counts, where the wire has no end marker that could be waited for."""
    said = data.draw(sayings(case.lacks))
    writes = case.stream(said)
    body, whole = b"".join(writes), b"".join(writes[: case.enough(said)])
    end = data.draw(st.integers(0, len(body) - 1), label="end")
    try:
        response = case.decoded([body[:end]], said)
    except StreamInterrupted:
        assert end < len(whole)
    else:
        assert end >= len(whole) - case.trailing
        assert heard(response) == turn_of(said)
        assert response.finish_reason == said.finish
        assert used(response.usage) in (said.used, None)


@every_case
@examples
@given(data=st.data())
def test_a_stream_that_breaks_off_is_made_good_or_is_no_answer(case: Case, data: st.DataObject) -> None:
    said = data.draw(sayings(case.lacks))
    body = b"".join(case.stream(said)[: case.enough(said)])
    hearing = case.hearing(said)
    end = data.draw(st.integers(0, len(body) - 1 - case.trailing), label="end")
    events = [event for piece in split(data, body[:end]) for event in hearing.feed(piece)]
    cut = StreamInterrupted("cut")
    if case.goes_on:
        events += hearing.break_off(cut)
        well_formed(events)
        check(case, said, fold(events))
    else:
        with pytest.raises(StreamInterrupted) as caught:
            hearing.break_off(cut)
        assert caught.value is cut


@every_case
def test_the_last_event_may_lack_its_line_end(case: Case) -> None:
    said = the(case, RICH)
    body = b"".join(case.stream(said))
    check(case, said, case.decoded([body[: len(body) - case.trailing]], said))


@every_case
@examples
@given(data=st.data())
def test_unknown_events_and_fields_change_nothing(case: Case, data: st.DataObject) -> None:
    said = data.draw(sayings(case.lacks))
    events = [with_unknown_fields(event, case.free_keys) for event in case.events(said)]
    if not lacking(case, "strange_events"):
        strangers = st.sampled_from([*case.strangers()])
        for at in sorted(data.draw(st.lists(st.integers(0, len(events) - 1), max_size=3), label="at"), reverse=True):
            events.insert(at, data.draw(strangers))
    folded = case.decoded([case.write(event) for event in events], said)
    check(case, said, folded)
    whole = with_unknown_fields(case.body(said), case.free_keys)
    assert case.answered(json.dumps(whole).encode()) == folded


@every_case
@examples
@given(data=st.data())
def test_an_error_inside_a_stream_raises_what_it_means(case: Case, data: st.DataObject) -> None:
    if lacking(case, "broken_stream"):
        return
    said = data.draw(sayings(case.lacks))
    events = case.events(said)
    at = data.draw(st.integers(0, case.enough(said) - 1), label="at")
    broken, kind = case.broken()
    writes = [case.write(event) for event in [*events[:at], broken]]
    with pytest.raises(GatewayError) as caught:
        case.decoded(split(data, b"".join(writes)), said)
    assert type(caught.value) is kind
    provider_error = caught.value.provider_error
    assert provider_error is not None
    assert provider_error.provider == case.target.provider


# -------------------------------------------------------------------------------------------------------- examples


def both(case: Case, said: Said) -> Iterator[v1.ChatResponse]:
    """`said`, whole and as a stream."""
    yield case.answered(case.whole(said))
    yield case.decoded(case.stream(said), said)


@every_case
@pytest.mark.parametrize("used", [Used(7, 0), None])
def test_an_answer_of_nothing_is_an_answer(case: Case, used: Used | None) -> None:
    if used is None and lacking(case, "usage_unset"):
        return
    said = Said(used=used)
    for response in both(case, said):
        check(case, said, response)


@every_case
def test_a_call_without_arguments_has_an_empty_object(case: Case) -> None:
    if lacking(case, "tool_calls"):
        return
    for response in both(case, Said(calls=(Call("call_1", "clock"),))):
        [part] = [part for part in response.message.parts if part.HasField("tool_call")]
        assert (part.tool_call.name, part.tool_call.arguments_json) == ("clock", "{}")
        assert response.finish_reason == v1.FINISH_REASON_TOOL_CALL


@every_case
def test_parallel_calls_keep_order_and_ids(case: Case) -> None:
    if lacking(case, "tool_calls", "parallel_calls"):
        return
    calls = tuple(Call(f"call_{number}", f"f_{number % 2}", f'{{"n":{number}}}') for number in range(5))
    said = Said(calls=calls)
    for response in both(case, said):
        check(case, said, response)
        found = [part.tool_call for part in response.message.parts if part.HasField("tool_call")]
        assert [json.loads(call.arguments_json)["n"] for call in found] == [0, 1, 2, 3, 4]
        assert len({call.id for call in found}) == 5


@every_case
def test_a_refusal_is_one(case: Case) -> None:
    if lacking(case, "refusal"):
        return
    said = Said(refusal="I will not do that.")
    for response in both(case, said):
        check(case, said, response)


@every_case
def test_an_answer_that_was_cut_says_so(case: Case) -> None:
    said = Said(text="Once upon a ti", cut=True)
    if lacking(case, "length"):
        assert {response.finish_reason for response in both(case, said)} == {v1.FINISH_REASON_STOP}
        return
    for response in both(case, said):
        check(case, said, response)
        assert response.native_finish_reason


@every_case
def test_totals_contain_their_details(case: Case) -> None:
    said = the(case, Said(text="x", used=Used(1000, 500, cache_read=600, cache_write=300, reasoning=400)))
    for response in both(case, said):
        check(case, said, response)
        usage = response.usage
        assert usage.input_tokens == 1000 >= usage.cache_read_input_tokens + usage.cache_write_input_tokens
        assert usage.output_tokens == 500 >= usage.reasoning_output_tokens
        if usage.HasField("total_tokens"):
            assert usage.total_tokens == 1500


@every_case
def test_decoders_share_nothing(case: Case) -> None:
    said, other = the(case, RICH), Said(text="other")
    first, second = case.hearing(said), case.hearing(other)
    assert first.decoder is not second.decoder
    body, others = b"".join(case.stream(said)), b"".join(case.stream(other))
    events, other_events = [], []
    for at in range(0, max(len(body), len(others)), 64):
        events += first.feed(body[at : at + 64])
        other_events += second.feed(others[at : at + 64])
    check(case, said, fold(events + first.finish()))
    check(case, other, fold(other_events + second.finish()))


# ------------------------------------------------------------------------------------------------------- nonsense

_junk: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 0, -1, 2**40, 1.5, "", "junk", [], [None], [[]], {}, {"type": 5}, ["x", {}]]
)


def mostly(data: st.DataObject) -> bool:
    return data.draw(st.sampled_from([True, True, True, True, False]))


def spoilt(data: st.DataObject, value: Any) -> Any:
    """`value` with junk in one place."""
    match value:
        case dict() if value and mostly(data):
            key = data.draw(st.sampled_from(sorted(value)))
            if not mostly(data):
                return {name: item for name, item in value.items() if name != key}
            return {**value, key: spoilt(data, value[key])}
        case list() if value and mostly(data):
            at = data.draw(st.integers(0, len(value) - 1))
            return [*value[:at], spoilt(data, value[at]), *value[at + 1 :]]
        case _:
            return data.draw(_junk)


@every_case
@examples
@given(data=st.data())
def test_json_of_another_shape_is_an_error_of_the_provider_and_no_bug(case: Case, data: st.DataObject) -> None:
    said = data.draw(sayings(case.lacks))
    whole = json.dumps(spoilt(data, case.body(said))).encode()
    try:
        response = case.answered(whole)
    except GatewayError:
        pass
    else:
        response.SerializeToString()
    events = case.events(said)
    at = data.draw(st.integers(0, len(events) - 1))
    if isinstance(events[at], dict):
        events[at] = spoilt(data, events[at])
    if not isinstance(events[at], dict):
        return  # what frames an event needs an object
    try:
        writes = [case.write(event) for event in events]
    except (KeyError, TypeError, AttributeError, StopIteration):
        return  # nor can it do without a name
    with suppress(GatewayError):
        case.decoded(writes, said)


@every_case
@examples
@given(data=st.data())
def test_json_of_another_shape_beside_the_answer_is_no_bug_either(case: Case, data: st.DataObject) -> None:
    said = data.draw(sayings(case.lacks))
    with suppress(GatewayError):
        hearing = case.hearing(said, lambda body: spoilt(data, body))
        events = [event for write in case.stream(said) for event in hearing.feed(write)]
        fold(events + hearing.finish()).SerializeToString()


@every_case
@pytest.mark.parametrize("body", [b"", b"<html>busy</html>", b"null", b"[]", b'"text"', b"{", b"\xff\xfe", b"0"])
def test_a_body_that_is_no_answer_is_an_error_of_the_provider(case: Case, body: bytes) -> None:
    with pytest.raises((ProtocolError, StreamInterrupted)):  # the second: an empty list is a stream of no chunks
        case.answered(body)


@every_case
@examples
@given(data=st.data())
def test_bytes_that_are_no_stream_are_never_an_answer(case: Case, data: st.DataObject) -> None:
    noise = data.draw(st.binary(max_size=200) | st.text(max_size=60).map(lambda text: f"data: {text}\n\n".encode()))
    with pytest.raises((ProtocolError, StreamInterrupted)):
        case.decoded(split(data, noise))


# ----------------------------------------------------------------------------------------------------------- errors

_words = st.text(max_size=40)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | _words,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["error", "message", "type", "code", "detail", "errors", "status", "details", "param", "x"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@every_case
@examples
@given(
    status=st.integers(400, 599),
    body=st.binary(max_size=60) | _json.map(lambda value: json.dumps(value).encode()),
    headers=st.dictionaries(
        st.sampled_from(
            ["retry-after", "retry-after-ms", "x-request-id", "x-should-retry", "x-amzn-errortype", "date"]
        ),
        st.text("0123456789abct.,:/#- ", max_size=20) | st.sampled_from(["true", "false", "5", "ThrottlingException"]),
    ),
)
def test_every_refusal_means_something(case: Case, status: int, body: bytes, headers: dict[str, str]) -> None:
    error = case.dialect.error(status, headers, body, case.target)
    assert isinstance(error, GatewayError)
    said = error.provider_error
    assert said is not None
    assert (said.provider, said.model, said.http_status) == (case.target.provider, case.target.model, status)
    assert len(said.message.encode()) <= 512
    assert said.ByteSize() < 2048
    assert error.message
    assert error.retry_after is None or error.retry_after >= 0
    if not error.retryable:
        assert error.retry_after is None


@every_case
@pytest.mark.parametrize(
    ("status", "reasons"),
    [
        (400, {"INVALID_REQUEST"}),
        (401, {"PROVIDER_CREDENTIALS_REJECTED"}),
        (403, {"PROVIDER_CREDENTIALS_REJECTED"}),
        (404, {"MODEL_NOT_FOUND", "OPERATION_UNSUPPORTED"}),
        (408, {"PROVIDER_TIMEOUT"}),
        (413, {"REQUEST_TOO_LARGE"}),
        (429, {"PROVIDER_RATE_LIMITED"}),
        (500, {"PROVIDER_UNAVAILABLE"}),
        (502, {"PROVIDER_UNAVAILABLE"}),
        (503, {"PROVIDER_OVERLOADED", "PROVIDER_UNAVAILABLE"}),
        (504, {"PROVIDER_TIMEOUT", "PROVIDER_UNAVAILABLE"}),
    ],
)
@pytest.mark.parametrize("page", [False, True], ids=["own words", "page of a proxy"])
def test_a_status_alone_says_enough(case: Case, status: int, reasons: set[str], page: bool) -> None:
    body = b"<html><h1>nginx</h1></html>" if page else case.refusal(status, "something went wrong")
    error = case.dialect.error(status, {"retry-after": "3"}, body, case.target)
    assert error.reason in reasons
    assert error.retryable is (status in (408, 429) or status >= 500)
    assert error.retry_after == (3 if error.retryable else None)
    assert error.provider_error is not None
    assert "<" not in error.provider_error.message
    if not page:
        assert error.provider_error.message == "something went wrong"
