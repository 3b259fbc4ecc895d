"""Streams, refusals and the listing of Replicate; events with names."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley import v1
from parley.fold import fold
from parley_server.core.errors import (
    AttemptTimeout,
    ContextLengthExceeded,
    CredentialsRejected,
    GatewayError,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    PromptBlocked,
    ProtocolError,
    QuotaExhausted,
    RateLimited,
    StreamInterrupted,
    Unavailable,
)
from parley_server.dialects.framing import sse
from parley_server.dialects.framing.sse import NamedSSE
from parley_server.dialects.replicate import ReplicateChat, ReplicateModels
from parley_server.dialects.replicate.decode import decode
from tests.dialects.replicate_talk import FILES, TARGET, prediction, schema
from tests.strategies import texts

DIALECT, MODELS = ReplicateChat(), ReplicateModels()
lines = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=12)
fragments = st.lists(lines, min_size=1, max_size=3).map("\n".join)


def event(name: str, data: str, number: int = 0) -> str:
    """An event as the API writes it."""
    data_lines = "".join(f"data: {line}\n" for line in data.split("\n"))
    return f"event: {name}\nid: {number}:0\n{data_lines}\n"


def wire(*outputs: str, end: str = event("done", "{}")) -> bytes:
    return "".join([": hi\n\n", *(event("output", one, n) for n, one in enumerate(outputs)), end]).encode()


def heard(pieces: list[bytes]) -> list[v1.StreamChatResponse]:
    framing, decoder = DIALECT.framing(), DIALECT.decoder(TARGET)
    found: list[v1.StreamChatResponse] = []
    for piece in pieces:
        found += decoder.feed(framing.feed(piece))
    return found + decoder.feed(framing.finish()) + decoder.finish()


def split(stream: bytes, data: st.DataObject) -> list[bytes]:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    return [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


class TestStreams:
    @given(st.lists(fragments, max_size=5), st.data())
    def test_any_split_says_what_the_whole_prediction_says(self, outputs: list[str], data: st.DataObject) -> None:
        whole = decode(prediction(output=outputs), TARGET)
        assert fold(heard(split(wire(*outputs), data))).message == whole.message

    @given(st.lists(fragments, max_size=5), st.data())
    def test_a_prefix_is_interrupted(self, outputs: list[str], data: st.DataObject) -> None:
        stream = wire(*outputs)
        with pytest.raises(StreamInterrupted):
            heard([stream[: data.draw(st.integers(0, len(stream) - 1))]])

    @given(st.lists(fragments, max_size=5), st.data())
    def test_the_rest_of_a_stream_that_broke_off(self, outputs: list[str], data: st.DataObject) -> None:
        stream, whole = wire(*outputs), decode(prediction(output=outputs), TARGET)
        framing, decoder = DIALECT.framing(), DIALECT.decoder(TARGET)
        end = data.draw(st.integers(0, len(stream) - 1))
        found = [event for piece in split(stream[:end], data) for event in decoder.feed(framing.feed(piece))]
        rest = decoder.rest(whole.message)
        assert rest is not None
        assert [event.WhichOneof("event") for event in [*found, *rest]].count("part_completed") == 1
        assert fold([*found, *rest]).message == whole.message

    def test_there_is_no_rest_of_another_text(self) -> None:
        framing, decoder = DIALECT.framing(), DIALECT.decoder(TARGET)
        decoder.feed(framing.feed(event("output", "Hello, ").encode()))
        assert decoder.rest(decode(prediction(output=["Hell", "o!"]), TARGET).message) is None

    def test_the_order_of_events(self) -> None:
        found = heard([wire("Hel", "lo", end=event("logs", "x") + event("done", "{}") + event("output", "late"))])
        kinds = [one.WhichOneof("event") for one in found]
        assert kinds == ["started", "part_started", "part_delta", "part_completed"]
        assert found[2].part_delta.text == "Hello"

    @pytest.mark.parametrize(
        ("data", "expected", "words"),
        [
            ('{"detail":"E005 flagged as sensitive"}', PromptBlocked, "E005 flagged as sensitive"),
            ("it broke", Unavailable, "it broke"),
            ('"x"', Unavailable, '"x"'),
            ("{}", Unavailable, "{}"),
        ],
    )
    def test_errors(self, data: str, expected: type[GatewayError], words: str) -> None:
        with pytest.raises(expected) as caught:
            heard([wire("Hel", end=event("error", data) + event("done", "{}"))])
        assert caught.value.provider_error is not None
        assert caught.value.provider_error.message == words


class TestNamedEvents:
    @given(st.lists(st.tuples(st.sampled_from(["message", "output", "ü"]), fragments), max_size=4), st.data())
    def test_any_split_any_line_end(self, events: list[tuple[str, str]], data: st.DataObject) -> None:
        stream = "".join(event(*one) for one in events)
        end = data.draw(st.sampled_from(["\n", "\r", "\r\n"]))
        bom = data.draw(st.sampled_from([b"", b"\xef\xbb\xbf"]))
        framing = NamedSSE()
        found = [one for piece in split(bom + stream.replace("\n", end).encode(), data) for one in framing.feed(piece)]
        assert found == [(name, text.encode()) for name, text in events]
        assert framing.finish() == []

    def test_names_are_of_one_event(self) -> None:
        assert NamedSSE().feed(b"event: a\n\ndata: 1\n\nevent:b\ndata:2\n\n") == [("message", b"1"), ("b", b"2")]

    def test_what_is_too_large(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sse, "MOST_BYTES", 10)
        with pytest.raises(ProtocolError):
            NamedSSE().feed(b"data: 12345678901")
        with pytest.raises(ProtocolError):
            NamedSSE().feed(b"data: 12345\ndata: 123456\n")


REFUSALS: list[tuple[int, dict[str, Any], type[GatewayError]]] = [
    (400, {"detail": "bad"}, InvalidRequest),
    (401, {"title": "Unauthenticated", "detail": "no token"}, CredentialsRejected),
    (402, {"title": "Insufficient credit", "detail": "pay first"}, QuotaExhausted),
    (403, {"detail": "no"}, CredentialsRejected),
    (404, {"detail": "The requested resource could not be found."}, ModelNotFound),
    (422, {"title": "Input validation failed", "detail": "- input: prompt is required"}, InvalidRequest),
    (422, {"detail": "the prompt exceeds the context length"}, ContextLengthExceeded),
    (429, {"detail": "Request was throttled."}, RateLimited),
    (500, {"detail": "oops"}, Unavailable),
    (503, {"title": "later"}, Overloaded),
    (504, {}, AttemptTimeout),
]


class TestRefusals:
    @pytest.mark.parametrize(("status", "said", "expected"), REFUSALS)
    def test_classes(self, status: int, said: dict[str, Any], expected: type[GatewayError]) -> None:
        for dialect in (DIALECT, MODELS):
            found = dialect.error(status, {"retry-after": "3"}, json.dumps(said).encode(), TARGET)
            assert type(found) is expected
            assert found.retry_after == (3 if found.retryable else None)
            assert found.provider_error is not None
            assert found.provider_error.message == said.get("detail", said.get("title", ""))

    def test_inputs_at_fault_are_named(self) -> None:
        fields = [{"type": "maximum", "field": "input.top_p", "description": "Must be at most 1"}, 7, {}]
        body = json.dumps({"detail": "x", "invalid_fields": fields}).encode()
        found = DIALECT.error(422, {}, body, TARGET)
        assert [(one.field, one.description) for one in found.violations] == [
            ("input.top_p", "Must be at most 1"),
            ("input.", "is not valid"),
        ]

    def test_when_the_limit_is_reset(self) -> None:
        headers = {"ratelimit-remaining": "0", "ratelimit-reset": "12"}
        assert DIALECT.error(429, headers, b"{}", TARGET).retry_after == 12
        assert DIALECT.error(429, {**headers, "ratelimit-remaining": "1"}, b"{}", TARGET).retry_after is None

    @pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"detail":7}', b"\xff"])
    def test_what_is_said_may_be_anything(self, body: bytes) -> None:
        assert type(DIALECT.error(502, {}, body, TARGET)) is Unavailable

    @pytest.mark.parametrize(
        ("words", "expected", "code"),
        [
            ("(E005) flagged as sensitive", PromptBlocked, "E005"),
            ("E6716: did not start", AttemptTimeout, "E6716"),
            ("E003: busy", Overloaded, "E003"),
            ("E1001 out of memory", Unavailable, "E1001"),
            ("prompt is too long", ContextLengthExceeded, ""),
            ("we are experiencing high demand", Overloaded, ""),
            ("index out of range", Unavailable, ""),
        ],
    )
    def test_predictions_that_fail(self, words: str, expected: type[GatewayError], code: str) -> None:
        with pytest.raises(expected) as caught:
            decode(prediction("failed", error=words), TARGET)
        said = caught.value.provider_error
        assert said is not None
        assert (said.message, said.code) == (words, code)


class TestListing:
    def test_language_models(self) -> None:
        assert MODELS.encode().path == "/collections/language-models"
        rows = [
            {**schema("prompt", "image", "reasoning_effort"), "owner": "o", "name": "sees"},
            {**schema("prompt", output=FILES), "owner": "o", "name": "draws"},
            {"owner": "o", "name": "plain", "latest_version": None},
        ]
        (sees, plain), cursor = MODELS.decode(json.dumps({"models": rows}).encode(), "replicate")
        assert cursor == ""
        assert (sees.id, sees.provider_model, list(sees.operations)) == ("replicate/o/sees", "o/sees", ["chat"])
        assert list(sees.input_modalities) == [v1.MODALITY_TEXT, v1.MODALITY_IMAGE]
        assert list(sees.capabilities) == ["reasoning"]
        assert plain.provider_model == "o/plain"

    @pytest.mark.parametrize("body", [b"x", b"{}", b'{"models":[{}]}', b'{"models":7}'])
    def test_nonsense(self, body: bytes) -> None:
        with pytest.raises(ProtocolError):
            MODELS.decode(body, "replicate")


@given(texts)
def test_texts_of_predictions_are_kept(text: str) -> None:
    assert decode(prediction(output=text), TARGET).message.parts[0].text == text
