"""Idempotency keys of several gateways: one call for each, whoever makes it and whatever becomes of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley import v1
from parley_server.core.context import Context
from parley_server.core.errors import (
    Bug,
    GatewayError,
    IdempotencyKeyReused,
    IdempotentRequestInProgress,
    InvalidRequest,
    RateLimited,
    StateUnavailable,
    StreamInterrupted,
    Unavailable,
    Violation,
)
from parley_server.core.reply import Batch
from parley_server.core.service import Service
from parley_server.pipeline.shared import Claims, Keyed, Memory, SharePolicy
from parley_server.pipeline.shared.memory import Remembered
from parley_server.pipeline.shared.records import Begun, packed, unpacked
from parley_server.stores.keyvalue import StoreUnavailable
from parley_server.stores.memory.keyvalue import MemoryKeyValue
from parley_server.stores.presence import LEASE, Presence
from parley_server.stores.sealing import Seals
from tests.fakes import Step, Upstream, chat, completed, context, delta, opened, run, started


def says(*words: str, pause: float = 1.0) -> list[Step]:
    script: list[Step] = [[started(), opened()]]
    for word in words:
        script += [pause, [delta(word)]]
    end = v1.StreamChatResponse(part_completed=v1.PartCompleted(part_index=0, part=v1.Part(text="")))
    return [*script, [end, completed(input_tokens=5, output_tokens=7)]]


class Values(MemoryKeyValue):
    """Values that can be away, or do what they are told and say that they did not."""

    away = False
    mumbles = False
    slow = 0.0

    async def get(self, key: str) -> bytes | None:
        await self._asked()
        return await super().get(key)

    async def put(self, key: str, value: bytes, ttl: float) -> None:
        await self._asked()
        await super().put(key, value, ttl)

    async def add(self, key: str, value: bytes, ttl: float) -> bytes | None:
        await self._asked()
        there = await super().add(key, value, ttl)
        self._told()
        return there

    async def replace(self, key: str, expected: bytes, value: bytes, ttl: float) -> bool:
        await self._asked()
        done = await super().replace(key, expected, value, ttl)
        self._told()
        return done

    async def remove(self, key: str, expected: bytes | None = None) -> bool:
        await self._asked()
        done = await super().remove(key, expected)
        self._told()
        return done

    async def _asked(self) -> None:
        await asyncio.sleep(self.slow)
        if self.away:
            raise StoreUnavailable("away")

    def _told(self) -> None:
        if self.mumbles:
            raise StoreUnavailable("no answer")


class Gateway:
    """One of those that share `values`, in front of an upstream of its own."""

    def __init__(
        self, values: Values, name: str, *script: Step, policy: SharePolicy | None = None, refuses: bool = True
    ) -> None:
        clock = asyncio.get_running_loop().time
        self.upstream = Upstream(*script)
        self.presence = Presence(values, name, clock)
        self.claims = Claims(values, self.presence, Seals(b"secret"), clock, lasts=10_000, refuses=lambda: refuses)
        self.memory = Memory(policy or SharePolicy(), clock, self.claims)
        self.service: Service = Keyed(self.memory)(self.upstream)

    async def call(self, key: str = "k", text: str = "hello", *, streaming: bool = False) -> tuple[str, Context]:
        """What a caller is told, and its context."""
        request = chat(text=text)
        request.idempotency_key = key
        ctx = context(streaming=streaming)
        async with await self.service(request, ctx) as reply:
            if not streaming:
                response = await reply.response()
                return "".join(part.text for part in response.message.parts), ctx
            events: Batch = [event async for batch in reply for event in batch]
        return "".join(event.part_delta.text for event in events), ctx

    async def die(self) -> None:
        """End at once: nothing is said any more."""
        assert self.presence._beating is not None
        self.presence._beating.cancel()
        self.claims._values = Values(asyncio.get_running_loop().time)  # what it still does, others do not see
        await asyncio.gather(self.presence._beating, return_exceptions=True)


class Scene:
    def __init__(self, *script: Step, **options: Any) -> None:
        self.values = Values(asyncio.get_running_loop().time)
        self.one = Gateway(self.values, "one", *script, **options)
        self.other = Gateway(self.values, "other", *script, **options)

    async def __aenter__(self) -> Scene:
        for gateway in (self.one, self.other):
            await gateway.presence.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for gateway in (self.one, self.other):
            await gateway.claims.aclose()
            await gateway.presence.aclose()
            assert gateway.upstream.opened == gateway.upstream.closed

    @property
    def asked(self) -> int:
        return self.one.upstream.opened + self.other.upstream.opened


def codes(ctx: Context) -> list[str]:
    return [warning.code for warning in ctx.warnings]


@pytest.mark.parametrize("then", [False, True], ids=["then_whole", "then_stream"])
@pytest.mark.parametrize("first", [False, True], ids=["first_whole", "first_stream"])
async def test_an_answer_comes_again_elsewhere(first: bool, then: bool) -> None:
    async with Scene(*says("one ", "two")) as there:
        assert (await there.one.call(streaming=first))[0] == "one two"
        said, ctx = await there.other.call(streaming=then)
        assert (said, codes(ctx)) == ("one two", ["IDEMPOTENT_REPLAY"])
        assert there.asked == 1
        assert ctx.ledger.attempts == []


async def test_who_comes_elsewhere_meanwhile_waits_for_the_answer() -> None:
    async with Scene(*says("one ", "two")) as there:
        first = asyncio.create_task(there.one.call(streaming=True))
        await asyncio.sleep(0.5)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        others = await asyncio.gather(*(there.other.call(streaming=number % 2 == 0) for number in range(10)))
        assert loop.time() - begun < 2
        assert {said for said, _ in [await first, *others]} == {"one two"}
        assert there.asked == 1


async def test_the_window_counts_elsewhere_too() -> None:
    async with Scene(*says("one"), policy=SharePolicy(window=100)) as there:
        await there.one.call()
        await asyncio.sleep(99)
        await there.other.call()
        assert there.asked == 1
        await asyncio.sleep(3)
        await there.other.call()
        assert there.asked == 2


async def test_another_request_with_the_key_is_refused_everywhere() -> None:
    async with Scene(*says("one")) as there:
        first = asyncio.create_task(there.one.call())
        await asyncio.sleep(0.5)
        for _ in range(2):  # while it runs, and when it is over
            for gateway in (there.one, there.other):
                with pytest.raises(IdempotencyKeyReused):
                    await gateway.call(text="something else")
            await first
        assert there.asked == 1
        assert (await there.other.call("another key", "something else"))[0] == "one"


async def test_a_failure_frees_the_key_for_who_waits() -> None:
    async with Scene(*says("one")) as there:
        there.one.upstream.script = (1.0, Unavailable("down"))
        first = asyncio.create_task(there.one.call())
        await asyncio.sleep(0.5)
        waiting = asyncio.create_task(there.other.call())
        with pytest.raises(Unavailable):
            await first
        assert (await waiting)[0] == "one"
        assert codes((await there.one.call())[1]) == ["IDEMPOTENT_REPLAY"]


async def test_what_broke_off_after_content_breaks_off_everywhere() -> None:
    error = StreamInterrupted("gone", retry_after=3.0, facts={"provider": "mock"})
    async with Scene([started(), opened(), delta("one ")], 1.0, error) as there:
        for gateway in (there.one, there.other):
            for streaming in (True, False):
                with pytest.raises(StreamInterrupted) as broken:
                    await gateway.call(streaming=streaming)
                assert (broken.value.message, broken.value.facts) == ("gone", {"provider": "mock"})
        assert there.asked == 1


async def test_callers_who_go_away_free_the_key() -> None:
    async with Scene(*says("one", pause=50)) as there:
        first = asyncio.create_task(there.one.call())
        await asyncio.sleep(1)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await asyncio.sleep(1)
        assert (await there.other.call())[0] == "one"
        assert there.asked == 2


async def test_a_caller_who_goes_away_while_the_key_is_claimed_leaves_it_free() -> None:
    async with Scene(*says("one")) as there:
        there.values.slow = 0.4
        first = asyncio.create_task(there.one.call())
        await asyncio.sleep(0.2)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert (await there.other.call())[0] == "one"
        assert there.asked == 1


async def test_the_owner_dies() -> None:
    async with Scene(*says("one", pause=100)) as there:
        first = asyncio.create_task(there.one.call())
        await asyncio.sleep(1)
        waiting = asyncio.create_task(there.other.call())
        await asyncio.sleep(1)
        await there.one.die()
        await asyncio.sleep(LEASE / 2)
        assert not there.other.upstream.opened
        await asyncio.sleep(LEASE / 2 + 3)
        assert there.other.upstream.opened
        assert (await waiting)[0] == "one"
        assert (await first)[0] == "one", "it was only held up, say"
        assert codes((await there.other.call())[1]) == ["IDEMPOTENT_REPLAY"]


async def test_an_answer_that_is_too_long_is_told_to_be() -> None:
    async with Scene(*says(*(["x" * 5000] * 20)), policy=SharePolicy(max_bytes=64 * 1024)) as there:
        first = asyncio.create_task(there.one.call(streaming=True))
        await asyncio.sleep(1)
        with pytest.raises(IdempotentRequestInProgress) as told:
            await there.other.call()
        assert told.value.retry_after == 1.0
        await first
        await asyncio.sleep(3)
        there.other.upstream.script = tuple(says("short"))
        assert (await there.other.call())[0] == "short"


async def test_answers_that_there_is_no_room_for_are_forgotten_everywhere() -> None:
    async with Scene(*says("x" * 12_000), policy=SharePolicy(max_bytes=64 * 1024)) as there:
        for number in range(10):
            await there.one.call(f"key {number}")
        await asyncio.sleep(1)
        assert len(there.values) == 5 + 2, "as many as are kept here, and two gateways"
        assert codes((await there.other.call("key 9"))[1]) == ["IDEMPOTENT_REPLAY"]
        assert codes((await there.other.call("key 0"))[1]) == []


async def test_without_the_store_nothing_is_asked() -> None:
    async with Scene(*says("one")) as there:
        there.values.away = True
        with pytest.raises(StateUnavailable) as refused:
            await there.one.call()
        assert refused.value.retry_after == 1.0
        assert not refused.value.attempted
        assert there.asked == 0
        there.values.away = False
        there.values.mumbles = True  # it is claimed, and nobody is told
        with pytest.raises(StateUnavailable):
            await there.one.call()
        there.values.mumbles = False
        assert (await there.other.call())[0] == "one"
        assert there.asked == 1


async def test_with_another_wish_calls_are_made_without_the_store() -> None:
    async with Scene(*says("one"), refuses=False) as there:
        there.values.away = True
        answers = await asyncio.gather(*(there.one.call() for _ in range(5)))
        assert {said for said, _ in answers} == {"one"}
        assert there.one.upstream.opened == 1
        assert codes((await there.one.call())[1]) == ["IDEMPOTENT_REPLAY"]
        await there.other.call()
        assert there.asked == 2


async def test_an_answer_is_told_once_the_store_is_back() -> None:
    async with Scene(*says("one", "two", pause=20)) as there:
        first = asyncio.create_task(there.one.call())
        await asyncio.sleep(1)
        waiting = asyncio.create_task(there.other.call())
        await asyncio.sleep(1)
        there.values.away = True
        assert (await first)[0] == "onetwo"
        with pytest.raises(StateUnavailable):
            await waiting
        await asyncio.sleep(100)
        there.values.away = False
        await asyncio.sleep(2)
        assert codes((await there.other.call())[1]) == ["IDEMPOTENT_REPLAY"]
        assert there.asked == 1


async def test_a_damaged_record_counts_as_none() -> None:
    async with Scene(*says("one")) as there:
        await there.one.call()
        await asyncio.sleep(1)
        [name] = [key async for some in there.values.keys("") for key in some if not key.startswith("gateway")]
        value = await there.values.get(name)
        assert value is not None
        await there.values.put(name, value[:-1] + bytes([value[-1] ^ 1]), 100)
        await there.other.call()
        assert there.other.claims.corrupt == 1
        assert there.asked == 2


async def test_callers_do_not_share_keys() -> None:
    async with Scene(*says("one")) as there:
        for gateway, caller in ((there.one, "alice"), (there.other, "bob")):
            request = chat()
            request.idempotency_key = "k"
            ctx = context(streaming=False)
            ctx.caller = caller
            async with await gateway.service(request, ctx) as reply:
                await reply.response()
            assert codes(ctx) == []
        assert there.asked == 2


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["call", "stream", "leave", "fail", "away", "back", "other body", "wait"]),
        st.booleans(),
        st.sampled_from([0.0, 0.3, 2.0]),
    ),
    max_size=14,
)


@given(STEPS)
@settings(max_examples=150)
def test_no_two_calls_for_a_key_are_ever_under_way(steps: list[tuple[str, bool, float]]) -> None:
    """Whatever callers do, and whatever becomes of the store: nobody gets two different answers either."""

    async def main() -> None:
        running = most = answered = 0

        async with Scene(*says("one ", "two")) as there:
            for gateway in (there.one, there.other):

                def watched(inner: Service) -> Service:
                    async def counted(request: Any, ctx: Context) -> Any:
                        nonlocal running, most
                        running += 1
                        most = max(most, running)
                        try:
                            reply = await inner(request, ctx)
                        except BaseException:
                            running -= 1
                            raise

                        def over(_: object) -> None:
                            nonlocal running
                            running -= 1

                        reply.on_over(over)
                        return reply

                    return counted

                gateway.service = Keyed(gateway.memory)(watched(gateway.upstream))
            calls: list[asyncio.Task[Any]] = []
            for step, first, pause in steps:
                gateway = there.one if first else there.other
                match step:
                    case "call" | "stream":
                        calls.append(asyncio.create_task(gateway.call(streaming=step == "stream")))
                    case "other body":
                        calls.append(asyncio.create_task(gateway.call(text="something else")))
                    case "leave" if calls:
                        calls[len(calls) // 2].cancel()
                    case "fail":
                        gateway.upstream.script = (0.5, Unavailable("down"))
                    case "away" | "back":
                        there.values.away = step == "away"
                await asyncio.sleep(pause)
            there.values.away = False
            done = await asyncio.gather(*calls, return_exceptions=True)
            for one in done:
                if isinstance(one, BaseException):
                    assert isinstance(
                        one, Unavailable | StateUnavailable | IdempotencyKeyReused | asyncio.CancelledError
                    ), repr(one)
                else:
                    answered += 1
                    assert one[0] == "one two"
            assert most <= 1
            assert not there.one.memory.running
            assert not there.other.memory.running
        assert len(asyncio.all_tasks()) == 1

    run(main())


ERRORS = [
    Unavailable("down", retry_after=2.5, facts={"provider": "p"}),
    InvalidRequest("no", violations=[Violation("messages[0]", "is odd", "INVALID")]),
    RateLimited("slow", provider_error=v1.ProviderError(provider="p", http_status=429, message="slow down")),
    Bug("ours"),
]


@pytest.mark.parametrize("error", [None, *ERRORS], ids=lambda error: getattr(error, "reason", "none"))
def test_records_come_back_as_they_were(error: GatewayError | None) -> None:
    warnings = (v1.Warning(code="A", message="b", field="c"),)
    data = v1.ChatResponse(model="m").SerializeToString()
    record = Remembered(b"d" * 32, "resp_1", v1.ChatResponse, data, warnings, error, 17.0)
    back = unpacked(packed(record), 17.0)
    assert isinstance(back, Remembered)
    assert (back.digest, back.response_id, back.kind, back.data) == (b"d" * 32, "resp_1", v1.ChatResponse, data)
    assert (back.warnings, back.until) == (warnings, 17.0)
    if error is None:
        assert back.error is None
        return
    assert type(back.error) is type(error)
    assert vars(back.error) == vars(error) | {"retryable": error.retryable, "attempted": error.attempted}
    begun = Begun(b"d" * 32, "resp_1", "gateway")
    assert unpacked(packed(begun), 0.0) == begun


def test_texts_of_bugs_stay_where_they_happened() -> None:
    record = Remembered(b"", "resp_1", v1.ChatResponse, b"", (), ZeroDivisionError("secret"), 0.0)
    assert b"secret" not in packed(record)
    back = unpacked(packed(record), 0.0)
    assert isinstance(back, Remembered)
    assert isinstance(back.error, Bug)


@pytest.mark.parametrize("data", [b"", b"2", b"1\x00\x00\x00\x05{}", b"1\x00\x00\x00\x02{}"])
def test_what_is_no_record_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        unpacked(data, 0.0)
