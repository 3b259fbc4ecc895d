"""Chat, Embed, models and the rest, by both clients, against a real server."""

from __future__ import annotations

from typing import Any

import parley
from parley import v1
from tests.clients.python.peer import Peer, said


def test_chat_reads_as_promised(peer: Peer) -> None:
    peer.will(said("hello"))
    with parley.Client(peer.address) as c:
        assert c.chat("mock/echo", "hello").text == "hello"
    request = peer.requests[0]
    assert request.model == "mock/echo"
    assert list(request.messages) == [parley.user("hello")]


def test_smoke(peer: Peer, client: Any) -> None:
    peer.will(said("hello"))
    assert client.chat("mock/echo", "hello").text == "hello"
    peer.stream(said("hello"))
    with client.stream("mock/echo", "hello") as s:
        assert "".join(s) == "hello"
        assert s.reply().text == "hello"
    peer.will(v1.ListModelsResponse(models=[v1.Model(id="a")], next_page_token="x"))
    peer.will(v1.ListModelsResponse(models=[v1.Model(id="b")]))
    assert [m.id for m in client.models()] == ["a", "b"]
    assert client.health() == "serving"
    peer.set_health(serving=False)
    assert client.health() == "not_serving"
