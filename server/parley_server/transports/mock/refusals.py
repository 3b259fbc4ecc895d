"""How the mock server says no: OpenAI's error object, with OpenAI's types and codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class _Words:
    type: str
    code: str | None
    message: str


_INVALID = "invalid_request_error"
_USUAL = {
    400: _Words(_INVALID, None, "The request is invalid."),
    401: _Words(_INVALID, "invalid_api_key", "Incorrect API key provided."),
    403: _Words(_INVALID, "unsupported_country_region_territory", "Country, region, or territory not supported"),
    404: _Words(_INVALID, "model_not_found", "The model does not exist or you do not have access to it."),
    413: _Words(_INVALID, "request_too_large", "The request is too large."),
    429: _Words("requests", "rate_limit_exceeded", "Rate limit reached for requests."),
    503: _Words("service_unavailable_error", "server_is_overloaded", "The server is overloaded."),
}
_USUAL_4XX = _Words(_INVALID, None, "The request was refused.")
_USUAL_5XX = _Words("server_error", None, "The server had an error while processing your request.")


class Refused(Exception):
    """The request is answered with an HTTP error. `param` is the field that is wrong."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
        self.body = _body(message, _words(status).type, param, code)


def error_body(status: int, *, message: str | None = None, type: str | None = None, code: str | None = None) -> bytes:
    """OpenAI's error object as JSON; what is not given is the usual for the status."""
    usual = _words(status)
    return _body(message or usual.message, type or usual.type, None, code or usual.code)


def _words(status: int) -> _Words:
    return _USUAL.get(status, _USUAL_5XX if status >= 500 else _USUAL_4XX)


def _body(message: str, type: str, param: str | None, code: str | None) -> bytes:
    return orjson.dumps({"error": {"message": message, "type": type, "param": param, "code": code}})


def parsed(body: bytes) -> dict[str, Any]:
    """The JSON object that `body` is. Raises Refused."""
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError:
        request = None
    if not isinstance(request, dict):
        raise Refused("We could not parse the JSON body of your request. The API expects a JSON payload.")
    return request
