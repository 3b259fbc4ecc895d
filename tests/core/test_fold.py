"""Events to response and back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from parley import v1
from parley.fold import Fold, fold, unfold
from tests.fakes import completed, delta, opened, started, used
from tests.strategies import responses

MEBIBYTE = 1024 * 1024


@given(responses())
def test_fold_of_unfold_is_the_response(response: v1.ChatResponse) -> None:
    before = response.SerializeToString(deterministic=True)
    again = fold(unfold(response))
    assert again == response
    assert response.SerializeToString(deterministic=True) == before  # and it was left alone


@given(responses())
def test_unfolded_events_keep_the_order_that_the_contract_promises(response: v1.ChatResponse) -> None:
    kinds = [event.WhichOneof("event") for event in unfold(response)]
    assert kinds[0] == "started"
    assert kinds[-1] == "completed"
    assert kinds.count("completed") == 1
    opened_parts = [e.part_started.part_index for e in unfold(response) if e.HasField("part_started")]
    assert opened_parts == list(range(len(response.message.parts)))


@given(responses(), st.data())
def test_fold_before_the_end_is_what_there_is_so_far(response: v1.ChatResponse, data: st.DataObject) -> None:
    events = unfold(response)
    state = Fold()
    for event in events[: data.draw(st.integers(0, len(events) - 1))]:
        state.feed(event)
    so_far = state.response()
    assert not state.complete
    assert so_far.finish_reason == v1.FINISH_REASON_UNSPECIFIED
    assert len(so_far.message.parts) <= len(response.message.parts)


def test_ten_megabytes_of_emoji_make_no_event_above_a_mebibyte() -> None:
    text = "🦜" * (10 * MEBIBYTE // 4)
    response = v1.ChatResponse(message=v1.Message(role=v1.ROLE_ASSISTANT, parts=[v1.Part(text=text)]))
    events = unfold(response)
    assert max(event.ByteSize() for event in events) <= MEBIBYTE
    assert fold(events).message.parts[0].text == text


def test_part_completed_repeats_no_text_and_carries_what_could_not_be_streamed() -> None:
    part = v1.Part(text="long", replay_state=v1.ReplayState(provider="p", data=b"sig"))
    events = unfold(v1.ChatResponse(message=v1.Message(parts=[part])))
    end = next(e.part_completed.part for e in events if e.HasField("part_completed"))
    start = next(e.part_started.part for e in events if e.HasField("part_started"))
    assert end.text == ""
    assert end.replay_state.data == b"sig"
    assert not start.HasField("replay_state")


def test_interleaved_parts_are_told_apart_by_index() -> None:
    events = [started(), opened(0), opened(1), delta("a", 0), delta("x", 1), delta("b", 0), completed()]
    assert [part.text for part in fold(events).message.parts] == ["ab", "x"]


def test_final_usage_replaces_the_running_one() -> None:
    events = [started(), used(input_tokens=5, output_tokens=1), completed(input_tokens=5, output_tokens=9)]
    assert fold(events).usage.output_tokens == 9


def test_running_usage_stays_if_the_end_has_none() -> None:
    assert fold([started(), used(output_tokens=3), completed()]).usage.output_tokens == 3


def test_heartbeats_and_unknown_events_change_nothing() -> None:
    plain = [started(), opened(), delta("a"), completed()]
    noisy = [started(), v1.StreamChatResponse(heartbeat=v1.Heartbeat()), opened(), v1.StreamChatResponse(), *plain[2:]]
    assert fold(noisy) == fold(plain)


def test_log_probabilities_of_a_long_answer_are_spread_over_events() -> None:
    tops = [v1.TokenLogprob(token="token", logprob=-1.5)] * 20
    every = [v1.TokenLogprob(token="token", logprob=-0.5, top_logprobs=tops)] * 4000
    response = v1.ChatResponse(message=v1.Message(role=v1.ROLE_ASSISTANT, parts=[v1.Part(text="token" * 4000)]))
    response.logprobs.extend(every)
    events = unfold(response)
    assert max(event.ByteSize() for event in events) <= MEBIBYTE
    assert fold(events) == response


def fallback(first_valid: int) -> v1.StreamChatResponse:
    return v1.StreamChatResponse(fallback_started=v1.FallbackStarted(first_valid_part_index=first_valid))


def test_parts_that_a_fallback_makes_void_are_dropped() -> None:
    logged = delta("wrong")
    logged.part_delta.logprobs.add(token="wrong", logprob=-1)
    events = [started(), opened(), logged, opened(1), delta("too", 1), fallback(2), opened(2), delta("right", 2)]
    state = Fold()
    for event in events:
        state.feed(event)
    assert [part.text for part in state.response().message.parts] == ["right"]
    assert not state.response().logprobs
    assert state.kind(0) is None


def test_a_fallback_that_goes_on_keeps_what_there_is() -> None:
    events = [started(), opened(), delta("Once "), fallback(0), opened(1), delta("more", 1), completed(output_tokens=2)]
    assert [part.text for part in fold(events).message.parts] == ["Once ", "more"]


@given(responses(), responses(), st.data())
def test_a_restart_anywhere_folds_to_the_second_answer(
    first: v1.ChatResponse, second: v1.ChatResponse, data: st.DataObject
) -> None:
    del second.warnings[:]
    begun = unfold(first)[:-1]
    begun = begun[: data.draw(st.integers(1, len(begun)))]
    at = 1 + max((e.part_started.part_index for e in begun if e.HasField("part_started")), default=-1)
    again = unfold(second)
    for event in again:
        kind = event.WhichOneof("event")
        if kind in ("part_started", "part_delta", "part_completed"):
            getattr(event, kind).part_index += at
    answer = fold([*begun, fallback(at), *again])
    assert answer.message == second.message
    assert answer.logprobs == second.logprobs
