"""Request in, script out: what the mock server sends, step by step, without a wire.

The transport plays a script inside the process; a real socket can be driven by the same one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain, count
from typing import Any
from urllib.parse import unquote

from parley_server.transports.mock import vectors, wire
from parley_server.transports.mock.answer import answer
from parley_server.transports.mock.checks import check_chat, dimensions, embed_inputs, rerank_inputs
from parley_server.transports.mock.models import Fault, MockError, MockModel
from parley_server.transports.mock.ranking import ranked
from parley_server.transports.mock.refusals import Refused, error_body, parsed
from parley_server.transports.mock.tokens import count as count_tokens

JSON = "application/json"
SSE = "text/event-stream; charset=utf-8"
_BROKEN = b'data: {"id":"chatcmpl-\n\n'


@dataclass(frozen=True, slots=True)
class Head:
    """Status and headers, names in lower case. Comes once, before the first data."""

    status: int
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Sleep:
    """Nothing for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Cut:
    """The connection breaks. The last step."""


@dataclass(frozen=True, slots=True)
class Stall:
    """Nothing more ever comes, and the connection stays open. The last step."""


Step = bytes | Head | Sleep | Cut | Stall
"""`bytes` are data of the body."""

Script = Iterator[Step]


class MockServer:
    """The models, and how often each was asked. Everything else about an answer follows from the request alone."""

    def __init__(self, models: Mapping[str, MockModel]) -> None:
        self._models = {"echo": MockModel(), "embed": MockModel(), "rerank": MockModel(), **models}
        self._asked: Counter[str] = Counter()
        self._numbers = count(1)

    def script(self, method: str, path: str, body: bytes) -> Script:
        """What to send in answer to a request."""
        headers = {"content-type": JSON, "x-request-id": f"req_mock_{next(self._numbers):08}"}
        try:
            return self._route(method, path.partition("/v1/")[2], body, headers)
        except Refused as refused:
            return iter((Head(refused.status, headers), refused.body))

    def _route(self, method: str, endpoint: str, body: bytes, headers: dict[str, str]) -> Script:
        match method, endpoint.split("/", 1):
            case "POST", ["chat", "completions"]:
                request = parsed(body)
                name, model = self._model(request.get("model"))
                check_chat(request)
                error = self._error(name, model)
                return _refusal(error, headers) or _chat(request, model, error or model, _seed(body), headers)
            case "POST", ["embeddings"]:
                request = parsed(body)
                name, model = self._model(request.get("model"))
                inputs, size = embed_inputs(request), dimensions(request, model.dimensions)
                error = self._error(name, model)
                return _refusal(error, headers) or _embed(request, model, error or model, inputs, size, headers)
            case "POST", ["rerank"]:
                request = parsed(body)
                name, model = self._model(request.get("model"))
                query, documents, most = rerank_inputs(request)
                error = self._error(name, model)
                return _refusal(error, headers) or _rerank(
                    request, model, error or model, query, documents, most, headers
                )
            case "GET", ["models"]:
                return iter((Head(200, headers), wire.models(self._models)))
            case "GET", ["models", name]:
                name, _ = self._model(unquote(name))
                return iter((Head(200, headers), wire.one_model(name)))
            case _:
                raise Refused(f"Invalid URL ({method} /v1/{endpoint})", code="unknown_url", status=404)

    def _model(self, name: Any) -> tuple[str, MockModel]:
        if not isinstance(name, str) or not name:
            raise Refused("you must provide a model parameter", param="model", code="missing_required_parameter")
        if (model := self._models.get(name)) is None:
            text = f"The model `{name}` does not exist or you do not have access to it."
            raise Refused(text, code="model_not_found", status=404)
        return name, model

    def _error(self, name: str, model: MockModel) -> MockError | None:
        error = model.error(self._asked[name])
        self._asked[name] += 1
        return error


def _seed(body: bytes) -> str:
    return blake2b(body, digest_size=12).hexdigest()


def _refusal(error: MockError | None, headers: dict[str, str]) -> Script | None:
    """The script of a scripted HTTP error; None if `error` is not one."""
    if error is None or error.status is None:
        return None
    if error.retry_after is not None:
        headers["retry-after"] = str(int(-(-error.retry_after // 1)))
        if error.retry_after % 1:
            headers["retry-after-ms"] = str(round(error.retry_after * 1000))
    if error.body is not None:
        headers["content-type"] = "text/html" if error.body.lstrip().startswith("<") else "text/plain"
        return iter((Head(error.status, headers), error.body.encode()))
    body = error_body(error.status, message=error.message, type=error.type, code=error.code)
    return iter((Head(error.status, headers), body))


def _chat(request: Mapping[str, Any], model: MockModel, fault: Fault, seed: str, headers: Mapping[str, str]) -> Script:
    said = answer(request, model, seed)
    frame = wire.Frame.of(request, f"chatcmpl-{seed}", model.chunking)
    if request.get("stream"):
        events = _paced(wire.stream(said, frame), model)
        return _broken_stream(Head(200, {**headers, "content-type": SSE}), events, fault)
    seconds = model.first_token_delay
    if model.token_delay:
        seconds += model.token_delay * max(wire.count_pieces(said, frame) - 1, 0)
    blocks: Script = wire.whole(said, frame)
    if said.repeat is not None and model.token_delay:
        blocks = _spread(blocks, model.token_delay)
    return _delayed(_broken_body(Head(200, headers), blocks, fault), seconds)


def _embed(
    request: Mapping[str, Any],
    model: MockModel,
    fault: Fault,
    inputs: list[str | list[int]],
    size: int,
    headers: Mapping[str, str],
) -> Script:
    made = (vectors.of_text(i, size) if isinstance(i, str) else vectors.of_tokens(i, size) for i in inputs)
    used = sum(count_tokens(i) if isinstance(i, str) else len(i) for i in inputs)
    body = wire.embeddings(made, request["model"], used, packed=request.get("encoding_format") == "base64")
    return _delayed(_broken_body(Head(200, headers), iter((body,)), fault), model.first_token_delay)


def _rerank(
    request: Mapping[str, Any],
    model: MockModel,
    fault: Fault,
    query: str,
    documents: list[str],
    most: int,
    headers: Mapping[str, str],
) -> Script:
    used = sum(count_tokens(query) + count_tokens(document) for document in documents)
    results = ranked(query, documents)[:most]
    told = request.get("return_documents") is not False
    body = wire.rerank(results, documents, request["model"], used, with_documents=told)
    return _delayed(_broken_body(Head(200, headers), iter((body,)), fault), model.first_token_delay)


def _delayed(script: Script, seconds: float) -> Script:
    return chain((Sleep(seconds),), script) if seconds else script


def _spread(blocks: Script, seconds: float) -> Script:
    for block in blocks:
        yield block
        yield Sleep(seconds)


def _paced(events: wire.Events, model: MockModel) -> Script:
    """The events with the model's delays between them."""
    yield events.start
    if model.first_token_delay:
        yield Sleep(model.first_token_delay)
    if model.token_delay:
        pause = Sleep(model.token_delay)
        for index, piece in enumerate(events.pieces):
            if index:
                yield pause
            yield piece
    else:
        yield from events.pieces
    yield from events.end


def _broken_stream(head: Head, events: Script, fault: Fault) -> Script:
    """The head and the events, up to where `fault` breaks them."""
    match fault.breaks:
        case None:
            return chain((head,), events)
        case "cut", 0:
            return iter((Cut(),))
        case "stall", 0:
            return iter((Stall(),))
        case way, after:
            return chain((head,), _broken(events, way, after, fault))


def _broken(events: Script, way: str, after: int, fault: Fault) -> Script:
    seen = 0
    for step in events:
        if isinstance(step, bytes):
            if seen == after:
                match way:
                    case "cut":
                        yield Cut()
                        return
                    case "stall":
                        yield Stall()
                        return
                    case "error":
                        yield wire.error_event(_error_inside(fault))
                        return
                    case "malformed":
                        step = _BROKEN
            seen += 1
        yield step


def _broken_body(head: Head, blocks: Script, fault: Fault) -> Script:
    """The head and the body, or what `fault` leaves of them."""
    match fault.breaks:
        case None:
            yield head
            yield from blocks
            return
        case "cut", 0:
            yield Cut()
            return
        case "stall", 0:
            yield Stall()
            return
        case "error", _:
            yield head
            yield _error_inside(fault)
            return
        case way, _:
            yield head
            first = next(blocks)
            if isinstance(first, bytes):
                yield first[: len(first) // 2]
    if way == "cut":
        yield Cut()
    elif way == "stall":
        yield Stall()


def _error_inside(fault: Fault) -> bytes:
    said = fault if isinstance(fault, MockError) else MockError()
    return error_body(500, message=said.message, type=said.type, code=said.code)
