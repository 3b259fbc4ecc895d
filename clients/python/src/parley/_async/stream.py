"""An answer that is still arriving."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc

from parley import v1
from parley._async import wire
from parley.errors import Cancelled, GatewayError, ParleyError, Truncated
from parley.files import growing_file
from parley.fold import Fold
from parley.progress import Progress
from parley.reply import Reply
from parley.resumption import Resumption
from parley.status import from_rpc


class AsyncStream:
    """One answer, seen through lenses: iterate for the text, over `events` for everything; `reply()` is the whole.

    Leaving the `with` block early cancels the call, and the work of the provider with it. All lenses read the same
    events: what one has taken the others do not see again, but `reply()` and `partial` know all of them. A stream that
    breaks raises a typed error; `partial` keeps what has arrived. One reader at a time; others may call `cancel()`.

    A stream that may start again (`routing.mid_stream_fallback`) takes parts back with the event `fallback_started`:
    text that was read before stays read, but `reply()`, `partial` and the file of `save_to` are without it.

    One that resumes by itself asks the gateway for the rest when its connection breaks, within the same timeout.
    """

    def __init__(
        self,
        call: wire.StreamCall,
        address: str,
        on_progress: Callable[[Progress], object] | None,
        again: wire.Again | None = None,
        start: v1.ResumeFrom = v1.ResumeFrom(),  # noqa: B008  # never written to
    ) -> None:
        self.call = call
        """The gRPC call, for its metadata; another one once the stream has been resumed."""
        self._incoming = aiter(call)
        self._address = address
        self._on_progress = on_progress
        self._again = again
        self._resumption = Resumption(start)
        self._progress = Progress()
        self._fold = Fold()
        self._begun = False
        self._over = False
        self._error: ParleyError | None = None
        self.response_model: type | None = None

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        while (event := await self.next_event()) is not None:
            delta = event.part_delta
            if (
                delta.WhichOneof("delta") == "text" and self._fold.kind(delta.part_index) == "text"
            ):  # refusals have text too
                return delta.text
        raise StopAsyncIteration

    @property
    def text(self) -> AsyncIterator[str]:
        """The text as it comes, without reasoning and refusals; what iterating over the stream itself gives."""
        return self

    @property
    def events(self) -> AsyncIterator[v1.StreamChatResponse]:
        """Everything as it comes, heartbeats too. Skip kinds that you do not know."""
        return AsyncEvents(self)

    async def reply(self) -> Reply:
        """The whole answer: reads what has not been read yet."""
        while await self.next_event() is not None:
            pass
        return self.partial

    @property
    def partial(self) -> Reply:
        """What has arrived so far; its `finish_reason` is "unspecified" until that is everything."""
        return Reply(self._fold.response(), self.response_model)

    async def save_to(self, path: str | Path) -> Reply:
        """Write the text to a file as it comes, then give the whole answer. Text that was read before is written too.

        The text grows in `<path>.part`, which becomes `path` at the end in one step. If the stream breaks, `path` is as
        it was before, and `<path>.part` has what arrived.
        """
        with growing_file(Path(path)) as write:
            write(self.partial.text)
            async for text in self:
                write(text)
            if self._fold.restarted:
                write.become(self.partial.text)
        return self.partial

    @property
    def response_id(self) -> str:
        """The ID by which a resumable answer can be taken up again; empty before its first event, or if it cannot."""
        return self._resumption.response_id

    @property
    def last_sequence(self) -> int:
        """Number of the newest event that has arrived; 0 before the first."""
        return self._resumption.last

    def cancel(self) -> None:
        """End the call now, and the work behind it. Whoever is reading gets `Cancelled`."""
        self.call.cancel()
        if self._again is not None and self.response_id and not self._fold.complete:
            self._again.stop(self.response_id)
            self._again = None

    async def next_event(self) -> v1.StreamChatResponse | None:
        """The next event, or None after the last one. Raises a typed error, also when asked again."""
        if self._error is not None:
            raise self._error
        if self._over:
            return None
        event = None
        while event is None:
            try:
                event = await anext(self._incoming, None)
                if event is None:
                    self._over = self._fold.complete
                    if self._over:
                        return None
                    raise Truncated("the stream ended before the answer was complete, without saying why")
            except grpc.RpcError as error:
                await self._take_up(from_rpc(error, self._address, begun=self._begun), error)
            except Truncated as error:
                await self._take_up(error)
            except wire.Stopped:
                if wire.task_is_cancelled():  # it is not about this call, or not only
                    raise
                self._error = Cancelled("the stream was cancelled before the answer was complete")
                raise self._error from None
        self._begun = True
        self._resumption.seen(event)
        self._fold.feed(event)
        if self._on_progress is not None:
            self._progress.feed(event)
            self._on_progress(self._progress)
        return event

    async def _take_up(self, error: GatewayError, cause: Exception | None = None) -> None:
        """Ask for the rest after `error`; raises it where that is not to be done."""
        wait = None if self._again is None else self._resumption.wait(error)
        if self._again is not None and wait is not None and await self._again.sleep(wait):
            self.call = self._again.resume(self.response_id, self.last_sequence)
            self._incoming = aiter(self.call)
            return
        self._error = self._resumption.told(error)
        raise self._error from cause

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.cancel()


class AsyncEvents:
    """The events of a stream that have not been read yet."""

    def __init__(self, stream: AsyncStream) -> None:
        self._stream = stream

    def __aiter__(self) -> AsyncIterator[v1.StreamChatResponse]:
        return self

    async def __anext__(self) -> v1.StreamChatResponse:
        event = await self._stream.next_event()
        if event is None:
            raise StopAsyncIteration
        return event
