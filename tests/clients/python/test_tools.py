"""Tools from functions, and the conversation that runs them."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest

import parley
from parley import v1
from parley.tools import describe, tool
from tests.clients.python.peer import Peer, said, wants


@dataclass
class Spot:
    lat: float
    lon: float


@tool
def weather(
    spot: Spot,
    unit: Literal["C", "F"] = "C",
    days: Annotated[int, "How many days."] = 1,
    note: str | None = None,
) -> dict[str, Any]:
    """The weather at a place.

    Measured, not guessed.

    Args:
        spot: Where to look,
            in degrees.
        unit (str): Unit of the answer.

    Returns:
        A dictionary.
    """
    return {"spot": [spot.lat, spot.lon], "unit": unit, "days": days, "note": note}


def test_function_becomes_declaration() -> None:
    function = weather.proto.function
    assert function.name == "weather"
    assert function.description == "The weather at a place.\n\nMeasured, not guessed."
    assert not function.HasField("strict")
    number = {"type": "number"}
    assert json.loads(function.parameters_json_schema) == {
        "type": "object",
        "properties": {
            "spot": {
                "type": "object",
                "properties": {"lat": number, "lon": number},
                "required": ["lat", "lon"],
                "additionalProperties": False,
                "description": "Where to look, in degrees.",
            },
            "unit": {"type": "string", "enum": ["C", "F"], "default": "C", "description": "Unit of the answer."},
            "days": {"type": "integer", "default": 1, "description": "How many days."},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        },
        "required": ["spot"],
        "additionalProperties": False,
    }


def test_a_tool_is_called_like_its_function() -> None:
    assert weather(Spot(1, 2), unit="F")["unit"] == "F"


def test_arguments_become_the_types_of_the_function() -> None:
    assert weather.arguments('{"spot": {"lat": 1, "lon": 2.5}}') == {"spot": Spot(1.0, 2.5)}
    with pytest.raises(parley.InvalidOutput, match="spot: missing: lon"):
        weather.arguments('{"spot": {"lat": 1}}')
    with pytest.raises(parley.InvalidOutput, match="unknown: colour"):
        weather.arguments('{"spot": {"lat": 1, "lon": 2}, "colour": 1}')
    with pytest.raises(parley.InvalidOutput, match="not JSON"):
        weather.arguments('{"spot": ')
    with pytest.raises(parley.InvalidOutput, match="not a JSON object"):
        weather.arguments("[1]")


def test_a_function_without_arguments_takes_what_models_write_for_nothing() -> None:
    now = tool(lambda: "noon", name="now", description="The time.")
    assert now.arguments("") == {}
    assert now.arguments("{}") == {}
    assert json.loads(now.proto.function.parameters_json_schema)["properties"] == {}


def test_words_of_the_function_can_be_replaced() -> None:
    @tool(name="look", description="Look it up.", strict=True, parameters={"type": "object", "title": "anything"})
    def search(**words: Any) -> str:
        return json.dumps(words)

    function = search.proto.function
    assert (function.name, function.description, function.strict) == ("look", "Look it up.", True)
    assert json.loads(function.parameters_json_schema) == {"type": "object", "title": "anything"}
    assert search.arguments('{"q": 1.0}') == {"q": 1.0}


def test_parameters_that_a_model_cannot_give_are_refused() -> None:
    def untyped(a) -> None:  # type: ignore[no-untyped-def]
        pass

    def positional(a: int, /) -> None:
        pass

    def odd(a: threading.Thread) -> None:
        pass

    for function, message in ((untyped, "a has no type"), (positional, "by name"), (odd, "a: Thread has no JSON")):
        with pytest.raises(TypeError, match=message):
            tool(function)


BOTH = {"a": "First.", "b": "Second goes on."}


@pytest.mark.parametrize(
    ("doc", "about", "notes"),
    [
        ("", "", {}),
        ("One line.", "One line.", {}),
        ("One.\n\nTwo\nlines.", "One.\n\nTwo\nlines.", {}),
        (
            "Do.\n\nArgs:\n    a: First.\n    b (int): Second\n        goes on.",
            "Do.",
            {"a": "First.", "b": "Second goes on."},
        ),
        (
            "Do.\n\nArguments:\n  a: First: with colon.\n\nRaises:\n  ValueError: Never.",
            "Do.",
            {"a": "First: with colon."},
        ),
        ("Do.\n\nArgs:\n    a: First.\n\nMore about it.", "Do.\n\nMore about it.", {"a": "First."}),
        (
            "Do.\n\n:param a: First\n    goes on.\n:param int b: Second.\n:returns: x",
            "Do.",
            {"a": "First goes on.", "b": "Second."},
        ),
        ("Do.\n\nExample:\n    a: not a parameter", "Do.", {}),
    ],
)
def test_docstrings_are_read(doc: str, about: str, notes: dict[str, str]) -> None:
    assert describe(doc) == (about, notes)


def lookup(name: str) -> str:
    """Looks a name up."""
    if name == "nobody":
        raise parley.ToolError("there is nobody of that name")
    if name == "bug":
        raise ZeroDivisionError
    return f"{name} lives in Oslo"


def test_the_loop_runs_tools_until_the_model_answers(peer: Peer, client: Any) -> None:
    spot = '{"spot": {"lat": 1, "lon": 2}}'
    peer.will(wants(("lookup", '{"name": "Ada"}'), ("weather", spot)))
    peer.will(said("Ada has sun.", usage=v1.Usage(cost=v1.Cost(total_nano_usd=5))))
    calls: list[str] = []
    run = client.run_tools(
        "m", "Weather at Ada's?", tools=[lookup, weather], on_call=lambda call: calls.append(call.name), temperature=0.0
    )
    assert run.text == "Ada has sun."
    assert calls == ["lookup", "weather"]
    assert [message.role for message in run.messages] == [
        v1.ROLE_USER,
        v1.ROLE_ASSISTANT,
        v1.ROLE_TOOL,
        v1.ROLE_TOOL,
        v1.ROLE_ASSISTANT,
    ]
    assert len(run.replies) == 2
    assert run.cost is None  # that of the first turn is unknown
    second = peer.requests[1]
    results = [message.parts[0].tool_result for message in second.messages[2:]]
    assert [result.tool_call_id for result in results] == ["call_0", "call_1"]
    assert results[0].parts[0].text == "Ada lives in Oslo"
    assert json.loads(results[1].parts[0].text) == {"spot": [1.0, 2.0], "unit": "C", "days": 1, "note": None}
    assert all([t.function.name for t in request.tools] == ["lookup", "weather"] for request in peer.requests)
    assert all(request.sampling.temperature == 0.0 for request in peer.requests)


def test_costs_of_all_turns_add_up(peer: Peer, client: Any) -> None:
    first = wants(("lookup", '{"name": "Ada"}'))
    first.usage.cost.total_nano_usd = 3
    peer.will(first)
    peer.will(said("x", usage=v1.Usage(cost=v1.Cost(total_nano_usd=4))))
    assert str(client.run_tools("m", "x", tools=[lookup]).cost) == "7E-9"


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (("lookup", '{"name": "nobody"}'), "there is nobody of that name"),
        (("lookup", '{"name": 5}'), "name: 5 is not str"),
        (("lookup", '{"name": '), "the arguments of lookup are not JSON"),
        (("guess", "{}"), "there is no tool guess; there are: lookup"),
    ],
)
def test_what_the_model_did_wrong_it_is_told(peer: Peer, client: Any, call: tuple[str, str], told: str) -> None:
    peer.will(wants(call))
    peer.will(said("sorry"))
    run = client.run_tools("m", "x", tools=[lookup])
    assert run.text == "sorry"
    result = peer.requests[1].messages[-1].parts[0].tool_result
    assert result.is_error
    assert result.parts[0].text.startswith(told)


def test_a_bug_in_a_tool_is_raised_not_told(peer: Peer, client: Any) -> None:
    peer.will(wants(("lookup", '{"name": "bug"}')))
    with pytest.raises(ZeroDivisionError):
        client.run_tools("m", "x", tools=[lookup])
    assert len(peer.requests) == 1


def test_turns_are_limited(peer: Peer, client: Any) -> None:
    for _ in range(2):
        peer.will(wants(("lookup", '{"name": "Ada"}')))
    with pytest.raises(parley.TurnLimitReached) as caught:
        client.run_tools("m", "x", tools=[lookup], max_turns=2)
    assert len(caught.value.run.replies) == 2
    assert len(caught.value.run.messages) == 5


def test_a_paused_turn_is_sent_back_unchanged(peer: Peer, client: Any) -> None:
    paused = said("half", finish_reason=v1.FINISH_REASON_PAUSE)
    peer.will(paused)
    peer.will(said("whole"))
    assert client.run_tools("m", "x", tools=[lookup]).text == "whole"
    assert peer.requests[1].messages[-1] == paused.message


async def test_coroutines_run_side_by_side(peer: Peer) -> None:
    both = asyncio.Barrier(2)

    async def meet(name: str) -> str:
        async with asyncio.timeout(5):
            await both.wait()  # passes only if the other one runs too
        return name

    peer.will(wants(("meet", '{"name": "a"}'), ("meet", '{"name": "b"}')))
    peer.will(said("met"))
    async with parley.AsyncClient(peer.address) as client:
        assert (await client.run_tools("m", "x", tools=[meet])).text == "met"


async def test_plain_functions_do_not_block_the_loop(peer: Peer) -> None:
    loop_thread = threading.get_ident()

    def where() -> bool:
        return threading.get_ident() != loop_thread

    peer.will(wants(("where", "{}")))
    peer.will(said("done"))
    async with parley.AsyncClient(peer.address) as client:
        await client.run_tools("m", "x", tools=[where])
    assert peer.requests[1].messages[-1].parts[0].tool_result.parts[0].text == "true"


async def test_a_bug_ends_the_tools_beside_it(peer: Peer) -> None:
    ended = asyncio.Event()

    async def patient() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            ended.set()

    async def hasty() -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError

    peer.will(wants(("patient", "{}"), ("hasty", "{}")))
    async with parley.AsyncClient(peer.address) as client:
        with pytest.raises(ZeroDivisionError):
            await client.run_tools("m", "x", tools=[patient, hasty])
    assert ended.is_set()


def test_the_synchronous_client_refuses_coroutines(peer: Peer) -> None:
    async def late() -> None:
        pass

    peer.will(wants(("late", "{}")))
    with parley.Client(peer.address) as client, pytest.raises(TypeError, match="AsyncClient can run it"):
        client.run_tools("m", "x", tools=[late])


@dataclass
class City:
    name: str
    people: int


def test_structured_output_comes_back_as_its_type(peer: Peer, client: Any) -> None:
    peer.will(said('{"name": "Oslo", "people": 717710}'))
    reply = client.chat("m", "A city.", output=City)
    assert reply.json(City) == City("Oslo", 717710)
    assert reply.json() == {"name": "Oslo", "people": 717710}


def test_output_that_is_none_says_why(peer: Peer, client: Any) -> None:
    peer.will(said('{"name": "Os', finish_reason=v1.FINISH_REASON_LENGTH))
    reply = client.chat("m", "A city.", output=City)
    with pytest.raises(parley.InvalidOutput, match="ended with 'length'"):
        reply.json(City)
    peer.will(said('{"name": "Oslo"}'))
    with pytest.raises(parley.InvalidOutput, match="missing: people"):
        client.chat("m", "A city.", output=City).json(City)
