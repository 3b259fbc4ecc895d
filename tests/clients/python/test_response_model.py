"""`response_model`: the schema goes out, the answer comes back as one of those."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel, Field

import parley
from tests.clients.python.peer import Peer, said


class Trip(BaseModel):
    """A trip."""

    city: str
    days: int = Field(ge=1)


@dataclass
class Plain:
    city: str


def test_the_answer_is_one_of_the_model(peer: Peer, client: Any) -> None:
    peer.will(said('{"city": "Bergen", "days": 2}'))
    reply = client.chat("mock/echo", "A weekend.", response_model=Trip)
    assert reply.parsed == Trip(city="Bergen", days=2)
    assert '"days"' in peer.requests[-1].output.json_schema.json_schema
    assert peer.requests[-1].output.json_schema.name == "Trip"


def test_so_is_that_of_a_stream(peer: Peer, client: Any) -> None:
    peer.stream(said('{"city": "Bergen"}'))
    with client.stream("mock/echo", "A weekend.", response_model=Plain) as stream:
        assert stream.reply().parsed == Plain("Bergen")


@pytest.mark.parametrize("text", ['{"city": "Bergen", "days": 0}', '{"city": "Bergen"}', "no JSON"])
def test_what_does_not_fit_is_told(peer: Peer, client: Any, text: str) -> None:
    peer.will(said(text))
    reply = client.chat("mock/echo", "A weekend.", response_model=Trip)
    with pytest.raises(parley.InvalidOutput):
        _ = reply.parsed


def test_misuse(peer: Peer, client: Any) -> None:
    peer.will(said("{}"))
    with pytest.raises(TypeError, match="no response_model"):
        _ = client.chat("mock/echo", "hello").parsed
    with pytest.raises(TypeError, match="one of them"):
        client.chat("mock/echo", "hello", output=Plain, response_model=Plain)
