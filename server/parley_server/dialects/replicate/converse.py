"""How a prediction goes: look up the model once, make the prediction, listen to it or ask for it until it is over."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from parley import v1
from parley_server.core.errors import CredentialsRejected, GatewayError
from parley_server.core.target import Target
from parley_server.dialects.base import HttpCall, load_object
from parley_server.dialects.replicate.decode import UNDER_WAY, decode, prediction
from parley_server.dialects.replicate.encode import WAIT, described, encode
from parley_server.dialects.replicate.schema import Schema, read
from parley_server.dialects.steps import Ask, Heard, Listen, Pause, Steps

_FIRST_PAUSE, _LONGEST_PAUSE, _GROWTH = 0.25, 5.0, 1.5  # seconds between polls
_LOST_POLLS = 4  # in a row, of a prediction that goes on meanwhile
_POLLS_BEHIND_STREAM = 6  # the counts are worth a few seconds, not more
_MOST_SCHEMAS = 1024
_HEAR_OUT = WAIT + 2.0  # seconds

_UNKNOWN = Schema()
_STREAM = {"accept": "text/event-stream", "cache-control": "no-store"}


def converse(
    request: v1.ChatRequest, target: Target, schemas: MutableMapping[str, Schema], *, stream: bool
) -> Steps[v1.ChatResponse]:
    """The conversation. `schemas` remembers what models take."""
    schema = yield from _schema(target, schemas)
    call = encode(request, target, schema, stream=stream)
    made: Heard = yield Ask(call, hear_out=_HEAR_OUT)
    said, body = prediction(made.body), made.body
    listened = False
    stop = HttpCall(f"/predictions/{said['id']}/cancel", headers={})
    url = (said.get("urls") or {}).get("stream") if stream else None
    if isinstance(url, str) and said["status"] in UNDER_WAY:
        try:
            yield Listen(HttpCall(url, method="GET", headers=_STREAM), undo=stop)
            listened = True
        except GatewayError:  # the prediction goes on all the same: it is waited for
            pass
    if said["status"] in UNDER_WAY:
        body = yield from (_counted if listened else _waited)(said["id"], stop)
        if not body:
            response = v1.ChatResponse(finish_reason=v1.FINISH_REASON_STOP)
            response.route.provider_response_id = said["id"]
            response.warnings.extend(call.warnings)
            return response
        said = prediction(body)
    response = decode(said, target)
    if request.include_provider_response and not stream:
        response.provider_response_json = body.decode("utf-8", "replace")
    response.warnings.extend(call.warnings)
    return response


def _schema(target: Target, schemas: MutableMapping[str, Schema]) -> Steps[Schema]:
    """What the model takes. Where it cannot be found out this time, it is tried again for the next request."""
    known = schemas.get(target.model)
    path = described(target)
    if known is not None or not path:
        return known or _UNKNOWN
    try:
        heard: Heard = yield Ask(HttpCall(path, method="GET", headers={}))
        model: dict[str, Any] = load_object(heard.body)
    except CredentialsRejected:
        raise
    except GatewayError:  # a model that only predictions are allowed of, say
        return _UNKNOWN
    if len(schemas) >= _MOST_SCHEMAS:
        schemas.pop(next(iter(schemas)))
    found = schemas[target.model] = read(model.get("latest_version") or model) or _UNKNOWN
    return found


def _waited(prediction_id: str, stop: HttpCall) -> Steps[bytes]:
    """Ask until the prediction is over, less and less often. Raises what several polls in a row fail of."""
    pause, lost = _FIRST_PAUSE, 0
    while True:
        yield Pause(pause, undo=stop)
        try:
            heard: Heard = yield _poll(prediction_id, stop)
        except GatewayError as error:
            lost += 1
            if not error.retryable or lost > _LOST_POLLS:
                raise
            pause = max(error.retry_after or 0.0, min(pause * _GROWTH, _LONGEST_PAUSE))
            continue
        lost = 0
        if prediction(heard.body)["status"] not in UNDER_WAY:
            return heard.body
        pause = min(pause * _GROWTH, _LONGEST_PAUSE)


def _counted(prediction_id: str, stop: HttpCall) -> Steps[bytes]:
    """The prediction behind its stream, for its end and its counts; empty if they cannot be had soon.

    The text has come whole by then, so that is no failure.
    """
    pause = _FIRST_PAUSE
    for _ in range(_POLLS_BEHIND_STREAM):
        try:
            heard: Heard = yield _poll(prediction_id, stop)
            if prediction(heard.body)["status"] not in UNDER_WAY:
                return heard.body
        except GatewayError as error:
            if not error.retryable:
                break
        yield Pause(pause, undo=stop)
        pause *= _GROWTH
    return b""


def _poll(prediction_id: str, stop: HttpCall) -> Ask:
    return Ask(HttpCall(f"/predictions/{prediction_id}", method="GET", headers={}), undo=stop)
