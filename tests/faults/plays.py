"""What an upstream does that goes wrong, or is odd, in the words of whichever wire."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable, Mapping, Sequence

from tests.contract.case import Case
from tests.contract.said import Said
from tests.upstream import Exchange, Script

SAID = Said(text="well, well: 👩‍🚀 is here")

Play = Callable[[Case], Sequence[Script]]
"""What the upstream does with the first request, the second, and so on; the last one stays."""


def beginning(case: Case, said: Said = SAID) -> tuple[bytes, bytes]:
    """What comes of a stream before any content, and what comes up to and with the first content."""
    framing, decoder = case.dialect.framing(), case.dialect.decoder(case.target)
    before = b""
    for write in case.stream(said):
        if any(event.HasField("part_delta") for event in decoder.feed(framing.feed(write))):
            return before, before + write
        before += write
    raise AssertionError(f"{case} streams no content")


def says(case: Case) -> Script:
    """Answers, whole or as a stream."""

    async def script(exchange: Exchange) -> None:
        await case.answer(exchange, SAID)

    return script


def answers(status: int, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Play:
    """Always that status; without a body in the provider's own words."""

    def play(case: Case) -> Sequence[Script]:
        said = case.refusal(status, "something went wrong") if body is None else body

        async def script(exchange: Exchange) -> None:
            await exchange.answer(status, said, headers)

        return [script]

    return play


def sends(
    *, content: bool = False, then: bytes | Callable[[Case], bytes] = b"", ends: str, plain: bool = False
) -> Play:
    """A stream that goes as far as its first content, or not, then has `then` in it, and ends in some way."""

    def play(case: Case) -> Sequence[Script]:
        before, with_content = beginning(case)
        more = then if isinstance(then, bytes) else then(case)
        start = b"" if plain else with_content if content else before

        async def script(exchange: Exchange) -> None:
            await exchange.head(200, {"content-type": case.content_type})
            await exchange.chunk(start)
            if start and more:
                await asyncio.sleep(0.05)  # so that the content is a read of its own
            await exchange.chunk(more)
            if content:
                await asyncio.sleep(0.05)
            await end(exchange, ends)

        return [script]

    return play


async def end(exchange: Exchange, ends: str) -> None:
    """End an exchange in one of these ways."""
    match ends:
        case "end":
            await exchange.end()
        case "hang up":
            await exchange.hang_up()
        case "reset":
            await exchange.reset()
        case "stall":
            await exchange.stall()


def at_once(ends: str) -> Play:
    """The request is read, and that is that."""

    def play(case: Case) -> Sequence[Script]:
        return [lambda exchange: end(exchange, ends)]

    return play


def then_well(play: Play) -> Play:
    """One time, then the answer."""
    return lambda case: [*play(case), says(case)]


def half_a_body(case: Case) -> Sequence[Script]:
    body = case.whole(SAID)

    async def script(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": "application/json"}, length=len(body))
        await exchange.raw(body[: len(body) // 2])
        await exchange.hang_up()

    return [script]


def half_a_body_and_silence(case: Case) -> Sequence[Script]:
    body = case.whole(SAID)

    async def script(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": "application/json"}, length=len(body))
        await exchange.raw(body[: len(body) // 2])
        await exchange.stall()

    return [script]


def no_http(case: Case) -> Sequence[Script]:
    async def script(exchange: Exchange) -> None:
        await exchange.raw(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")
        await exchange.stall()

    return [script]


def drips(case: Case) -> Sequence[Script]:
    """The whole answer, a few bytes at a time."""
    body = b"".join(case.stream(SAID))

    async def script(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": case.content_type})
        await exchange.drip(body, size=max(1, len(body) // 150), pause=0.001)
        await exchange.end()

    return [script]


def drips_signs_of_life(case: Case) -> Sequence[Script]:
    """Nothing but what means nothing, for ever."""
    sign = case.write(case.strangers()[0])

    async def script(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": case.content_type})
        while not exchange.gone:
            await exchange.chunk(sign)
            await asyncio.sleep(0.05)

    return [script]


def compressed(case: Case) -> Sequence[Script]:
    async def script(exchange: Exchange) -> None:
        streams = case.streams(exchange.request)
        body = b"".join(case.stream(SAID)) if streams else case.whole(SAID)
        kind = case.content_type if streams else "application/json"
        await exchange.answer(200, gzip.compress(body), {"content-type": kind, "content-encoding": "gzip"})

    return [script]


def compressed_and_cut(case: Case) -> Sequence[Script]:
    async def script(exchange: Exchange) -> None:
        body = gzip.compress(case.whole(SAID))
        head = {"content-type": "application/json", "content-encoding": "gzip"}
        await exchange.answer(200, body[: len(body) // 2], head)

    return [script]


def compressed_some_other_way(case: Case) -> Sequence[Script]:
    async def script(exchange: Exchange) -> None:
        head = {"content-type": "application/json", "content-encoding": "br"}
        await exchange.answer(200, case.whole(SAID), head)

    return [script]


def goes_on_behind_the_end(case: Case) -> Sequence[Script]:
    body = b"".join(case.stream(SAID))

    async def script(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": case.content_type})
        await exchange.chunk(body + b"\n\n")
        await exchange.stall()

    return [script]
