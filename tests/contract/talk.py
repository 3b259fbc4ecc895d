"""Turns driven by hand: what `providers/` does over sockets, without them. A turn of one call is the simplest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

from parley import v1
from parley.fold import unfold
from parley_server.core.errors import AttemptTimeout, GatewayError, StreamInterrupted
from parley_server.core.target import Target
from parley_server.dialects.base import ChatDialect, HttpCall
from parley_server.dialects.steps import Ask, Heard, Listen, PartsDecoder, Pause, Step, SteppedChat, Steps, ending

Answer = Callable[[HttpCall], bytes]
"""The whole body that a call is answered with."""

_MOST_STEPS = 20  # until the time is over


def converse(
    dialect: ChatDialect | SteppedChat, request: v1.ChatRequest, target: Target, *, stream: bool
) -> Steps[v1.ChatResponse | None]:
    """The conversation of a turn. Without a result: the stream has said all."""
    if isinstance(dialect, SteppedChat):
        return (yield from dialect.converse(request, target, stream=stream))
    call = dialect.encode(request, target, stream=stream)
    if stream:
        yield Listen(call)
        return None
    heard: Heard = yield Ask(call)
    return dialect.decode(heard.body, target)


class Talk:
    """One conversation. `answer` knows what its calls are answered with; streams come from outside."""

    def __init__(self, steps: Steps[v1.ChatResponse | None], answer: Answer) -> None:
        self.result: v1.ChatResponse | None = None
        self._steps = steps
        self._answer = answer
        self._left = _MOST_STEPS

    def advance(self, failure: GatewayError | None = None) -> Listen | None:
        """Go on to the next stream, None: to the end. `failure` is what became of the last step."""
        step = self._tell(None, failure)
        while step is not None and not isinstance(step, Listen):
            self._left -= 1
            if self._left < 0:
                step = self._tell(None, AttemptTimeout("that was all the time"))
            elif isinstance(step, Ask):
                step = self._tell(Heard(200, {}, self._answer(step.call)))
            else:
                assert isinstance(step, Pause)
                step = self._tell(None)
        return step

    def _tell(self, what: Any, failure: GatewayError | None = None) -> Step | None:
        try:
            return self._steps.send(what) if failure is None else self._steps.throw(failure)
        except StopIteration as end:
            self.result = end.value
            return None


class Hearing:
    """A turn up to its stream: bytes go in, events come out."""

    def __init__(self, talk: Talk, dialect: ChatDialect | SteppedChat, target: Target) -> None:
        self.decoder = dialect.decoder(target)
        self._framing = dialect.framing()
        self._talk = talk
        self._listens = talk.advance() is not None

    def feed(self, piece: bytes) -> list[v1.StreamChatResponse]:
        """More of the stream."""
        return self.decoder.feed(self._framing.feed(piece)) if self._listens else []

    def finish(self) -> list[v1.StreamChatResponse]:
        """The connection ends, and the conversation goes to its end. Raises StreamInterrupted if it is too soon."""
        if self._listens:
            found = self.decoder.feed(self._framing.finish()) + self.decoder.finish()
            self._talk.advance()
            return [*found, *self._end()]
        assert self._talk.result is not None
        return list(unfold(self._talk.result))

    def break_off(self, error: StreamInterrupted) -> list[v1.StreamChatResponse]:
        """The connection broke: what other calls can make good. Raises `error` where there is nothing of the kind."""
        self._talk.advance(error)
        assert self._talk.result is not None
        rest = cast(PartsDecoder, self.decoder).rest(self._talk.result.message)
        if rest is None:
            raise error
        return [*rest, *self._end()]

    def _end(self) -> Iterator[v1.StreamChatResponse]:
        if self._talk.result is not None:
            yield ending(self._talk.result)
