"""Streams that are taken up again: when, from where, and what becomes of the work behind them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

import parley
from parley import v1
from parley.errors import (
    ConnectionFailed,
    GatewayError,
    InvalidRequest,
    ResponseNotFound,
    ShuttingDown,
    StateUnavailable,
    Truncated,
)
from parley.fold import unfold
from parley.resumption import Resumption
from tests.clients.python.peer import Fail, Peer, Stall, said

BROKEN = Fail(grpc.StatusCode.UNAVAILABLE, "connection reset", trailers=(("grpc-retry-pushback-ms", "-1"),))


def events(text: str) -> list[v1.StreamChatResponse]:
    """A whole resumable answer, numbered."""
    found = list(unfold(said(text)))
    for number, event in enumerate(found, start=1):
        event.sequence = number
    found[0].started.resume_expire_time.FromSeconds(2_000_000_000)
    return found


def test_goes_on_where_it_broke(peer: Peer, client: Any) -> None:
    whole = events("hello")
    peer.will(*whole[:2], BROKEN)
    peer.will(*whole[2:])
    with client.stream("mock/echo", "hello", resume=True, heartbeat_interval=5, headers={"x-team": "red"}) as stream:
        assert stream.reply().text == "hello"
        assert (stream.response_id, stream.last_sequence) == ("resp_1", len(whole))
    first, second = peer.requests
    assert first.options.resumable
    assert second.resume == v1.ResumeFrom(response_id="resp_1", after_sequence=2)
    assert second.options == v1.StreamOptions(heartbeat_interval=first.options.heartbeat_interval)
    assert [metadata["x-team"] for metadata in peer.metadata] == ["red", "red"]


def test_only_where_it_was_asked_for(peer: Peer, client: Any) -> None:
    peer.will(*events("hello")[:2], BROKEN)
    with client.stream("mock/echo", "hello", resumable=True) as stream, pytest.raises(parley.ConnectionFailed):
        stream.reply()
    assert len(peer.requests) == 1


def test_an_answer_that_is_gone_is_told_as_what_broke_it(peer: Peer, client: Any) -> None:
    peer.will(*events("hello")[:2], BROKEN)
    peer.will(Fail(grpc.StatusCode.NOT_FOUND, "no such response", "RESPONSE_NOT_FOUND"))
    with client.stream("mock/echo", "hello", resume=True) as stream:
        with pytest.raises(parley.ConnectionFailed):
            stream.reply()
        assert stream.partial.text == ""


def test_leaving_early_stops_the_work(peer: Peer, client: Any) -> None:
    peer.will(*events("hello")[:2], Stall())
    peer.will(v1.CancelChatResponse())
    with client.stream("mock/echo", "hello", resume=True) as stream:
        next(iter(stream.events))
    _until(lambda: len(peer.requests) == 2)
    assert peer.requests[1] == v1.CancelChatRequest(response_id="resp_1")


def test_leaving_early_leaves_the_work_alone_where_it_is_to_outlast_its_reader(peer: Peer, client: Any) -> None:
    peer.will(*events("hello")[:2], Stall())
    with client.stream("mock/echo", "hello", resume=True, resumable=True) as stream:
        next(iter(stream.events))
    assert peer.cancelled.wait(10)
    assert len(peer.requests) == 1


def test_another_client_reads_the_rest(peer: Peer, client: Any) -> None:
    whole = events("hello")
    peer.will(*whole[2:3], BROKEN)
    peer.will(*whole[3:])
    with client.resume("resp_1", 2) as stream:
        assert stream.reply().text == "hello"
    assert [request.resume.after_sequence for request in peer.requests] == [2, 3]


def test_not_beyond_its_time(peer: Peer, client: Any) -> None:
    for _ in range(20):
        peer.will(*events("hello")[:2], BROKEN)
    with (
        client.stream("mock/echo", "hello", resume=True, timeout=0.15) as stream,
        pytest.raises(GatewayError) as caught,
    ):
        stream.reply()
    assert caught.type in (parley.ConnectionFailed, parley.DeadlineExceeded)


def _until(true: Any) -> None:
    due = time.monotonic() + 10
    while not true():
        assert time.monotonic() < due
        time.sleep(0.01)


def waits(resumption: Resumption) -> Iterator[float]:
    while (wait := resumption.wait(ConnectionFailed("broken"))) is not None:
        yield wait


def begun() -> Resumption:
    resumption = Resumption(v1.ResumeFrom(), chance=lambda: 1.0)
    resumption.seen(events("hello")[0])
    return resumption


def test_waits_longer_each_time_and_not_for_ever() -> None:
    resumption = begun()
    assert list(waits(resumption)) == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6]
    resumption.seen(v1.StreamChatResponse(sequence=2))
    assert next(waits(resumption)) == 0.05


@pytest.mark.parametrize("error", [ConnectionFailed("x"), ShuttingDown("x"), StateUnavailable("x"), Truncated("x")])
def test_takes_up_what_says_nothing_of_the_answer(error: GatewayError) -> None:
    assert begun().wait(error) is not None
    assert Resumption(v1.ResumeFrom()).wait(error) is None, "it has not begun"


@pytest.mark.parametrize("error", [InvalidRequest("x"), ResponseNotFound("x"), parley.StreamInterrupted("x")])
def test_leaves_what_does(error: GatewayError) -> None:
    assert begun().wait(error) is None


@given(st.lists(st.one_of(st.integers(0, 50), st.none()), max_size=60))
def test_goes_on_behind_the_newest_event(steps: list[int | None]) -> None:
    """Numbers are events that arrive (0: heartbeats), None is a break."""
    resumption, newest, breaks = begun(), 1, 0
    for step in steps:
        if step is None:
            breaks += 1
            assert (resumption.wait(ConnectionFailed("broken")) is None) == (breaks > 6)
        else:
            newest, breaks = max(newest, step), 0
            resumption.seen(v1.StreamChatResponse(sequence=step))
        assert resumption.last == newest
