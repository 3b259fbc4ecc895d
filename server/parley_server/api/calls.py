"""The calls under way: counted for health and drain, and ended with an honest status when the drain is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from parley_server.core.context import Context


class Calls:
    """Knows every call: its task while the handler runs, and until gRPC has taken the last byte of the answer.

    Both by the task that gRPC runs the handler in, which ends once the status is sent. A callback at the servicer
    context would come at the same time, but it ties call and context to each other, for the garbage collector to undo.
    """

    def __init__(self) -> None:
        self.cut_off = False
        self.over: Callable[[Context], None] | None = None
        """Called with every call that is over, its last byte sent; `ctx.ended` says how."""
        self.begun = 0
        """Calls so far, those that are over included."""
        self._tasks: set[asyncio.Task[object]] = set()
        self._open = 0
        self._handled = asyncio.Event()
        self._handled.set()
        self._sent = asyncio.Event()
        self._sent.set()

    def __len__(self) -> int:
        return self._open

    def track(self, ctx: Context) -> _Handler:
        """Count the current task as the handler of a call until the block ends, and the call until gRPC is done."""
        self.begun += 1
        task = _task()
        task.add_done_callback(lambda _: self._done(ctx))
        return self._handler(task)

    def pass_by(self, ctx: Context) -> None:
        """A call that is answered at once, so that no drain need wait for it. It is told of all the same."""
        if self.over is not None:
            _task().add_done_callback(lambda _: self._tell(ctx))

    def _done(self, ctx: Context) -> None:
        self._over()
        self._tell(ctx)

    def _tell(self, ctx: Context) -> None:
        if self.over is not None:
            self.over(ctx)

    @contextmanager
    def background(self) -> Iterator[None]:
        """Count the current task, which is no handler, as a call of its own until the block ends."""
        try:
            with self._handler(_task()):
                yield
        finally:
            self._over()

    def _handler(self, task: asyncio.Task[object]) -> _Handler:
        self._open += 1
        if self._open == 1:
            self._sent.clear()
        if not self._tasks:
            self._handled.clear()
        self._tasks.add(task)
        return _Handler(self, task)

    def handled(self, task: asyncio.Task[object]) -> None:
        """A task is no handler any more."""
        self._tasks.discard(task)
        if not self._tasks:
            self._handled.set()

    def _over(self, _: object = None) -> None:
        self._open -= 1
        if not self._open:
            self._sent.set()

    async def drained(self, seconds: float) -> bool:
        """Wait until no call is left and all answers have been sent, at most `seconds`; whether that happened."""
        return await _within(self._sent, seconds)

    def cut(self) -> int:
        """Cancel the calls that are left; they answer SHUTTING_DOWN. Gives their number."""
        self.cut_off = True
        for task in self._tasks:
            task.cancel()
        return self._open

    async def cleaned_up(self, seconds: float) -> bool:
        """Wait until every handler has ended, at most `seconds`; whether that happened."""
        return await _within(self._handled, seconds)


class _Handler:
    """A block that a task is the handler of a call in. A class, since every call enters one: a generator costs more."""

    __slots__ = ("_calls", "_task")

    def __init__(self, calls: Calls, task: asyncio.Task[object]) -> None:
        self._calls = calls
        self._task = task

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._calls.handled(self._task)


def _task() -> asyncio.Task[object]:
    return asyncio.current_task()  # type: ignore[return-value]  # handlers run in tasks


async def _within(event: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True
