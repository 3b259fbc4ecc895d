"""Replicate's predictions: a turn takes several calls, and the answer comes as a stream or when one looks."""

from __future__ import annotations

import itertools
import re
from functools import partial
from typing import Any

from parley_server.core.context import Clock
from parley_server.core.errors import GatewayError, Overloaded
from parley_server.core.target import Target
from parley_server.dialects.base import HttpCall
from parley_server.dialects.replicate import ReplicateChat
from tests.contract.case import Case, Mode, Step, dump
from tests.contract.said import Said, Turn, pieces
from tests.upstream import Request

_NUMBERS = ("top_k", "max_tokens", "temperature", "top_p", "presence_penalty", "frequency_penalty", "seed")
_CALLS = {
    "describe": re.compile(r"GET (?:/v1)?/models/(?P<id>[^/]+)/[^/]+"),
    "create": re.compile(r"POST (?:/v1)?/models/(?P<id>[^/]+)/[^/]+/predictions"),
    "listen": re.compile(r"GET /stream/(?P<id>[^/]+)"),
    "look": re.compile(r"GET (?:/v1)?/predictions/(?P<id>[^/]+)"),
    "cancel": re.compile(r"POST (?:/v1)?/predictions/(?P<id>[^/]+)/cancel"),
}


def _hourly() -> Clock:
    """Goes forward so far at each look that what a model takes is asked for in every turn."""
    return partial(next, itertools.count(0.0, 7200.0))


class Replicate(Case):
    """A model that takes one prompt, and answers within the time that the call for a prediction waits."""

    name = "replicate"
    dialect = ReplicateChat(_hourly())
    target = Target("replicate", "meta/meta-llama-3-70b-instruct")
    lacks = frozenset(
        {
            "reasoning",
            "refusal",
            "tool_calls",
            "length",
            "cache_read",
            "cache_write",
            "reasoning_tokens",
            "unreadable_events",
            "carriage_returns",
        }
    )
    trailing = 0
    goes_on = True
    over_sockets = False
    model = "acme/m"
    answers = "create"

    def body(self, said: Said) -> Any:
        """The prediction when it is over."""
        counts = {}
        if said.used is not None:
            counts = {"input_token_count": said.used.input, "output_token_count": said.used.output}
        return {
            **_prediction("p1", "succeeded"),
            "output": list(pieces(said.text)),
            "metrics": {"predict_time": 0.5, **counts},
        }

    def events(self, said: Said) -> list[Any]:
        found: list[Any] = [b": hi\n\n"]
        for number, piece in enumerate(pieces(said.text)):
            found.append({"event": "output", "id": f"1690212292:{number}", "data": piece})
        return [*found, {"event": "done", "id": "1690212293:0", "data": {}}]

    def frame(self, event: Any) -> bytes:
        lines = []
        for field, value in event.items():
            text = value if isinstance(value, str) else dump(value).decode()
            lines += [f"{field}: {line}\n" for line in text.split("\n")]
        return ("".join(lines) + "\n").encode()

    def carries(self, call: HttpCall | Request) -> bool:
        return _which(call)[0] == self.answers

    def aside(self, call: HttpCall | Request, said: Said) -> Any:
        which, id = _which(call)
        match which:
            case "describe":
                return self.description()
            case "create":
                host = call.headers.get("host")
                if not host:  # not over a socket
                    return {**_prediction("p1", "starting"), "urls": {"stream": "https://stream.replicate.com/p1"}}
                return {**_prediction(id, "starting"), "urls": {"stream": f"http://{host}/stream/{id}"}}
            case "look":
                return {**self.body(said), "id": id}
            case "cancel":
                return _prediction(id, "canceled")
        return super().aside(call, said)

    def description(self) -> Any:
        """What the API says of the model."""
        inputs: dict[str, Any] = {name: {"type": "number"} for name in _NUMBERS}
        inputs |= {name: {"type": "string"} for name in ("prompt", "system_prompt", "stop_sequences")}
        output = {"type": "array", "items": {"type": "string"}, "x-cog-array-type": "iterator"}
        schemas = {"Input": {"type": "object", "properties": inputs}, "Output": output}
        version = {"id": "02e5", "openapi_schema": {"openapi": "3.0.2", "components": {"schemas": schemas}}}
        return {"owner": "meta", "name": "meta-llama-3-70b-instruct", "latest_version": version}

    def broken(self) -> tuple[Any, type[GatewayError]]:
        problem = "Service is temporarily unavailable due to high demand (E003)"
        return {"event": "error", "id": "1690212293:0", "data": {"detail": problem}}, Overloaded

    def strangers(self) -> list[Any]:
        logs = {"event": "logs", "id": "1690212292:7", "data": "Loading …\ndone"}
        return [logs, {"event": "zz-new", "id": "1", "data": "x"}, b": comment\n\n", b"data: no name\n\n"]

    def refusal(self, status: int, message: str) -> bytes:
        return dump({"type": "about:blank", "title": "No", "status": status, "detail": message})

    def provider(self, base_url: str) -> dict[str, Any]:
        return {"kind": "replicate", "base_url": f"{base_url}/v1", "api_key": "env:CASE_KEY"}

    def streams(self, request: Request) -> bool:
        return _which(request)[0] == "listen"

    def steps(self, mode: Mode) -> tuple[Step, ...]:
        first = (Step("describe", "unary", "help"), Step("create", "unary"))
        if mode == "unary":
            return (*first, Step("look", "unary", "patient"))
        return (*first, Step("listen", "stream", "detour"), Step("look", "unary", "spare"))

    def step(self, request: Request) -> str:
        return _which(request)[0]

    def turn(self, body: Any) -> Turn:
        """Out of "User: Hello", the turn in question, "User: Go on." and "Assistant:", blank lines between."""
        behind = body["input"]["prompt"].partition("\n\nAssistant: ")[2]
        return Turn(behind.rpartition("\n\nUser: ")[0])

    def results(self, body: Any) -> list[tuple[str, str]]:
        return []


class InTime(Replicate):
    """A model that takes messages, and whose prediction is looked at until it is over."""

    name = "replicate in time"
    dialect = ReplicateChat(_hourly())
    over_sockets = True
    answers = "look"

    def description(self) -> Any:
        found = super().description()
        inputs = found["latest_version"]["openapi_schema"]["components"]["schemas"]["Input"]["properties"]
        del inputs["prompt"]
        inputs["messages"] = {"type": "array", "items": {"type": "object"}}
        return found

    def turn(self, body: Any) -> Turn:
        said = [message for message in body["input"]["messages"] if message["role"] == "assistant"]
        return Turn(said[-1]["content"])


def _which(call: HttpCall | Request) -> tuple[str, str]:
    """The name of a call, and the prediction that it is about; empty for what is none of them."""
    for name, pattern in _CALLS.items():
        if found := pattern.fullmatch(f"{call.method} {call.path}"):
            return name, found["id"]
    return "", ""


def _prediction(id: str, status: str) -> dict[str, Any]:
    head = {"id": id, "model": "meta/meta-llama-3-70b-instruct", "version": "hidden", "status": status}
    return {**head, "input": {"prompt": "Hello"}, "output": None, "error": None, "logs": ""}


CASES = (Replicate(), InTime())
