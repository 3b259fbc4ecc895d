"""What a case tells about its dialect: how a provider puts `Said` on the wire."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from parley import v1
from parley.fold import fold
from parley_server.core.errors import GatewayError
from parley_server.core.target import Target
from parley_server.dialects.base import ChatDialect
from tests.contract.said import Lack, Said, Turn, turn_of
from tests.upstream import Exchange, Request

UNKNOWN: dict[str, Any] = {"kind": "new", "values": [1, None, "x"]}
"""What the unknown field `zz_unknown` holds that tests add everywhere."""


class Case(ABC):
    """One dialect and its wire. Events are parsed JSON, or bytes that go as they are."""

    name: str
    dialect: ChatDialect
    target: Target
    lacks: frozenset[Lack] = frozenset()
    content_type = "text/event-stream"
    trailing = 2
    """Bytes at the end of a stream that add nothing: the blank line behind the last event, say."""
    free_keys: frozenset[str] = frozenset()
    """Keys whose values are the model's own data, in which no unknown field can stand."""

    def __str__(self) -> str:
        return self.name

    # ---------------------------------------------------------------------------------------------------- the wire

    @abstractmethod
    def body(self, said: Said) -> Any:
        """A whole answer, as parsed JSON."""

    @abstractmethod
    def events(self, said: Said) -> list[Any]:
        """The events of a stream that says the same."""

    @abstractmethod
    def frame(self, event: Any) -> bytes:
        """An event on the wire."""

    def enough(self, said: Said) -> int:
        """How many events of `said` are an answer: the end of the connection behind them is its end."""
        return len(self.events(said))

    @abstractmethod
    def broken(self) -> tuple[Any, type[GatewayError]]:
        """An error that arrives as an event of a stream, and what it means."""

    @abstractmethod
    def strangers(self) -> list[Any]:
        """Events that mean nothing to us: of kinds to come, or signs of life."""

    @abstractmethod
    def refusal(self, status: int, message: str) -> bytes:
        """The body of an HTTP error of that status."""

    def garbage(self) -> bytes:
        """An event that cannot be read."""
        return b"data: {nonsense\n\n"

    def endless(self) -> bytes:
        """An event larger than any may be, and without an end."""
        return b"data: " + b"x" * (17 * 1024 * 1024)

    # ------------------------------------------------------------------------------------------- over a real socket

    over_sockets = True
    """A provider of `provider` speaks this for any request: the fault suite can have it."""
    model = "m"
    """What names of models end in, where the provider goes by the name."""
    environ: Mapping[str, str] = MappingProxyType({"CASE_KEY": "key-of-the-case"})
    """Variables that `provider` refers to."""

    @abstractmethod
    def provider(self, base_url: str) -> dict[str, Any]:
        """Settings of a provider that speaks this at `base_url`, the root of a server."""

    def streams(self, request: Request) -> bool:
        """Whether a stream is asked for."""
        return bool(request.json.get("stream"))

    async def answer(self, exchange: Exchange, said: Said) -> None:
        """Say it as it was asked for."""
        if self.streams(exchange.request):
            await exchange.stream(*self.stream(said), content_type=self.content_type)
        else:
            await exchange.answer(200, self.whole(said), {"content-type": "application/json"})

    # -------------------------------------------------------------------------------------------------- the way back

    def returned(self, said: Said) -> Turn:
        """What of `said` is sent back with its turn."""
        return turn_of(said)

    @abstractmethod
    def turn(self, body: Any) -> Turn:
        """The last assistant turn of an encoded body."""

    @abstractmethod
    def results(self, body: Any) -> list[tuple[str, str]]:
        """The tool results of an encoded body: the call's ID (or the tool's name, where there are no IDs), the text."""

    def paired(self, said: Said) -> list[tuple[str, str]]:
        """By what results belong to the calls of `said`, as in `results`: ID or name first, whatever second."""
        return [(call.id, "") for call in said.calls]

    # ------------------------------------------------------------------------------------------------------ derived

    def whole(self, said: Said) -> bytes:
        """A whole answer on the wire."""
        return dump(self.body(said))

    def stream(self, said: Said) -> list[bytes]:
        """A stream, one write for each event."""
        return [self.write(event) for event in self.events(said)]

    def write(self, event: Any) -> bytes:
        """An event on the wire; bytes go as they are."""
        if isinstance(event, bytes):
            return event
        return self.frame(event)

    def without(self, said: Said) -> Said:
        """`said` without what this wire cannot say."""
        found = said
        for lack, fields in {
            "reasoning": {"reasoning": ""},
            "refusal": {"refusal": ""},
            "tool_calls": {"calls": ()},
            "length": {"cut": False},
        }.items():
            if lack in self.lacks:
                found = replace(found, **fields)  # type: ignore[arg-type]
        if "text_with_calls" in self.lacks and found.calls:
            found = replace(found, text="")
        return replace(found, calls=found.calls[:1]) if "parallel_calls" in self.lacks else found

    def decoded(self, pieces: Sequence[bytes]) -> v1.ChatResponse:
        """What a stream that arrives in `pieces` folds to."""
        return fold(self.heard(pieces))

    def heard(self, pieces: Sequence[bytes]) -> list[v1.StreamChatResponse]:
        """The events that framing and decoder make of a stream that arrives in `pieces`."""
        framing, decoder = self.dialect.framing(), self.dialect.decoder(self.target)
        found: list[v1.StreamChatResponse] = []
        for piece in pieces:
            found += decoder.feed(framing.feed(piece))
        return found + decoder.feed(framing.finish()) + decoder.finish()


def dump(value: Any) -> bytes:
    """JSON with every character as itself, so that cuts fall into the midst of some."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def sse(event: Any) -> bytes:
    """An event without a name; a text is data as it stands."""
    return b"data: " + (event.encode() if isinstance(event, str) else dump(event)) + b"\n\n"


def named_sse(event: Any) -> bytes:
    """An event whose type is its name as well."""
    name: str = event["type"]
    return b"event: " + name.encode() + b"\n" + sse(event)


def with_unknown_fields(value: Any, free_keys: frozenset[str]) -> Any:
    """`value` with a field more in every object, except in the model's own data."""
    match value:
        case dict():
            inner = {
                key: item if key in free_keys else with_unknown_fields(item, free_keys) for key, item in value.items()
            }
            return {**inner, "zz_unknown": UNKNOWN}
        case list():
            return [with_unknown_fields(item, free_keys) for item in value]
        case _:
            return value
