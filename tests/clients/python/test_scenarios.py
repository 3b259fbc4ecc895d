"""The table that all clients share, for the Python clients: both of them."""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import Any

import pytest
from google.protobuf import json_format

import parley
from parley import v1
from tests.clients.python.peer import Blocking
from tests.clients.scene import scenarios

Scenario = dict[str, Any]


def said(value: Any) -> Any:
    """The text, or the texts, of an `input`."""
    match value:
        case {"repeat": str(piece), "times": int(times)}:
            return piece * times
        case None:
            return ()
        case _:
            return value


def request(scenario: Scenario) -> v1.ChatRequest:
    return json_format.ParseDict(scenario.get("request", {}), v1.ChatRequest())


def arguments(scenario: Scenario) -> dict[str, Any]:
    return {"timeout": scenario.get("timeout", 20)}


def chat(client: Any, scenario: Scenario, seen: dict[str, Any]) -> None:
    reply = client.chat(
        scenario["model"], said(scenario.get("input")), request=request(scenario), **arguments(scenario)
    )
    seen["reply"] = reply


def stream(client: Any, scenario: Scenario, seen: dict[str, Any]) -> None:
    events = seen["events"] = []
    with client.stream(
        scenario["model"],
        said(scenario.get("input")),
        request=request(scenario),
        resume=scenario.get("resume", False),
        **arguments(scenario),
    ) as answer:
        try:
            for event in answer.events:
                events.append(event)
                if len(texts(events)) == scenario.get("cancel_after"):
                    answer.cancel()
        finally:
            seen["reply"] = answer.partial


def texts(events: list[v1.StreamChatResponse]) -> list[str]:
    return [event.part_delta.text for event in events if event.part_delta.WhichOneof("delta") == "text"]


def embed(client: Any, scenario: Scenario, seen: dict[str, Any]) -> None:
    seen["vectors"] = client.embed(scenario["model"], scenario["input"], **arguments(scenario)).vectors


def models(client: Any, scenario: Scenario, seen: dict[str, Any]) -> None:
    size = scenario.get("request", {}).get("pageSize", 0)
    seen["models"] = [model.id for model in client.models(page_size=size, **arguments(scenario))]


CALLS = {"chat": chat, "stream": stream, "embed": embed, "models": models}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("scenario", scenarios(), ids=lambda scenario: scenario["name"].replace(" ", "-"))
def test_scenario(scenario: Scenario, kind: str, addresses: dict[str, str]) -> None:
    expect, seen = dict(scenario["expect"]), dict[str, Any]()
    begun = time.monotonic()
    address = addresses[scenario["at"]]
    wanted = dict(expect.pop("error", {}))
    with asyncio.Runner() as runner:
        made: Any = parley.Client(address) if kind == "sync" else Blocking(parley.AsyncClient(address), runner)
        with made as client:
            if not wanted:
                CALLS[scenario["call"]](client, scenario, seen)
            else:
                with pytest.raises(getattr(parley, wanted.pop("kind"))) as caught:
                    CALLS[scenario["call"]](client, scenario, seen)
                for name, value in wanted.items():
                    assert attribute(caught.value, name) == value, name
    for name, value in expect.items():
        check(name, value, seen, time.monotonic() - begun)


def attribute(error: Any, name: str) -> Any:
    match name:
        case "code":
            return error.code.name
        case "violations":
            return [violation.field for violation in error.violations]
        case "has_request_id":
            return bool(error.request_id)
        case _:
            return getattr(error, name)


def check(name: str, value: Any, seen: dict[str, Any], took: float) -> None:
    """Whether what was seen is what the table says under `name`."""
    reply: Any = seen.get("reply")
    match name, value:
        case "text", {"length": int(length), "sha256": str(digest)}:
            assert len(reply.text) == length
            assert hashlib.sha256(reply.text.encode()).hexdigest() == digest
        case "text" | "reasoning" | "refusal" | "finish_reason", _:
            assert getattr(reply, name) == value
        case "partial_text", _:
            assert reply.text == value
        case "provider", _:
            assert reply.route.provider == value
        case "native_finish_reason", _:
            assert reply.raw.native_finish_reason == value
        case "tool_calls", _:
            assert [{"name": call.name, "arguments": call.arguments} for call in reply.tool_calls] == value
        case "texts_at_least", _:
            assert len(texts(seen["events"])) >= value
        case "first_event", _:
            assert seen["events"][0].WhichOneof("event") == value
        case "last_event", _:
            assert seen["events"][-1].WhichOneof("event") == value
        case "sequences", "strictly increasing":
            numbers = [event.sequence for event in seen["events"] if event.WhichOneof("event") != "heartbeat"]
            assert numbers == sorted(set(numbers))
            assert numbers[0] == 1
        case "vectors", _:
            assert len(seen["vectors"]) == value
        case "dimensions", _:
            assert {len(vector) for vector in seen["vectors"]} == {value}
        case "equal", [one, other]:
            assert seen["vectors"][one] == seen["vectors"][other]
        case "contains", _:
            assert set(value) <= set(seen["models"])
        case "within", _:
            assert took < value
        case _:
            pytest.fail(f"the table expects {name}, which is not known here")
