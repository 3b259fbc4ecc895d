"""How a prediction goes, step by step."""

from __future__ import annotations

import json
from typing import Any

import pytest

from parley import v1
from parley_server.core.errors import (
    AttemptTimeout,
    CredentialsRejected,
    GatewayError,
    ModelNotFound,
    OperationUnsupported,
    ProtocolError,
    RateLimited,
    StreamInterrupted,
    Unavailable,
)
from parley_server.core.target import Target
from parley_server.dialects.base import HttpCall
from parley_server.dialects.replicate import ReplicateChat
from parley_server.dialects.replicate import schema as models
from parley_server.dialects.steps import Ask, Listen, Pause
from tests.dialects.replicate_talk import FILES, TARGET, Talk, begun, heard, prediction, schema, user

CANCEL = HttpCall("/predictions/p1/cancel", headers={})
POLL = Ask(HttpCall("/predictions/p1", method="GET", headers={}), undo=CANCEL, within=10.0)
STREAM_URL = "https://stream.replicate.com/v1/files/x"
LISTEN = Listen(
    HttpCall(STREAM_URL, method="GET", headers={"accept": "text/event-stream", "cache-control": "no-store"}),
    undo=CANCEL,
)
METRICS = {"input_token_count": 7, "output_token_count": 2, "predict_time": 0.5}
DONE = prediction(output=["Hel", "lo"], metrics=METRICS)


def ended(talk: Talk, said: Any) -> v1.ChatResponse:
    """The answer that `said` brings the conversation to."""
    with pytest.raises(StopIteration) as end:
        talk.send(said)
    response: v1.ChatResponse = end.value.value
    return response


class TestWhole:
    def test_an_answer_at_once(self) -> None:
        talk, made = begun(user())
        assert made.call.path == "/models/meta/meta-llama-3-8b-instruct/predictions"
        assert (made.call.method, made.call.headers["prefer"], made.hear_out > 5) == ("POST", "wait=5", True)
        assert ended(talk, heard(DONE, 201)) == v1.ChatResponse(
            message=v1.Message(role=v1.ROLE_ASSISTANT, parts=[v1.Part(text="Hello")]),
            finish_reason=v1.FINISH_REASON_STOP,
            native_finish_reason="succeeded",
            usage=v1.Usage(source=v1.Usage.SOURCE_PROVIDER, input_tokens=7, output_tokens=2, total_tokens=9),
            route=v1.RouteInfo(model="meta/llama", provider_response_id="p1"),
        )

    @pytest.mark.parametrize(("output", "text"), [("Hello", "Hello"), ([], ""), (None, ""), (["a", "", "b"], "ab")])
    def test_outputs(self, output: Any, text: str) -> None:
        talk, _ = begun(user())
        response = ended(talk, heard(prediction(output=output)))
        assert response.message.parts == [v1.Part(text=text)]
        assert not response.HasField("usage")

    @pytest.mark.parametrize("output", [{"text": "x"}, [1], 7, ["a", {"b": 1}]])
    def test_outputs_that_are_no_text(self, output: Any) -> None:
        talk, _ = begun(user())
        with pytest.raises(OperationUnsupported):
            talk.send(heard(prediction(output=output)))

    def test_polls_come_less_and_less_often(self) -> None:
        talk, _ = begun(user())
        step = talk.send(heard(prediction("starting")))
        pauses = []
        for _ in range(12):
            assert isinstance(step, Pause)
            assert step.undo == CANCEL
            pauses.append(step.seconds)
            assert talk.send(None) == POLL
            step = talk.send(heard(prediction("processing")))
        assert pauses[0] == 0.25
        assert pauses == sorted(pauses)
        assert pauses[-1] == pauses[-2] == 5
        talk.send(None)
        assert ended(talk, heard(DONE)).message.parts[0].text == "Hello"

    def test_a_poll_that_fails_is_tried_again(self) -> None:
        talk, _ = begun(user())
        talk.send(heard(prediction("starting")))
        talk.send(None)
        step = talk.throw(RateLimited("slow down", retry_after=9))
        assert isinstance(step, Pause)
        assert step.seconds == 9
        assert talk.send(None) == POLL
        assert ended(talk, heard(DONE)).usage.output_tokens == 2

    def test_polls_that_fail_on_and_on_are_a_failure(self) -> None:
        talk, _ = begun(user())
        talk.send(heard(prediction("starting")))
        failure = Unavailable("no")
        for _ in range(4):
            talk.send(None)
            assert isinstance(talk.throw(failure), Pause)
        talk.send(None)
        with pytest.raises(Unavailable) as caught:
            talk.throw(failure)
        assert caught.value is failure  # so that the driver knows that the work may go on

    def test_a_poll_that_is_refused_is_a_failure(self) -> None:
        talk, _ = begun(user())
        talk.send(heard(prediction("starting")))
        talk.send(None)
        with pytest.raises(CredentialsRejected):
            talk.throw(CredentialsRejected("no"))

    @pytest.mark.parametrize(
        ("said", "expected", "retryable"),
        [
            (prediction("failed", error="CUDA error"), Unavailable, True),
            (prediction("failed"), Unavailable, True),
            (prediction("canceled"), Unavailable, False),
            (prediction("aborted"), Unavailable, False),
        ],
    )
    def test_bad_ends(self, said: Any, expected: type[GatewayError], retryable: bool) -> None:
        talk, _ = begun(user())
        with pytest.raises(expected) as caught:
            talk.send(heard(said))
        assert caught.value.retryable is retryable

    @pytest.mark.parametrize(
        "body", [b"x", b"[]", b"{}", b'{"id":"p1"}', b'{"id":7,"status":"x"}', b'{"id":"../x","status":"starting"}']
    )
    def test_nonsense(self, body: bytes) -> None:
        talk, _ = begun(user())
        with pytest.raises(ProtocolError):
            talk.send(heard(body))

    def test_the_body_that_the_provider_answered(self) -> None:
        request = user()
        request.include_provider_response = True
        talk, _ = begun(request)
        assert json.loads(ended(talk, heard(DONE)).provider_response_json) == DONE

    def test_warnings_come_with_the_answer(self) -> None:
        request = user()
        request.end_user_id = "u"
        talk, _ = begun(request)
        assert [warning.field for warning in ended(talk, heard(DONE)).warnings] == ["end_user_id"]


def listening() -> Talk:
    """A conversation up to its stream."""
    talk, made = begun(user(), stream=True)
    assert json.loads(made.call.body)["stream"] is True
    assert "prefer" not in made.call.headers
    step = talk.send(heard(prediction("starting", urls={"stream": STREAM_URL})))
    assert step == LISTEN
    return talk


class TestStreams:
    def test_the_end_is_asked_for_behind_the_stream(self) -> None:
        talk = listening()
        assert talk.send(None) == POLL
        response = ended(talk, heard(DONE))
        assert (response.usage.output_tokens, response.native_finish_reason) == (2, "succeeded")

    def test_the_end_may_come_a_little_later(self) -> None:
        talk = listening()
        talk.send(None)
        assert isinstance(talk.send(heard(prediction("processing"))), Pause)
        assert talk.send(None) == POLL
        assert ended(talk, heard(DONE)).usage.output_tokens == 2

    @pytest.mark.parametrize("at", ["a poll", "a pause"])
    @pytest.mark.parametrize("how", ["never", "refused", "nonsense"])
    def test_an_end_that_does_not_come_costs_the_counts_and_no_more(self, how: str, at: str) -> None:
        talk = listening()
        step: Any = talk.send(None)
        response = None
        left = 10  # steps until the driver says that the time is over
        while response is None:
            left -= 1
            try:
                if left < 0 and isinstance(step, Pause) is (at == "a pause"):
                    step = talk.throw(AttemptTimeout("that was all the time"))
                elif isinstance(step, Pause):
                    step = talk.send(None)
                elif how == "refused":
                    step = talk.throw(CredentialsRejected("no"))
                else:
                    step = talk.send(heard(b"x" if how == "nonsense" else prediction("processing")))
            except StopIteration as end:
                response = end.value
        assert response.finish_reason == v1.FINISH_REASON_STOP
        assert response.route.provider_response_id == "p1"
        assert not response.HasField("usage")

    @pytest.mark.parametrize("status", ["failed", "canceled"])
    def test_a_bad_end_is_raised(self, status: str) -> None:
        talk = listening()
        talk.send(None)
        with pytest.raises(Unavailable):
            talk.send(heard(prediction(status, error="it broke")))

    def test_a_stream_that_cannot_be_had_is_waited_for_instead(self) -> None:
        talk = listening()
        assert isinstance(talk.throw(ModelNotFound("no stream")), Pause)
        assert talk.send(None) == POLL
        assert ended(talk, heard(DONE)).message.parts[0].text == "Hello"

    def test_behind_a_stream_that_breaks_off_the_whole_is_waited_for(self) -> None:
        talk = listening()
        assert isinstance(talk.throw(StreamInterrupted("cut")), Pause)
        assert talk.send(None) == POLL
        assert isinstance(talk.send(heard(prediction("processing"))), Pause)
        assert talk.send(None) == POLL
        response = ended(talk, heard(DONE))
        assert (response.message.parts[0].text, response.usage.output_tokens) == ("Hello", 2)

    @pytest.mark.parametrize("urls", [None, {}, {"stream": None}, {"stream": 7}])
    def test_a_model_without_streams_is_waited_for(self, urls: Any) -> None:
        talk, _ = begun(user(), stream=True)
        assert isinstance(talk.send(heard(prediction("starting", urls=urls))), Pause)

    def test_a_prediction_that_is_over_already_is_not_listened_to(self) -> None:
        talk, _ = begun(user(), stream=True)
        response = ended(talk, heard({**DONE, "urls": {"stream": STREAM_URL}}))
        assert response.message.parts[0].text == "Hello"


class TestModels:
    @pytest.mark.parametrize(
        ("model", "described", "path", "version"),
        [
            ("o/n", "/models/o/n", "/models/o/n/predictions", None),
            ("o/n:abc", "/models/o/n/versions/abc", "/predictions", "abc"),
            ("a" * 64, None, "/predictions", "a" * 64),
            ("deployments/o/n", None, "/deployments/o/n/predictions", None),
            ("o/n n", "/models/o/n%20n", "/models/o/n%20n/predictions", None),
        ],
    )
    def test_names(self, model: str, described: str | None, path: str, version: str | None) -> None:
        talk = ReplicateChat().converse(user(), Target("replicate", model), stream=False)
        step = next(talk)
        assert isinstance(step, Ask)
        if described is not None:
            assert (step.call.method, step.call.path) == ("GET", described)
            step = talk.throw(ModelNotFound("not described"))
            assert isinstance(step, Ask)
        assert step.call.path == path
        assert json.loads(step.call.body).get("version") == version

    @pytest.mark.parametrize("model", ["n", "o/n/m", "/n", "o/", "deployments/o/", "b" * 63])
    def test_names_of_no_model(self, model: str) -> None:
        talk = ReplicateChat().converse(user(), Target("replicate", model), stream=False)
        with pytest.raises(ModelNotFound):
            next(talk)
            talk.throw(ModelNotFound("not described"))

    def test_a_model_is_looked_up_once(self) -> None:
        dialect = ReplicateChat()
        talk = dialect.converse(user(), TARGET, stream=False)
        next(talk)
        talk.send(heard(schema("prompt")))
        again = next(dialect.converse(user(), TARGET, stream=False))
        assert isinstance(again, Ask)
        assert again.call.method == "POST"

    def test_what_is_remembered_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(models, "_MOST_MODELS", 2)
        dialect = ReplicateChat()

        def looks_up(name: str) -> bool:
            talk = dialect.converse(user(), Target("replicate", f"o/{name}"), stream=False)
            step = next(talk)
            assert isinstance(step, Ask)
            if step.call.method == "GET":
                talk.send(heard(schema("prompt")))
                return True
            return False

        assert [looks_up(name) for name in "abcbca"] == [True, True, True, False, False, True]

    def test_a_look_up_that_fails_is_tried_again_next_time(self) -> None:
        dialect = ReplicateChat()
        for _ in range(2):
            talk = dialect.converse(user(), TARGET, stream=False)
            step = next(talk)
            assert isinstance(step, Ask)
            assert step.call.method == "GET"
            made = talk.throw(Unavailable("not now"))
            assert isinstance(made, Ask)
            assert made.call.method == "POST"

    def test_a_model_is_looked_at_again_after_an_hour(self) -> None:
        now = 0.0
        dialect = ReplicateChat(lambda: now)

        def first() -> tuple[Talk, str]:
            talk: Talk = dialect.converse(limited, TARGET, stream=False)
            step = next(talk)
            assert isinstance(step, Ask)
            return talk, step.call.method

        def sent(step: Any) -> Any:
            return json.loads(step.call.body)["input"]

        limited = user()
        limited.sampling.max_output_tokens = 7
        talk, method = first()
        assert method == "GET"
        assert sent(talk.send(heard(schema("prompt", "max_tokens")))) == {"prompt": "hi", "max_tokens": 7}
        now = 3599
        assert first()[1] == "POST"
        now = 3601
        slow, method = first()
        assert method == "GET"
        assert first()[1] == "POST"  # one look is enough: the others go by what was known
        assert sent(slow.send(heard(schema("prompt", "max_new_tokens")))) == {"prompt": "hi", "max_new_tokens": 7}
        assert first()[1] == "POST"
        now = 7202
        talk, _ = first()
        assert sent(talk.throw(Unavailable("not now"))) == {"prompt": "hi", "max_new_tokens": 7}  # better than nothing
        assert first()[1] == "POST"
        now = 7263
        assert first()[1] == "GET"

    def test_a_key_that_is_refused_is_not_tried_twice(self) -> None:
        talk = ReplicateChat().converse(user(), TARGET, stream=False)
        next(talk)
        with pytest.raises(CredentialsRejected):
            talk.throw(CredentialsRejected("no"))

    @pytest.mark.parametrize("output", [FILES, {"type": "string", "format": "uri"}, {"type": "object"}])
    def test_models_that_give_something_else_are_not_asked(self, output: Any) -> None:
        talk = ReplicateChat().converse(user(), TARGET, stream=False)
        next(talk)
        with pytest.raises(OperationUnsupported):
            talk.send(heard(schema("prompt", output=output)))
