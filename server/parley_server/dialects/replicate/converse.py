"""How a prediction goes: look up the model once, make the prediction, listen to it or ask for it until it is over."""

from __future__ import annotations

from typing import Any

from parley import v1
from parley_server.core.errors import AttemptTimeout, CredentialsRejected, GatewayError
from parley_server.core.target import Target
from parley_server.dialects.base import HttpCall, load_object
from parley_server.dialects.replicate.decode import UNDER_WAY, decode, prediction
from parley_server.dialects.replicate.encode import WAIT, described, encode
from parley_server.dialects.replicate.schema import Schema, Schemas, read
from parley_server.dialects.steps import Ask, Heard, Listen, Pause, Steps

_FIRST_PAUSE, _LONGEST_PAUSE, _GROWTH = 0.25, 5.0, 1.5  # seconds between polls
_LOST_POLLS = 4  # in a row, of a prediction that goes on meanwhile
_POLL = 10.0  # seconds until a poll is given up as lost
_LOOK = 5.0  # seconds for the look at the model
_HEAR_OUT = WAIT + 2.0  # seconds

_UNKNOWN = Schema()
_STREAM = {"accept": "text/event-stream", "cache-control": "no-store"}


def converse(request: v1.ChatRequest, target: Target, schemas: Schemas, *, stream: bool) -> Steps[v1.ChatResponse]:
    """The conversation. `schemas` remembers what models take."""
    schema = yield from _schema(target, schemas)
    call = encode(request, target, schema, stream=stream)
    made: Heard = yield Ask(call, hear_out=_HEAR_OUT)
    said, body = prediction(made.body), made.body
    listened = False
    stop = HttpCall(f"/predictions/{said['id']}/cancel", headers={})
    match said:
        case {"urls": {"stream": str(url)}} if stream and said["status"] in UNDER_WAY:
            try:
                yield Listen(HttpCall(url, method="GET", headers=_STREAM), undo=stop)
                listened = True
            except GatewayError:  # it never began, or broke off: the prediction goes on, and is waited for
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


def _schema(target: Target, schemas: Schemas) -> Steps[Schema]:
    """What the model takes. Where it cannot be found out this time, it is tried again for another request."""
    known = schemas.get(target.model) or _UNKNOWN
    path = described(target)
    if not path or not schemas.claim(target.model):
        return known
    try:
        heard: Heard = yield Ask(HttpCall(path, method="GET", headers={}), within=_LOOK)
        model: dict[str, Any] = load_object(heard.body)
    except CredentialsRejected:
        raise
    except GatewayError:  # a model that only predictions are allowed of, say
        return known
    found = read(model.get("latest_version") or model) or _UNKNOWN
    schemas.put(target.model, found)
    return found


def _waited(prediction_id: str, stop: HttpCall) -> Steps[bytes]:
    """Ask until the prediction is over, less and less often. Raises what several polls in a row fail of."""
    pause, lost = _FIRST_PAUSE, 0
    while True:
        yield Pause(pause, undo=stop)
        try:
            heard: Heard = yield _poll(prediction_id, stop)
            status = prediction(heard.body)["status"]
        except GatewayError as error:
            lost += 1
            if not error.retryable or lost > _LOST_POLLS:
                raise
            pause = max(error.retry_after or 0.0, min(pause * _GROWTH, _LONGEST_PAUSE))
            continue
        lost = 0
        if status not in UNDER_WAY:
            return heard.body
        pause = min(pause * _GROWTH, _LONGEST_PAUSE)


def _counted(prediction_id: str, stop: HttpCall) -> Steps[bytes]:
    """The prediction behind its stream, for its end and its counts; empty if they cannot be had in the time there is.

    The text has come whole by then, so that is no failure.
    """
    pause = _FIRST_PAUSE
    while True:
        try:
            heard: Heard = yield _poll(prediction_id, stop)
            if prediction(heard.body)["status"] not in UNDER_WAY:
                return heard.body
        except GatewayError as error:
            if not error.retryable or isinstance(error, AttemptTimeout):
                return b""
        try:
            yield Pause(pause, undo=stop)
        except AttemptTimeout:
            return b""
        pause *= _GROWTH


def _poll(prediction_id: str, stop: HttpCall) -> Ask:
    return Ask(HttpCall(f"/predictions/{prediction_id}", method="GET", headers={}), undo=stop, within=_POLL)
