"""The calls under way: counted for health and drain, and ended with an honest status when the drain is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from weakref import ref

from parley_server.core.context import Context

_FEW = 32  # answers on their way that may have arrived before somebody looks

_Task = asyncio.Task[object]


class Calls:
    """Knows every call: its task while the handler runs, and until gRPC has taken the last byte of the answer.

    gRPC runs a handler in a task that ends once the status is sent. Nobody is told of that: a callback costs a tenth of
    an answer from the cache, and the only one who has to know is a drain, which can look.
    """

    def __init__(self) -> None:
        self.cut_off = False
        self.over: Callable[[Context], None] | None = None
        """Called with every call whose handler is done; `ctx.ended` says how the call ended."""
        self.begun = 0
        """Calls so far, those that are over included."""
        self._handling: set[_Task] = set()
        self._sending: list[ref[_Task]] = []  # the rest of those whose handlers are done; some have ended meanwhile
        self._crowded = _FEW
        self._waiting: asyncio.Event | None = None  # somebody waits for the last handler

    def __len__(self) -> int:
        return len(self._handling) + len(self._unsent())

    def track(self, ctx: Context) -> _Handler:
        """Count the current task as the handler of a call until the block ends, and the call until gRPC is done."""
        self.begun += 1
        task = _task()
        self._handling.add(task)
        return _Handler(self, task, ctx)

    @contextmanager
    def background(self) -> Iterator[None]:
        """Count the current task, which is no handler, as a call of its own until the block ends."""
        task = _task()
        self._handling.add(task)
        try:
            yield
        finally:
            self._leave(task)

    def done(self, task: _Task, ctx: Context) -> None:
        """The handler of a call is done; its answer may still be on its way."""
        self._sending.append(ref(task))
        if len(self._sending) > self._crowded:
            self._sending = [ref(one) for one in self._unsent()]
            self._crowded = 2 * len(self._sending) + _FEW
        self._leave(task)
        if self.over is not None:
            try:
                self.over(ctx)
            except Exception as error:  # what is told of a call is not to spoil its answer
                told = {"message": "a call that was over could not be told of", "exception": error}
                asyncio.get_running_loop().call_exception_handler(told)

    def _leave(self, task: _Task) -> None:
        self._handling.discard(task)
        if self._waiting is not None and not self._handling:
            self._waiting.set()

    def _unsent(self) -> list[_Task]:
        return [task for one in self._sending if (task := one()) is not None and not task.done()]

    async def drained(self, seconds: float) -> bool:
        """Wait until no call is left and all answers have been sent, at most `seconds`; whether that happened."""
        clock = asyncio.get_running_loop().time
        end = clock() + seconds
        while True:
            if not await self.cleaned_up(end - clock()):
                return False
            if not (unsent := self._unsent()):
                return True
            if (left := end - clock()) <= 0:
                return False
            await asyncio.wait(unsent, timeout=left)

    def cut(self) -> int:
        """Cancel the calls that are left; they answer SHUTTING_DOWN. Gives their number."""
        self.cut_off = True
        for task in self._handling:
            task.cancel()
        return len(self)

    async def cleaned_up(self, seconds: float) -> bool:
        """Wait until every handler is done, at most `seconds`; whether that happened."""
        if not self._handling:
            return True
        if self._waiting is None:
            self._waiting = asyncio.Event()
        self._waiting.clear()
        try:
            await asyncio.wait_for(self._waiting.wait(), seconds)
        except TimeoutError:
            return False
        return True


class _Handler:
    """A block that a task is the handler of a call in. A class, since every call enters one: a generator costs more."""

    __slots__ = ("_calls", "_ctx", "_task")

    def __init__(self, calls: Calls, task: _Task, ctx: Context) -> None:
        self._calls = calls
        self._task = task
        self._ctx = ctx

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._calls.done(self._task, self._ctx)


def _task() -> _Task:
    return asyncio.current_task()  # type: ignore[return-value]  # handlers run in tasks
