"""Listens to an answer on its way, and keeps it once it is whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from parley import v1
from parley.fold import Fold
from parley_server.core.context import Context
from parley_server.core.reply import Batches, Final, Reply

Keep = Callable[[v1.ChatResponse | None], None]


def overhear(reply: Reply[Any], ctx: Context, most: int, keep: Keep) -> Reply[Any]:
    """Call `keep` with a copy of the whole answer, warnings of the layers further in included, when it has come.

    Not for one that breaks off; with None for a stream that takes more than `most` bytes, roughly. `ctx`: that of the
    call, with no warnings yet but those that the answer's caller has anyway.
    """
    notes = len(ctx.warnings)
    listener = _Listener(most)

    def over(final: Final) -> None:
        whole = listener.whole(final)
        if whole is not None:
            whole.warnings.extend(ctx.warnings[notes:])
        keep(whole)

    reply = reply.through(listener.listen)
    reply.on_final(over)
    return reply


class _Listener:
    def __init__(self, most: int) -> None:
        self._left = most
        self._fold = Fold()

    async def listen(self, batches: Batches) -> Batches:
        async for batch in batches:
            if self._left >= 0:
                for event in batch:
                    self._take(event)
            yield batch

    def _take(self, event: v1.StreamChatResponse) -> None:
        if event.WhichOneof("event") == "completed":  # fed when it has been filled in
            return
        if event.HasField("part_delta"):
            self._left -= event.ByteSize()
        self._fold.feed(event)

    def whole(self, final: Final) -> v1.ChatResponse | None:
        if isinstance(final, v1.ChatResponse):
            copy = v1.ChatResponse()
            copy.CopyFrom(final)
            return copy
        if self._left < 0 or not isinstance(final, v1.ResponseCompleted):
            return None
        self._fold.feed(v1.StreamChatResponse(completed=final))
        return self._fold.response()
