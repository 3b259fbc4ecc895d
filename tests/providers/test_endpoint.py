"""The driver between dialect and wire, against a real upstream on a real socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from parley import v1
from parley.fold import fold
from parley_server.core.errors import (
    GatewayError,
    InvalidRequest,
    ProtocolError,
    RateLimited,
    StreamInterrupted,
    Unavailable,
)
from parley_server.core.reply import Reply
from parley_server.core.secret import Secret
from parley_server.core.target import Target
from parley_server.dialects.openai_chat import OpenAIChat, Quirks
from parley_server.dialects.openai_embed import OpenAIEmbed
from parley_server.dialects.tei import TEIRerank
from parley_server.providers.auth import Bearer, Header, Open
from parley_server.providers.base import Provider
from parley_server.providers.endpoint import ChatEndpoint, EmbedEndpoint, RerankEndpoint, Wire
from parley_server.transports.base import Outgoing
from parley_server.transports.http import HttpTransport
from tests.fakes import chat, context
from tests.upstream import Exchange, Script, Upstream, in_turn, refusing, scripted

SOON = 2.0  # seconds within which a hang-up must be seen; a bound, not a wait
EVENT_STREAM = {"content-type": "text/event-stream"}
DONE = b"data: [DONE]\n\n"


def frame(delta: dict[str, Any] | None = None, finish: str | None = None) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return b"data: " + json.dumps({"id": "c1", "model": "m-1", "choices": choices}).encode() + b"\n\n"


def said(text: str) -> bytes:
    return frame({"content": text})


WHOLE = {
    "id": "c1",
    "model": "m-1",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
}


def vectors(*values: float) -> dict[str, Any]:
    """Answer to an embedding call: one vector of one number each."""
    rows = [{"index": i, "embedding": [value]} for i, value in enumerate(values)]
    return {"model": "e-1", "data": rows, "usage": {"prompt_tokens": len(values), "total_tokens": len(values)}}


@dataclass
class Scene:
    """An endpoint in front of a scripted upstream."""

    upstream: Upstream
    transport: HttpTransport
    card: Provider

    def wire(self, card: v1.Model | None = None) -> Wire:
        return Wire(self.card, Target("lab", "m", card), self.transport, connect_timeout=5)

    async def ask(self, *, streaming: bool = True, **fields: Any) -> Reply[v1.ChatResponse]:
        ctx = context(streaming=streaming)
        ctx.outgoing["traceparent"] = "00-1-2-01"
        request = chat("lab/m")
        request.MergeFrom(v1.ChatRequest(**fields))
        return await ChatEndpoint(self.wire(), self.card.choose_chat)(request, ctx)

    async def embed(self, *texts: str, limit: int | None = None, card: v1.Model | None = None) -> v1.EmbedResponse:
        request = v1.EmbedRequest(model="lab/m", inputs=[v1.EmbedInput(text=text) for text in texts])
        endpoint = EmbedEndpoint(self.wire(card), OpenAIEmbed(batch_limit=limit))
        async with await endpoint(request, context("embed", streaming=False)) as reply:
            return await reply.response()

    async def hung_up(self) -> bool:
        """Whether nothing is left open on either side."""
        return await self.upstream.closed_within(SOON) and self.transport.open == 0


@asynccontextmanager
async def scene(script: Script, quirks: Quirks | None = None) -> AsyncIterator[Scene]:
    async with scripted(script) as upstream:
        transport = HttpTransport()
        card = Provider(
            name="lab",
            base_url=f"{upstream.base_url}/v1",
            chat=OpenAIChat(quirks or Quirks()),
            embed=OpenAIEmbed(),
            auth=Bearer(Secret("sk-secret-key")),
            headers={"x-team": "blue", "authorization": "never"},
        )
        try:
            yield Scene(upstream, transport, card)
        finally:
            await transport.aclose()


async def collected(reply: Reply[v1.ChatResponse]) -> list[v1.StreamChatResponse]:
    return [event async for batch in reply for event in batch]


# --------------------------------------------------------------------------------------------------------- the request


async def test_what_goes_out() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.answer(200, WHOLE, {"x-request-id": "req_7"})

    async with scene(script) as at:
        async with await at.ask(streaming=False, sampling=v1.SamplingOptions(top_k=3)) as reply:
            response = await reply.response()
        (request,) = at.upstream.requests
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.headers["authorization"] == "Bearer sk-secret-key"
    assert (request.headers["x-team"], request.headers["traceparent"]) == ("blue", "00-1-2-01")
    assert request.json["model"] == "m"
    assert response.route.provider == "lab"
    assert (response.route.model, response.route.provider_request_id) == ("m-1", "req_7")


async def test_nothing_that_carries_the_key_shows_it() -> None:
    key, asked = Secret("sk-secret-key"), Outgoing("POST", "http://h", {}, b"")
    for auth in (Bearer(key), Header("x-api-key", key)):
        headers = await auth.headers(asked)
        assert "sk-secret-key" in "".join(headers.values())
        shown = repr(auth) + repr(Provider(name="lab", base_url="http://h", auth=auth))
        assert "sk-secret-key" not in shown + repr(Outgoing("POST", "http://h", headers, b""))
    assert await Bearer(Secret("")).headers(asked) == {}
    assert await Open().headers(asked) == {}


async def test_warnings_of_the_encoding_reach_both_kinds_of_answer() -> None:
    async def script(exchange: Exchange) -> None:
        if exchange.request.json.get("stream"):
            await exchange.stream(said("hello"), frame({}, "stop"), DONE)
        else:
            await exchange.answer(200, WHOLE)

    asked: dict[str, Any] = {"output": v1.OutputOptions(verbosity="low")}
    async with scene(script) as at:
        async with await at.ask(streaming=False, **asked) as reply:
            unary = await reply.response()
        async with await at.ask(**asked) as reply:
            streamed = fold(await collected(reply))
    assert [w.field for w in unary.warnings] == ["output.verbosity"]
    assert [w.field for w in streamed.warnings] == ["output.verbosity"]
    assert streamed.route.provider == "lab"


@pytest.mark.parametrize("wanted", [True, False])
async def test_raw_body_if_asked_for(wanted: bool) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.answer(200, WHOLE)

    async with scene(script) as at, await at.ask(streaming=False, include_provider_response=wanted) as reply:
        response = await reply.response()
    assert response.provider_response_json == (json.dumps(WHOLE) if wanted else "")


# --------------------------------------------------------------------------------------------------- the commit point


async def test_the_call_returns_with_the_first_content_and_not_before() -> None:
    go_on = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.head(200, EVENT_STREAM)
        await exchange.chunk(frame({"role": "assistant", "content": ""}))
        await go_on.wait()
        await exchange.chunk(said("hi") + frame({}, "stop") + DONE)
        await exchange.end()

    async with scene(script) as at:
        asking = asyncio.create_task(at.ask())
        assert await at.upstream.requested()
        done, _ = await asyncio.wait([asking], timeout=0.05)
        assert not done
        go_on.set()
        async with await asking as reply:
            events = await collected(reply)
        assert events[0].started.provider == "lab"
        assert fold(events).message.parts[0].text == "hi"
        assert at.transport.open == 0


async def half_an_error(exchange: Exchange) -> None:
    await exchange.head(200, EVENT_STREAM)
    await exchange.chunk(frame({"role": "assistant", "content": ""}))
    await exchange.chunk(b'data: {"error": {"message": "busy", "type": "server_error", "code": null}}\n\n')
    await exchange.stall(5)


async def nonsense(exchange: Exchange) -> None:
    await exchange.head(200, EVENT_STREAM)
    await exchange.chunk(b"data: {nonsense\n\n")
    await exchange.stall(5)


async def html(exchange: Exchange) -> None:
    await exchange.answer(200, "<html><body>Welcome to nginx</body></html>", {"content-type": "text/html"})


async def nothing(exchange: Exchange) -> None:
    await exchange.stream()


async def cut(exchange: Exchange) -> None:
    await exchange.head(200, EVENT_STREAM)
    await exchange.hang_up()


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (half_an_error, Unavailable),
        (nonsense, ProtocolError),
        (html, GatewayError),
        (nothing, StreamInterrupted),
        (cut, StreamInterrupted),
    ],
)
async def test_what_fails_before_content_is_raised_by_the_call_and_closes(
    script: Script, kind: type[Exception]
) -> None:
    async with scene(script) as at:
        with pytest.raises(kind) as caught:
            await at.ask()
        assert isinstance(caught.value, GatewayError)
        assert at.transport.open == 0
        assert caught.value.retryable


async def test_errors_inside_a_stream_say_who_said_them() -> None:
    async with scene(half_an_error) as at:
        with pytest.raises(GatewayError) as caught:
            await at.ask()
        assert await at.hung_up()
    assert caught.value.facts["provider"] == "lab"
    assert caught.value.provider_error is not None
    assert (caught.value.provider_error.provider, caught.value.provider_error.model) == ("lab", "m")


@pytest.mark.parametrize("how", ["error", "nonsense", "cut", "early_end"])
async def test_what_fails_after_content_is_raised_while_reading_and_closes(how: str) -> None:
    go_on = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.head(200, {**EVENT_STREAM, "x-request-id": "req_9"})
        await exchange.chunk(said("par"))
        await go_on.wait()
        match how:
            case "error":
                await exchange.chunk(b'data: {"error": {"message": "busy", "type": "server_error"}}\n\n')
                await exchange.stall(5)
            case "nonsense":
                await exchange.chunk(b"data: {nonsense\n\n")
                await exchange.stall(5)
            case "cut":
                await exchange.hang_up()
            case "early_end":
                await exchange.end()

    async with scene(script) as at:
        reply = await at.ask()
        texts: list[str] = []
        with pytest.raises(GatewayError) as caught:
            async with reply:
                async for batch in reply:
                    texts += [event.part_delta.text for event in batch]
                    go_on.set()
        assert "".join(texts) == "par"
        assert reply.outcome.error is caught.value
        assert at.transport.open == 0
        assert caught.value.facts["provider"] == "lab"
        if how != "early_end":
            assert caught.value.provider_error is not None
            assert caught.value.provider_error.request_id == "req_9"


# ------------------------------------------------------------------------------------------------------- bad statuses


def failing(status: int, body: bytes | str | dict[str, Any], **headers: str) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.answer(status, body, {name.replace("_", "-"): value for name, value in headers.items()})

    return script


@pytest.mark.parametrize("streaming", [True, False])
async def test_an_html_error_page_is_mapped_by_its_status(streaming: bool) -> None:
    page = "<html><body><h1>502 Bad Gateway</h1></body></html>"
    async with scene(failing(502, page, x_request_id="req_1", content_type="text/html")) as at:
        with pytest.raises(Unavailable) as caught:
            await at.ask(streaming=streaming)
        assert at.transport.open == 0
    said = caught.value.provider_error
    assert said is not None
    assert (said.provider, said.model, said.http_status, said.request_id) == ("lab", "m", 502, "req_1")
    assert "sk-secret-key" not in repr(vars(caught.value))


async def test_an_error_body_beyond_the_limit_is_cut_and_mapped_by_its_status() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.head(429, {"retry-after": "7"})
        for _ in range(64):  # 4 MiB
            await exchange.chunk(b"x" * 65536)
        await exchange.stall(5)

    async with scene(script) as at:
        start = asyncio.get_running_loop().time()
        with pytest.raises(RateLimited) as caught:
            await at.ask()
        assert asyncio.get_running_loop().time() - start < SOON
        assert await at.hung_up()
    assert caught.value.retry_after == 7


async def test_an_error_whose_body_breaks_off_is_mapped_by_its_status() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.head(503, {"content-type": "application/json"}, length=1000)
        await exchange.raw(b'{"error": {"mess')
        await exchange.hang_up()

    async with scene(script) as at:
        with pytest.raises(Unavailable) as caught:
            await at.ask(streaming=False)
        assert not isinstance(caught.value, StreamInterrupted)
        assert at.transport.open == 0


async def test_an_error_whose_body_never_ends_is_mapped_by_its_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parley_server.providers.endpoint._ERROR_BODY_WAIT", 0.05)

    async def script(exchange: Exchange) -> None:
        await exchange.head(400, {"content-type": "application/json"})
        await exchange.chunk(b'{"error": {"message": "wrong"')
        await exchange.stall(5)

    async with scene(script) as at:
        with pytest.raises(InvalidRequest):
            await at.ask()
        assert await at.hung_up()


async def test_the_words_of_the_provider_survive() -> None:
    error = {"error": {"message": "The engine is overloaded", "type": "server_error", "code": "overloaded"}}
    async with scene(failing(503, error)) as at:
        with pytest.raises(Unavailable) as caught:
            await at.ask()
    assert caught.value.provider_error is not None
    assert "overloaded" in caught.value.provider_error.message


async def test_nobody_listens() -> None:
    with refusing() as url:
        async with scene(html) as at:
            card = Provider(name="gone", base_url=url, chat=at.card.chat)
            wire = Wire(card, Target("gone", "m"), at.transport, connect_timeout=5)
            with pytest.raises(Unavailable) as caught:
                await ChatEndpoint(wire, card.choose_chat)(chat(), context())
            assert caught.value.facts == {"provider": "gone", "model": "m"}
            assert at.transport.open == 0


# --------------------------------------------------------------------------------------- the end, and the connection


def ending(pause: float | None) -> Script:
    """A stream whose body ends so many seconds after [DONE]; None: never."""

    async def script(exchange: Exchange) -> None:
        await exchange.head(200, EVENT_STREAM)
        await exchange.chunk(said("hi") + frame({}, "stop") + DONE)
        if pause is None:
            await exchange.stall(5)
        else:
            await asyncio.sleep(pause)
            await exchange.end()

    return script


@pytest.mark.parametrize("pause", [0.0, 0.05])
async def test_the_connection_is_used_again_when_the_body_ends_shortly_behind_the_answer(pause: float) -> None:
    async with scene(ending(pause)) as at:
        for _ in range(3):
            async with await at.ask() as reply:
                assert (await collected(reply))[-1].HasField("completed")
        assert len(at.upstream.connections) == 1
        assert at.transport.open == 0


async def test_the_connection_is_closed_when_the_body_never_ends() -> None:
    async with scene(ending(None)) as at:
        start = asyncio.get_running_loop().time()
        async with await at.ask() as reply:
            assert (await collected(reply))[-1].HasField("completed")
        assert asyncio.get_running_loop().time() - start < 1
        assert await at.hung_up()


async def test_the_end_is_handed_on_before_the_end_of_the_body() -> None:
    async with scene(ending(None)) as at, await at.ask() as reply:
        start = asyncio.get_running_loop().time()
        async for batch in reply:
            if batch[-1].HasField("completed"):
                break
        assert asyncio.get_running_loop().time() - start < 0.1


# -------------------------------------------------------------------------------------------------------- cancellation


def stalling(when: str) -> Script:
    async def script(exchange: Exchange) -> None:
        if when == "before_the_head":
            await exchange.stall()
        elif when == "in_an_error_body":
            await exchange.head(500, {"content-type": "application/json"})
            await exchange.chunk(b"{")
            await exchange.stall()
        elif when == "in_a_whole_body":
            await exchange.head(200, {"content-type": "application/json"})
            await exchange.chunk(b'{"id": ')
            await exchange.stall()
        await exchange.head(200, EVENT_STREAM)
        if when == "before_content":
            await exchange.chunk(frame({"role": "assistant", "content": ""}))
            await exchange.stall()
        await exchange.chunk(said("hi"))
        if when == "between_events":
            await exchange.stall()
        await exchange.chunk(frame({}, "stop") + DONE)
        await exchange.stall()

    return script


@pytest.mark.parametrize(
    "when",
    ["before_the_head", "in_an_error_body", "in_a_whole_body", "before_content", "between_events", "behind_the_end"],
)
async def test_cancelling_the_caller_closes_the_upstream(when: str) -> None:
    async with scene(stalling(when)) as at:

        async def call() -> None:
            async with await at.ask(streaming=when != "in_a_whole_body") as reply:
                await collected(reply)

        calling = asyncio.create_task(call())
        assert await at.upstream.requested()
        await asyncio.sleep(0.05)  # until it waits where it should
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        assert await at.hung_up()


async def test_a_reply_that_nobody_reads_closes_the_upstream() -> None:
    async with scene(stalling("between_events")) as at:
        reply = await at.ask()
        assert at.transport.open == 1
        await reply.aclose()
        assert reply.outcome.cancelled
        assert await at.hung_up()


async def test_cancelling_as_soon_as_possible_leaves_nothing_open() -> None:
    async with scene(stalling("between_events")) as at:
        for steps in range(30):  # one step of the loop later each time
            calling = asyncio.create_task(at.ask())
            for _ in range(steps):
                await asyncio.sleep(0)
            if calling.cancel():
                with pytest.raises(asyncio.CancelledError):
                    await calling
            else:  # the answer had begun already
                await calling.result().aclose()
        assert await at.hung_up()


# ----------------------------------------------------------------------------------------------------------- embeddings


def numbers(exchange: Exchange) -> list[float]:
    return [float(text) for text in exchange.request.json["input"]]


async def echo_numbers(exchange: Exchange) -> None:
    await exchange.answer(200, vectors(*numbers(exchange)), {"x-request-id": "req_e"})


async def test_one_call_is_enough_within_the_limit() -> None:
    async with scene(echo_numbers) as at:
        response = await at.embed("1", "2", "3", limit=3)
        assert len(at.upstream.requests) == 1
    assert [embedding.floats.values[0] for embedding in response.embeddings] == [1, 2, 3]
    assert (response.route.provider, response.route.model) == ("lab", "e-1")
    assert response.route.provider_request_id == "req_e"


async def test_many_inputs_go_out_in_pieces_and_come_back_in_order() -> None:
    running = most = 0

    async def script(exchange: Exchange) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        given = numbers(exchange)
        await asyncio.sleep(0.02 * (3 - given[0] % 4))  # later pieces overtake earlier ones
        running -= 1
        await exchange.answer(200, vectors(*given))

    async with scene(script) as at:
        response = await at.embed(*map(str, range(23)), limit=2)
        assert sorted(len(request.json["input"]) for request in at.upstream.requests) == [1] + [2] * 11
        assert at.transport.open == 0
    assert [embedding.floats.values[0] for embedding in response.embeddings] == list(range(23))
    assert [embedding.index for embedding in response.embeddings] == list(range(23))
    assert response.usage.input_tokens == response.usage.total_tokens == 23
    assert most == 4


async def test_a_model_known_to_take_fewer_inputs_gets_fewer() -> None:
    card = v1.Model(limits=v1.ModelLimits(max_embed_inputs=2))
    async with scene(echo_numbers) as at:
        await at.embed("1", "2", "3", limit=10, card=card)
        assert sorted(len(request.json["input"]) for request in at.upstream.requests) == [1, 2]
        await at.embed("1", "2", "3", limit=1, card=card)
        assert len(at.upstream.requests) == 2 + 3


async def test_a_count_that_not_every_piece_has_is_left_out() -> None:
    async def script(exchange: Exchange) -> None:
        answer = vectors(*numbers(exchange))
        if numbers(exchange)[0] >= 2:
            del answer["usage"]
        await exchange.answer(200, answer)

    async with scene(script) as at:
        response = await at.embed("0", "1", "2", "3", limit=2)
    assert not response.usage.HasField("input_tokens")


async def test_one_piece_that_fails_fails_the_call_and_cancels_the_others() -> None:
    async def script(exchange: Exchange) -> None:
        if numbers(exchange)[0] == 1:
            assert await at.upstream.requested(4)
            await exchange.answer(529, {"error": {"message": "overloaded", "type": "overloaded_error"}})
        else:
            await exchange.stall()

    async with scene(script) as at:
        with pytest.raises(Unavailable) as caught:
            await at.embed(*map(str, range(8)), limit=1)
        assert caught.value.facts["provider"] == "lab"
        assert at.transport.open == 0
        assert await at.upstream.until(lambda: at.upstream.open_connections <= 1)  # the one that answered may be kept
        assert len(at.upstream.requests) == 4


async def test_too_few_vectors_are_an_error_not_a_shift() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.answer(200, vectors(*numbers(exchange)[:1]))

    async with scene(script) as at:
        with pytest.raises(ProtocolError):
            await at.embed("1", "2", limit=2)
        with pytest.raises(ProtocolError):
            await at.embed("1", "2", "3", limit=2)


async def test_cancelling_an_embedding_in_pieces_closes_all_upstreams() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.stall()

    async with scene(script) as at:
        calling = asyncio.create_task(at.embed(*map(str, range(8)), limit=1))
        assert await at.upstream.requested(4)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        assert await at.hung_up()
        assert len(at.upstream.requests) == 4


async def test_an_error_once_and_then_an_answer_on_the_same_connection() -> None:
    async with scene(in_turn(failing(500, {"error": {"message": "oops"}}), echo_numbers)) as at:
        with pytest.raises(Unavailable):
            await at.embed("1")
        assert len((await at.embed("1")).embeddings) == 1
        assert len(at.upstream.connections) == 1


# ----------------------------------------------------------------------------------------------------------- reranking


@pytest.mark.parametrize(("top_n", "kept"), [(None, [2, 0, 1]), (2, [2, 0]), (9, [2, 0, 1])])
async def test_no_more_results_than_asked_for(top_n: int | None, kept: list[int]) -> None:
    rows = [{"index": 0, "score": 0.5}, {"index": 1, "score": 0.1}, {"index": 2, "score": 0.9}]

    async def script(exchange: Exchange) -> None:
        await exchange.answer(200, json.dumps(rows))

    async with scene(script) as here:
        request = v1.RerankRequest(model="lab/m", query="q", documents=["a", "b", "c"], top_n=top_n)
        endpoint = RerankEndpoint(here.wire(), TEIRerank())
        async with await endpoint(request, context("rerank", streaming=False)) as reply:
            assert [result.index for result in (await reply.response()).results] == kept


async def test_a_document_that_was_not_sent_cannot_be_ranked() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.answer(200, json.dumps([{"index": 3, "score": 0.5}]))

    async with scene(script) as here:
        request = v1.RerankRequest(model="lab/m", query="q", documents=["a", "b", "c"])
        with pytest.raises(ProtocolError):
            await RerankEndpoint(here.wire(), TEIRerank())(request, context("rerank", streaming=False))
        assert here.transport.open == 0
