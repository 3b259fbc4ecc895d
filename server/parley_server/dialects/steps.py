"""Conversations of several calls, as generators: they yield what to do next and are sent what came of it.

So the order of the calls stays a pure function, which tests drive by hand; `providers/stepped.py` is the one that does
what is yielded. A call that fails is thrown into the generator, which may go another way.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

from parley import v1
from parley_server.core.errors import GatewayError
from parley_server.core.reply import Batch
from parley_server.core.target import Target
from parley_server.dialects.base import Decoder, Framing, HttpCall

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Ask:
    """Send a call; `Heard` comes back. The path may be a whole URL, if it is one of the provider's own hosts."""

    call: HttpCall
    undo: HttpCall | None = None
    """To send if the conversation is broken off meanwhile: it stops the work that has begun."""
    hear_out: float = 0.0
    """Seconds to wait for the answer even if the conversation is broken off: it begins work and says how to stop it.

    The generator is then sent the answer, and of the step it yields only `undo` is done.
    """
    within: float | None = None
    """Seconds until the whole answer must be there, or AttemptTimeout is thrown in; None: any time."""


@dataclass(frozen=True, slots=True)
class AskAll:
    """Send several calls, a few at a time; what came of each comes back as a list: `Heard` or GatewayError."""

    calls: tuple[HttpCall, ...]
    at_once: int = 4


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait."""

    seconds: float
    undo: HttpCall | None = None


@dataclass(frozen=True, slots=True)
class Listen:
    """Stream the answer of a call to the caller through framing and decoder; None comes back once it is over.

    StreamInterrupted is thrown in if it breaks off. The message that the conversation then ends with is the whole one,
    of which goes out what is missing, unless what went out already is not its beginning.
    """

    call: HttpCall
    undo: HttpCall | None = None


@dataclass(frozen=True, slots=True)
class Heard:
    """A whole answer with a status below 400; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def ending(answer: v1.ChatResponse) -> v1.StreamChatResponse:
    """The event that ends a stream whose parts have gone out."""
    return v1.StreamChatResponse(
        completed=v1.ResponseCompleted(
            finish_reason=answer.finish_reason,
            native_finish_reason=answer.native_finish_reason,
            stop_sequence=answer.stop_sequence,
            usage=answer.usage if answer.HasField("usage") else None,
            route=answer.route,
            warnings=answer.warnings,
        )
    )


Step = Ask | AskAll | Pause | Listen
Steps = Generator[Step, Any, Result]


class PartsDecoder(Decoder, Protocol):
    """A decoder of a stream that brings the parts of an answer and not its end, which the conversation finds out."""

    over: bool
    """Whether the stream has said that nothing more will come."""

    def rest(self, message: v1.Message) -> Batch | None:
        """What is missing of `message` behind a stream that broke off; None if it does not begin as the stream did."""
        ...


@runtime_checkable
class SteppedChat(Protocol):
    """How an API says 'chat' that takes several calls for it. Pure but for what it remembers of models."""

    @property
    def framing(self) -> type[Framing]: ...

    def converse(self, request: v1.ChatRequest, target: Target, *, stream: bool) -> Steps[v1.ChatResponse]:
        """The conversation; ends with the answer, warnings included.

        If it has listened, `finish_reason`, `usage`, `route` and the like of that answer end the stream, and the
        message has gone out already. Behind a stream that is over there is not much time: when it has run out,
        AttemptTimeout is thrown in, and the conversation ends with what it knows.
        """
        ...

    def decoder(self, target: Target) -> PartsDecoder:
        """For the stream that is listened to; gives no `completed`."""
        ...

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError: ...


@runtime_checkable
class SteppedModels(Protocol):
    """How an API lists its models that takes several kinds of calls for it."""

    def converse(self, provider: str) -> Steps[list[v1.Model]]:
        """The conversation; ends with all models. Its first step tells whether the server is there."""
        ...

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError: ...
