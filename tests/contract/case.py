"""What a case tells about its dialect: how a provider puts `Said` on the wire."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

from parley import v1
from parley.fold import fold
from parley_server.core.errors import GatewayError
from parley_server.core.target import Target
from parley_server.dialects.base import ChatDialect, HttpCall
from parley_server.dialects.steps import Ask, Heard, Listen, SteppedChat
from tests.contract.said import Lack, Said, Turn, turn_of
from tests.contract.talk import Hearing, Talk, converse
from tests.upstream import Exchange, Request

UNKNOWN: dict[str, Any] = {"kind": "new", "values": [1, None, "x"]}
"""What the unknown field `zz_unknown` holds that tests add everywhere."""
NOTHING = Said()
QUESTION = v1.ChatRequest(messages=[v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text="Hello")])])

Mode = Literal["unary", "stream"]
Bearing = Literal["vital", "detour", "patient", "help", "spare"]
"""What becomes of a turn if one of its calls goes wrong.

vital: it fails. detour: another call does as well, unless this one has said what is wrong. patient: it is made again
for a while. help: the turn does without, unless the key is refused. spare: it does without, and does not wait either.
"""


@dataclass(frozen=True, slots=True)
class Step:
    """One of the calls that a turn takes, by a name that `Case.step` gives its requests."""

    name: str
    mode: Mode
    """Whether its answer is a stream."""
    bearing: Bearing = "vital"


class Case(ABC):
    """One dialect and its wire. Events are parsed JSON, or bytes that go as they are.

    A turn takes one call, unless `carries` and `aside` say otherwise: then one of its calls is answered with what was
    said, as a body or a stream, and the others are too, with something else.
    """

    name: str
    dialect: ChatDialect | SteppedChat
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

    def carries(self, call: HttpCall | Request) -> bool:
        """Whether the answer to this call, if it is no stream, is `body`."""
        return True

    def aside(self, call: HttpCall | Request, said: Said) -> Any:
        """What another call is answered with in a turn that says `said`, as parsed JSON."""
        raise AssertionError(f"{self} takes one call, not {call.method} {call.path}")

    goes_on = False
    """A stream that breaks off is made good by other calls."""

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
            body = self.whole(said) if self.carries(exchange.request) else dump(self.aside(exchange.request, said))
            await exchange.answer(200, body, {"content-type": "application/json"})

    def steps(self, mode: Mode) -> tuple[Step, ...]:
        """The calls of a turn that can go wrong."""
        return (Step("", mode),)

    def step(self, request: Request) -> str:
        """Which of them a request is; anything else for one that does not count."""
        return ""

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

    # -------------------------------------------------------------------------------------------------- what is made

    def call(self, request: v1.ChatRequest, *, stream: bool = False) -> HttpCall:
        """The call that asks for `request`: the one of the turn that has a body."""
        steps = converse(self.dialect, request, self.target, stream=stream)
        step = next(steps)
        while isinstance(step, Ask | Listen) and not step.call.body:
            step = steps.send(Heard(200, {}, dump(self.aside(step.call, NOTHING))))
        assert isinstance(step, Ask | Listen)
        return step.call

    def answered(self, body: bytes) -> v1.ChatResponse:
        """What a turn comes to whose answer is `body`."""
        talk = self._talk(lambda call: body if self.carries(call) else dump(self.aside(call, NOTHING)), stream=False)
        assert talk.advance() is None
        assert talk.result is not None
        return talk.result

    def decoded(self, pieces: Sequence[bytes], said: Said = NOTHING) -> v1.ChatResponse:
        """What a turn folds to whose stream arrives in `pieces`. `said` is for the calls beside it."""
        return fold(self.heard(pieces, said))

    def heard(self, pieces: Sequence[bytes], said: Said = NOTHING) -> list[v1.StreamChatResponse]:
        """The events of a turn whose stream arrives in `pieces`."""
        hearing = self.hearing(said)
        found = [event for piece in pieces for event in hearing.feed(piece)]
        return found + hearing.finish()

    def hearing(self, said: Said, spoil: Callable[[Any], Any] = lambda body: body) -> Hearing:
        """A turn up to its stream. `spoil` makes something else of what the calls beside it are answered with."""
        talk = self._talk(lambda call: dump(spoil(self.aside(call, said))), stream=True)
        return Hearing(talk, self.dialect, self.target)

    def _talk(self, answer: Callable[[HttpCall], bytes], *, stream: bool) -> Talk:
        return Talk(converse(self.dialect, QUESTION, self.target, stream=stream), answer)


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
