"""Replicate's predictions, read from the recorded JSON in the plainest way.

Most recorded predictions are of image models. What is left is held against the conversation, driven by hand: the call
that makes the prediction, and the answer of one that has succeeded.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from typing import Any

from parley import v1
from parley_server.core.errors import GatewayError, InvalidRequest, ModelNotFound
from parley_server.core.target import Target
from parley_server.dialects.base import Decoder, HttpCall
from parley_server.dialects.replicate import ReplicateChat
from parley_server.dialects.steps import Ask, Heard
from tests.conformance.adapter import Answer, AnyAdapter
from tests.conformance.recording import Recording

_STATUS: dict[int, type[GatewayError]] = {404: ModelNotFound, 422: InvalidRequest}
_SAMPLING = {"max_tokens": "max_output_tokens", "temperature": "temperature", "top_p": "top_p", "top_k": "top_k"}
_REFUSED = ModelNotFound("not looked up")


class _Driven:
    """A conversation of which only the making of the prediction and its end are looked at."""

    def __init__(self) -> None:
        self._dialect = ReplicateChat()
        self.framing = self._dialect.framing

    def encode(self, request: v1.ChatRequest, target: Target, *, stream: bool) -> HttpCall:
        return self._made(request, target, stream=stream)[1]

    def decode(self, body: bytes, target: Target) -> v1.ChatResponse:
        request = v1.ChatRequest(messages=[v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text="Hello")])])
        conversation, _ = self._made(request, target, stream=False)
        try:
            conversation.send(Heard(201, {}, body))
        except StopIteration as end:
            response: v1.ChatResponse = end.value
            return response
        raise AssertionError("the prediction is not over")

    def _made(
        self, request: v1.ChatRequest, target: Target, *, stream: bool
    ) -> tuple[Generator[Any, Any, v1.ChatResponse], HttpCall]:
        conversation = self._dialect.converse(request, target, stream=stream)
        step = next(conversation)
        if isinstance(step, Ask) and step.call.method == "GET":  # the model is not there to be looked at
            step = conversation.throw(_REFUSED)
        assert isinstance(step, Ask)
        return conversation, step.call

    def decoder(self, target: Target) -> Decoder:
        return self._dialect.decoder(target)

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
        return self._dialect.error(status, headers, body, target)


class ReplicateAdapter:
    """`POST …/predictions` and `GET /predictions/{id}` of language models."""

    name = "replicate"

    def covers(self, recording: Recording) -> bool:
        return recording.provider == "replicate"

    def out_of_scope(self, recording: Recording) -> str:
        if recording.api == "models":
            return "the record of one image model or version; the gateway reads a collection"
        if recording.status >= 400:
            return ""
        prediction = json.loads(recording.body)
        if "stability-ai/sdxl" in prediction.get("model", ""):
            return "a prediction of an image model"
        if prediction["status"] in ("starting", "processing"):
            return "a prediction that is under way, without the answer that it came to"
        return ""

    def dialect(self, recording: Recording) -> _Driven:
        return _Driven()

    def target(self, recording: Recording) -> Target:
        _, _, rest = recording.path.partition("/models/")
        owner, _, rest = rest.partition("/")
        return Target("replicate", f"{owner}/{rest.partition('/')[0]}" if rest else recording.model)

    def read(self, recording: Recording) -> Answer:
        said = json.loads(recording.body)
        output = said["output"]
        metrics = said.get("metrics") or {}
        names = {"input_token_count": "input_tokens", "output_token_count": "output_tokens"}
        counts = {ours: metrics[theirs] for theirs, ours in names.items() if theirs in metrics}
        if len(counts) == 2:
            counts["total_tokens"] = sum(counts.values())
        return Answer(
            text=output if isinstance(output, str) else "".join(output or ()),
            finish="STOP",
            native_finish=said["status"],
            usage=counts,
            facts={"route.provider_response_id": said["id"]},
        )

    def request(self, recording: Recording) -> v1.ChatRequest:
        inputs = dict(recording.request["input"])
        request = v1.ChatRequest()
        if "system_prompt" in inputs:
            request.messages.add(role=v1.ROLE_SYSTEM, parts=[v1.Part(text=inputs.pop("system_prompt"))])
        request.messages.add(role=v1.ROLE_USER, parts=[v1.Part(text=inputs.pop("prompt"))])
        for name in [name for name in inputs if name in _SAMPLING]:
            setattr(request.sampling, _SAMPLING[name], inputs.pop(name))
        if inputs:
            request.provider_options_json["replicate"] = json.dumps({"input": inputs})
        return request

    def normal(self, body: Any) -> Any:
        return {name: value for name, value in body.items() if value not in (None, False)}

    def turn(self, recording: Recording) -> Any:
        return None  # there is no turn on the wire: it goes into the prompt

    def turn_sent(self, body: Any) -> Any:
        return None

    def failure(self, recording: Recording) -> type[GatewayError]:
        return _STATUS[recording.status]


ADAPTERS: tuple[AnyAdapter, ...] = (ReplicateAdapter(),)
