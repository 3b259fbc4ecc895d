"""The cache over a scripted upstream, with a clock that the test turns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from parley import v1
from parley_server.core.context import Context
from parley_server.core.reply import Batch
from parley_server.core.service import Service
from parley_server.core.target import Target
from parley_server.pipeline.cache import Answers, Cache, CachePolicy, Keys, Policies
from parley_server.pipeline.cache import Target as CacheTarget
from parley_server.pipeline.cache.near import Near
from parley_server.pipeline.meter import Meter
from parley_server.pipeline.shared import Join, Memory, SharePolicy
from parley_server.stores.memory.keyvalue import MemoryMessages
from parley_server.stores.sealing import Seals
from tests.fakes import Step, Upstream, chat, completed, context, delta, opened, started

PRICE = v1.ModelPricing(input_nano_usd=10**9, output_nano_usd=10**9)
Options = v1.ResponseCacheOptions
READ_WRITE = Options(mode=Options.MODE_READ_WRITE)


def says(text: str, pause: float = 0.0) -> list[Step]:
    """A script of one answer, word by word."""
    words: list[Step] = []
    for word in text.split(" "):
        words += [pause, [delta(word)]] if pause else [[delta(word)]]
    end = v1.StreamChatResponse(part_completed=v1.PartCompleted(part_index=0, part=v1.Part(text="")))
    return [[started(), opened()], *words, [end, completed(input_tokens=5, output_tokens=7)]]


class Clock:
    """Unix time."""

    def __init__(self) -> None:
        self.now = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now


class Wire(MemoryMessages):
    """Messages that may be missed."""

    def __init__(self) -> None:
        super().__init__()
        self._is_cut = False

    async def publish(self, channel: str, message: bytes) -> None:
        if not self._is_cut:
            await super().publish(channel, message)

    @contextmanager
    def cut(self) -> Iterator[None]:
        """Nobody hears of anything meanwhile."""
        self._is_cut = True
        yield
        self._is_cut = False
        self._listeners.tell("purges", None)


class Scene:
    """One gateway's cache and what is behind it."""

    def __init__(
        self,
        *script: Step,
        policy: CachePolicy | None = None,
        near: Near | None = None,
        max_bytes: int = 2**20,
        beside: Scene | None = None,
        store: Any = None,
        keys: Sequence[bytes] = (),
        closed: bool = False,
    ) -> None:
        """`store`: what it shares with others; `beside`: one that it shares store, upstream and time with."""
        self.upstream: Upstream = beside.upstream if beside is not None else Upstream(*(script or says("an answer")))
        self.wall: Clock = beside.wall if beside is not None else Clock()
        self.store: Any = beside.store if beside is not None else store
        self.messages: Wire = beside.messages if beside is not None else Wire()
        self.answers = Answers(
            Keys(b"secret"),
            max_bytes,
            self.wall,
            shared=None if self.store is None else (self.store, self.messages),
            seals=Seals(b"secret", keys),
            is_needed=lambda: closed,
        )
        self.shared = Memory(SharePolicy(), asyncio.get_running_loop().time)
        metered = Meter(Target("a", "m"), PRICE)(self.upstream)
        resolve = lambda model, _: CacheTarget(model, primary="a/m")  # noqa: E731
        policies = Policies(policy or CachePolicy())
        self.cache = Cache(self.answers, policies, resolve, Join(self.shared), near)
        self.service: Service = self.cache(metered)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Scene]:
        """Learns of purges meanwhile, as a gateway does."""
        self.answers.start()
        await asyncio.sleep(0.01)
        try:
            yield self
        finally:
            await self.answers.aclose()

    @property
    def asked(self) -> int:
        """How often the upstream was."""
        return self.upstream.opened

    def context(self, *, streaming: bool = False, tenant: str = "") -> Context:
        ctx = context(streaming=streaming)
        ctx.received_at = self.wall.now
        ctx.tenant = tenant
        return ctx

    async def call(
        self, request: v1.ChatRequest, ctx: Context | None = None
    ) -> tuple[v1.ChatResponse, v1.CacheInfo | None]:
        """A whole answer, and what the cache says of it."""
        ctx = ctx or self.context()
        async with await self.service(request, ctx) as reply:
            response: Any = await reply.response()
        return response, ctx.cache

    async def read(self, request: v1.ChatRequest, ctx: Context | None = None) -> tuple[Batch, v1.CacheInfo | None]:
        """All events of a stream, and what the cache says of it."""
        ctx = ctx or self.context(streaming=True)
        events: Batch = []
        async with await self.service(request, ctx) as reply:
            async for batch in reply:
                events += batch
        return events, ctx.cache


def ask(text: str = "hello", cache: Options | None = READ_WRITE, **fields: Any) -> v1.ChatRequest:
    """A chat request that is cached."""
    request = chat(text=text)
    if cache is not None:
        request.response_cache.CopyFrom(cache)
    request.MergeFrom(v1.ChatRequest(**fields))
    return request


def text_of(response: v1.ChatResponse) -> str:
    return "".join(part.text for part in response.message.parts)


def statuses(infos: Sequence[v1.CacheInfo | None]) -> list[str]:
    return [v1.CacheInfo.Status.Name(info.status).removeprefix("STATUS_") if info else "" for info in infos]
