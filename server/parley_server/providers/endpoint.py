"""The one driver: joins a dialect (what to say) to a transport (how to send it) for one target.

The innermost service of every stack. It returns once the upstream has produced content, owns the connection until the
reply is closed, and adds to the answer what only the exchange knows: provider, request ID, warnings of the encoding.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, aclosing, suppress
from typing import Any, Protocol, TypeVar

from parley import v1
from parley_server.core.context import Context
from parley_server.core.errors import GatewayError, ProtocolError
from parley_server.core.reply import Batches, Final, Reply
from parley_server.core.target import Target
from parley_server.dialects.base import ChatDialect, EmbedDialect, HttpCall, RerankDialect
from parley_server.providers.auth import Auth
from parley_server.providers.base import Provider
from parley_server.transports.base import Incoming, Outgoing, Transport

_BODY_LIMIT = 256 * 1024 * 1024  # a whole answer; a mere bound against a runaway upstream
_ERROR_BODY_LIMIT = 1024 * 1024
_ERROR_BODY_WAIT = 5.0  # seconds
_PARALLEL_EMBED_CALLS = 4
_LINGER = 0.25  # seconds to wait for the end of the body behind the end of the answer, to keep the connection
_LONGEST_ID = 128  # characters: a status has to stay small
_REQUEST_ID_HEADERS = ("x-request-id", "request-id", "apim-request-id", "x-amzn-requestid", "cf-ray")

Result = TypeVar("Result")


class _SaysErrors(Protocol):
    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError: ...


class Wire:
    """Sends the calls of one target and turns bad statuses into errors.

    `transport`: what sends them where the provider has no wire of its own.
    """

    def __init__(
        self, provider: Provider, target: Target, transport: Transport | None = None, *, connect_timeout: float
    ) -> None:
        self.target = target
        self.provider = provider
        wire = provider.transport or transport
        if wire is None:
            raise TypeError(f"{provider.name} has no wire, and none is given")
        self._transport = wire
        self._connect_timeout = connect_timeout

    async def send(self, call: HttpCall, dialect: _SaysErrors, ctx: Context | None = None) -> Incoming:
        """The response, if its status is below 300; see `open`. For bodies that say nothing of the key."""
        exchange = await self.open(call, dialect, ctx)
        exchange.auth.accepted()
        return exchange.incoming

    async def ask(
        self, call: HttpCall, dialect: _SaysErrors, ctx: Context, read: Callable[[Exchange], Awaitable[Result]]
    ) -> Result:
        """What `read` makes of the response, which it closes; see `open`.

        An error within the response says of the key what a status would have said: where another key may do, the call
        is made again at once. What `read` has let through, the beginning of a stream, say, is never asked for again.
        """
        auth = self.provider.auth.for_request(self.target.model, ctx)
        while True:
            exchange = await self.open(call, dialect, ctx, auth)
            try:
                result = await read(exchange)
            except GatewayError as error:
                if not exchange.failed(error):
                    raise error from None
            else:
                auth.accepted()
                return result

    async def open(
        self, call: HttpCall, dialect: _SaysErrors, ctx: Context | None = None, auth: Auth | None = None
    ) -> Exchange:
        """The response, if its status is below 300; raises what the dialect makes of one of 400 or more.

        A redirect is not followed: it would take the credential to where nobody has sent it.

        Where the provider has several keys and refuses one, the next is shown at once, each at most once. Whether it
        takes the key is for the reader of the response to say: an error may stand in its body.

        `ctx`: the call it is for, which learns the headers of the response; None for what the gateway asks by itself.
        `auth`: that of a request that has been made before; see `Auth.for_request`.
        """
        provider = self.provider
        headers = {**provider.headers, **call.headers, **(ctx.outgoing if ctx is not None else {})}
        url = provider.url(call.path, self.target)
        auth = auth or provider.auth.for_request(self.target.model, ctx)
        may_renew = True
        while True:
            incoming = await self._exchange(Outgoing(call.method, url, headers, call.body), auth)
            if ctx is not None:
                ctx.answer_headers = incoming.headers
            if incoming.status < 300:
                return Exchange(self, incoming, auth)
            if incoming.status < 400:
                await incoming.aclose()
                raise self.named(_redirected(incoming.status), incoming)
            async with aclosing(incoming):
                if may_renew and incoming.status in (401, 403) and auth.rejected(incoming.status):
                    may_renew = False
                    continue
                body = await _beginning(incoming)
            error = self.named(dialect.error(incoming.status, incoming.headers, body, self.target), incoming)
            if not auth.refused(error):
                raise error
            may_renew = True  # of another key

    async def _exchange(self, request: Outgoing, auth: Auth) -> Incoming:
        try:
            signed = {**request.headers, **await auth.headers(request)}
            request = Outgoing(request.method, request.url, signed, request.body)
            return await self._transport.send(request, connect_timeout=self._connect_timeout)
        except GatewayError as error:
            raise self.named(error) from None

    def named(self, error: GatewayError, incoming: Incoming | None = None) -> GatewayError:
        """`error` with who said it filled in."""
        said = error.provider_error = error.provider_error or v1.ProviderError()
        said.provider = self.target.provider
        said.model = self.target.model
        if incoming is not None:
            said.request_id = said.request_id or request_id(incoming.headers)
        error.facts.setdefault("provider", self.target.provider)
        error.facts.setdefault("model", self.target.model)
        return error


class Exchange:
    """A response whose body is still to be read, and the credential that its request was shown with."""

    __slots__ = ("_again", "_failure", "_wire", "auth", "incoming")

    def __init__(self, wire: Wire, incoming: Incoming, auth: Auth) -> None:
        self.incoming = incoming
        self.auth = auth
        self._wire = wire
        self._failure: GatewayError | None = None
        self._again = False

    def failed(self, error: GatewayError) -> bool:
        """The body holds or brings `error`, which is told who said it; may be called twice with the same one.

        Whether another key may do.
        """
        if error is not self._failure:
            self._failure = self._wire.named(error, self.incoming)
            self._again = self.auth.refused(error)
        return self._again


class ChatEndpoint:
    """Chat and StreamChat for one target."""

    def __init__(self, wire: Wire, choose: Callable[[v1.ChatRequest, Target], ChatDialect]) -> None:
        self._wire = wire
        self._choose = choose

    async def __call__(self, request: v1.ChatRequest, ctx: Context, /) -> Reply[v1.ChatResponse]:
        target = self._wire.target
        dialect = self._choose(request, target)
        call = dialect.encode(request, target, stream=ctx.streaming)
        streams = ctx.streaming if call.streams is None else call.streams

        async def read(exchange: Exchange) -> Reply[v1.ChatResponse]:
            incoming = exchange.incoming
            reply: Reply[v1.ChatResponse]
            if streams:
                owner = AsyncExitStack()
                owner.push_async_callback(incoming.aclose)
                reply = await Reply.primed(self._events(dialect, exchange), owner)
            else:
                reply = Reply.of(await self._whole(dialect, request, incoming))
            reply.on_final(lambda final: _sign(final, target, call, incoming))
            return reply

        return await self._wire.ask(call, dialect, ctx, read)

    async def _whole(self, dialect: ChatDialect, request: v1.ChatRequest, incoming: Incoming) -> v1.ChatResponse:
        body = await _read(incoming)
        response = dialect.decode(body, self._wire.target)
        if request.include_provider_response:
            response.provider_response_json = body.decode("utf-8", "replace")
        return response

    async def _events(self, dialect: ChatDialect, exchange: Exchange) -> Batches:
        incoming, framing, decoder = exchange.incoming, dialect.framing(), dialect.decoder(self._wire.target)
        blocks = aiter(incoming)
        named = False
        try:
            async for block in blocks:
                frames = framing.feed(block)
                batch = decoder.feed(frames) if frames else []
                if not batch:
                    continue
                if not named and batch[0].HasField("started"):
                    batch[0].started.provider = self._wire.target.provider
                    named = True
                yield batch
                if batch[-1].HasField("completed"):
                    if not incoming.arrived:
                        await _linger(blocks)
                    return
            batch = decoder.feed(framing.finish()) + decoder.finish()
        except GatewayError as error:
            exchange.failed(error)
            raise error from None
        if batch:
            yield batch


class EmbedEndpoint:
    """Embed for one target; inputs beyond the provider's limit go out as several calls, a few at a time."""

    def __init__(self, wire: Wire, dialect: EmbedDialect) -> None:
        self._wire = wire
        self._dialect = dialect

    async def __call__(self, request: v1.EmbedRequest, ctx: Context, /) -> Reply[v1.EmbedResponse]:
        limit = self._most_inputs()
        if limit is None or len(request.inputs) <= limit:
            return Reply.of(await self._embed(request, ctx))
        starts = iter(range(0, len(request.inputs), limit))
        answers: dict[int, v1.EmbedResponse] = {}

        async def ask() -> None:
            for start in starts:  # shared: whoever is free takes the next piece, and who fails takes none
                piece = v1.EmbedRequest()
                piece.CopyFrom(request)
                del piece.inputs[:]
                piece.inputs.extend(request.inputs[start : start + limit])
                answers[start] = await self._embed(piece, ctx)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(_PARALLEL_EMBED_CALLS):
                    group.create_task(ask())
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None  # the others were cancelled, or failed of the same cause
        return Reply.of(_joined([answers[start] for start in sorted(answers)]))

    def requests(self, request: v1.EmbedRequest) -> int:
        """How many calls `request` takes."""
        limit = self._most_inputs()
        return 1 if limit is None else max(-(-len(request.inputs) // limit), 1)

    def _most_inputs(self) -> int | None:
        """Inputs that one call takes: what the dialect allows, or less if the model is known to take less."""
        card = self._wire.target.card
        known = card.limits.max_embed_inputs if card is not None else 0
        return min(filter(None, (self._dialect.batch_limit(self._wire.target), known)), default=None)

    async def _embed(self, request: v1.EmbedRequest, ctx: Context) -> v1.EmbedResponse:
        target = self._wire.target
        call = self._dialect.encode(request, target)

        async def read(exchange: Exchange) -> v1.EmbedResponse:
            incoming = exchange.incoming
            response = self._dialect.decode(await _read(incoming), target, request.encoding)
            if len(response.embeddings) != len(request.inputs):
                raise ProtocolError(f"{len(response.embeddings)} vectors came for {len(request.inputs)} inputs")
            counted = incoming.headers.get(self._wire.provider.input_tokens_header, "")
            if counted.isdecimal() and not response.usage.HasField("input_tokens"):
                response.usage.source = v1.Usage.SOURCE_PROVIDER
                response.usage.input_tokens = response.usage.total_tokens = int(counted)
            _sign(response, target, call, incoming)
            return response

        return await self._wire.ask(call, self._dialect, ctx, read)


class RerankEndpoint:
    """Rerank for one target."""

    def __init__(self, wire: Wire, dialect: RerankDialect) -> None:
        self._wire = wire
        self._dialect = dialect

    async def __call__(self, request: v1.RerankRequest, ctx: Context, /) -> Reply[v1.RerankResponse]:
        target = self._wire.target
        call = self._dialect.encode(request, target)

        async def read(exchange: Exchange) -> Reply[v1.RerankResponse]:
            response = self._dialect.decode(await _read(exchange.incoming), target)
            if any(not 0 <= result.index < len(request.documents) for result in response.results):
                raise ProtocolError("the provider ranked a document that was not sent")
            if request.HasField("top_n"):
                del response.results[request.top_n :]  # some servers rank all there are, whatever is asked for
            _sign(response, target, call, exchange.incoming)
            return Reply.of(response)

        return await self._wire.ask(call, self._dialect, ctx, read)


def _sign(final: Final, target: Target, call: HttpCall, incoming: Incoming) -> None:
    route = final.route
    route.provider = target.provider
    route.region = target.region
    route.model = route.model or target.model
    route.provider_request_id = request_id(incoming.headers)
    if call.warnings:
        final.warnings.extend(call.warnings)


def _joined(parts: list[v1.EmbedResponse]) -> v1.EmbedResponse:
    """One response from those of consecutive pieces: indexes go on, usage adds up, warnings are said once."""
    whole = parts[0]
    for part in parts[1:]:
        offset = len(whole.embeddings)
        for embedding in part.embeddings:
            embedding.index += offset
        whole.embeddings.extend(part.embeddings)
        for count in ("input_tokens", "total_tokens"):
            if whole.usage.HasField(count) and part.usage.HasField(count):
                setattr(whole.usage, count, getattr(whole.usage, count) + getattr(part.usage, count))
            else:
                whole.usage.ClearField(count)
    return whole


def _redirected(status: int) -> ProtocolError:
    error = ProtocolError(
        f"the provider answered with a redirect ({status}), and none is followed: is its base URL right?",
        provider_error=v1.ProviderError(http_status=status),
    )
    error.retryable = False
    return error


async def _read(incoming: Incoming) -> bytes:
    """The whole body; the response is closed, whatever becomes of it."""
    try:
        return await incoming.read(_BODY_LIMIT)
    finally:
        await incoming.aclose()


async def _beginning(incoming: Incoming) -> bytes:
    """What can be had of the body of an error: the status says what happened, whether the body is whole or not."""
    body = bytearray()
    with suppress(GatewayError, TimeoutError):
        async with asyncio.timeout(_ERROR_BODY_WAIT):
            async for block in incoming:
                body += block
                if len(body) >= _ERROR_BODY_LIMIT:
                    break
    return bytes(body[:_ERROR_BODY_LIMIT])


async def _linger(blocks: Any) -> None:
    """Wait for the end of the body, which usually is right behind: then the connection can be used again."""
    with suppress(GatewayError, TimeoutError):
        async with asyncio.timeout(_LINGER):
            async for _ in blocks:
                pass


def request_id(headers: Mapping[str, str]) -> str:
    """The provider's ID of the exchange; empty if it gives none."""
    for name in _REQUEST_ID_HEADERS:
        if name in headers:
            return headers[name][:_LONGEST_ID]
    return ""
