"""The client: one channel to the gateway, and a method for each thing it can do."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import grpc
from google.protobuf.message import Message

from parley import health, v1
from parley._async import tools as tool_loop
from parley._async import wire
from parley._async.stream import AsyncStream
from parley.channel import SERVICE, Headers, Options, call_headers, dial
from parley.channel import service_config as default_config
from parley.errors import Cancelled, ProtocolError
from parley.health import Health
from parley.progress import Progress
from parley.reply import Embeddings, Ranking, Reply, ToolCall, ToolRun
from parley.request import (
    CallArguments,
    ChatArguments,
    EmbedArguments,
    EmbedInputs,
    Prompt,
    RerankArguments,
    StreamArguments,
    TurnArguments,
    chat_request,
    deadline,
    embed_request,
    rerank_request,
    stream_request,
)
from parley.status import from_rpc
from parley.tools import AnyTool

Asked = TypeVar("Asked", bound=Message)
Answer = TypeVar("Answer", bound=Message)

_QUICK = 15.0
"""Seconds for calls that no model works on."""


class AsyncClient:
    """A connection to a Parley gateway, opened by the first call. Close it, or use it as a context manager.

    `address`: host:port, or any gRPC target such as "dns:///parley:50051"; if None PARLEY_ADDRESS, else
    127.0.0.1:50051. `token`: sent as a bearer token; if None PARLEY_TOKEN. `tls`: True for TLS with well-known
    authorities, or credentials of your own. `timeout`: seconds for calls that do not say otherwise. `wait_for_ready`:
    wait for a gateway that is not there yet, up to the timeout, instead of failing. `headers`: gRPC metadata of every
    call. `service_config` replaces `parley.service_config()`; `options` are channel arguments besides
    `parley.channel.OPTIONS`, and win over them.

    Every method raises a subclass of `GatewayError` when its call fails.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        token: str | None = None,
        tls: bool | grpc.ChannelCredentials | None = None,
        timeout: float = 600.0,
        wait_for_ready: bool = False,
        headers: Mapping[str, str | bytes] | None = None,
        service_config: Mapping[str, Any] | None = None,
        options: Options = (),
    ) -> None:
        config = default_config(wait_for_ready=wait_for_ready) if service_config is None else service_config
        self._dial = dial(address, token=token, tls=tls, config=config, options=options)
        self._headers = headers or {}
        self._timeout = timeout
        self._opening = threading.Lock()
        self._channel: wire.Channel | None = None
        self._closed = False

    @property
    def address(self) -> str:
        """Where the gateway is."""
        return self._dial.address

    @property
    def channel(self) -> wire.Channel:
        """The gRPC channel, for other services at the same address. Opened here, in the event loop of its first use."""
        with self._opening:
            if self._closed:
                raise RuntimeError("the client is closed")
            if self._channel is None:
                self._channel = wire.connect(self._dial)
            return self._channel

    @property
    def stub(self) -> wire.Stub:
        """The generated stub, for everything this class has no word for. It knows no token and no default timeout."""
        return wire.stub(self.channel)

    async def chat(self, model: str = "", messages: Prompt = (), **arguments: Unpack[ChatArguments]) -> Reply:
        """One turn of a model.

        `messages` is a text, a message, a reply to go on from, or a list of those; `arguments` are those of
        `parley.request.ChatArguments`. Raises TypeError and ValueError for arguments without meaning.
        """
        request = chat_request(model, messages, arguments)
        response = await self._call(self.stub.Chat, request, arguments, self._timeout)
        return Reply(response, arguments.get("response_model"))

    def stream(
        self,
        model: str = "",
        messages: Prompt = (),
        *,
        on_progress: Callable[[Progress], object] | None = None,
        **arguments: Unpack[StreamArguments],
    ) -> AsyncStream:
        """One turn of a model, as it comes. Best used as a context manager: leaving it ends the call.

        `on_progress` is called after every event. The rest is as in `chat`; failures are raised where it is read.
        """
        request = stream_request(model, messages, arguments)
        resume, outlasts = arguments.get("resume", False), arguments.get("resumable", False)
        stream = self._stream(request, arguments, on_progress, resume=resume, outlasts=outlasts)
        stream.response_model = arguments.get("response_model")
        return stream

    def resume(
        self,
        response_id: str,
        after_sequence: int = 0,
        *,
        on_progress: Callable[[Progress], object] | None = None,
        **arguments: Unpack[CallArguments],
    ) -> AsyncStream:
        """What comes after an event of a resumable stream, also one that another client began; 0: all of it.

        Both arguments are what that stream had as `response_id` and `last_sequence`. Goes on by itself when its
        connection breaks; leaving it leaves the answer to whoever began it. `reply()` has only what has been read.
        Raises ResponseNotFound and others where it is read.
        """
        rest = v1.ResumeFrom(response_id=response_id, after_sequence=after_sequence)
        request = v1.StreamChatRequest(resume=rest)
        return self._stream(request, arguments, on_progress, resume=True, outlasts=True)

    def _stream(
        self,
        request: v1.StreamChatRequest,
        arguments: CallArguments,
        on_progress: Callable[[Progress], object] | None,
        *,
        resume: bool,
        outlasts: bool,
    ) -> AsyncStream:
        timeout, metadata = deadline(arguments, self._timeout), self._metadata(arguments)
        call = self.stub.StreamChat(request, timeout=timeout, metadata=metadata)
        again = wire.Again(self.stub, request.options, timeout, metadata, outlasts=outlasts) if resume else None
        return AsyncStream(call, self.address, on_progress, again, request.resume)

    async def run_tools(
        self,
        model: str = "",
        messages: Prompt = (),
        *,
        tools: Iterable[AnyTool | Callable[..., Any]],
        max_turns: int = 10,
        on_call: Callable[[ToolCall], object] | None = None,
        **arguments: Unpack[TurnArguments],
    ) -> ToolRun:
        """Chat, make the calls the model asks for, tell it the results, and so on until it answers.

        What a tool returns is told as text, or as JSON. `ToolError` and arguments that do not fit are told to the
        model; any other exception of a tool is raised. `on_call` is called before each tool, and may raise. Raises
        TurnLimitReached, with the conversation, if the model still calls tools after `max_turns`.
        """
        return await tool_loop.run_tools(self, model, messages, tools, max_turns, on_call, arguments)

    async def embed(self, model: str = "", inputs: EmbedInputs = (), **arguments: Unpack[EmbedArguments]) -> Embeddings:
        """Vectors of texts (or of lists of token IDs), in order; one text gives one vector."""
        request = embed_request(model, inputs, arguments)
        return Embeddings(await self._call(self.stub.Embed, request, arguments, self._timeout))

    async def rerank(
        self, model: str = "", query: str = "", documents: Iterable[str] = (), **arguments: Unpack[RerankArguments]
    ) -> Ranking:
        """The documents by how well they answer `query`, best first; `top_n=3` for the best three."""
        request = rerank_request(model, query, documents, arguments)
        answer = await self._call(self.stub.Rerank, request, arguments, self._timeout)
        if any(not 0 <= result.index < len(request.documents) for result in answer.results):
            raise ProtocolError("the gateway ranked a document that was not sent")
        return Ranking(answer, request.documents)

    async def models(
        self,
        *,
        provider: str = "",
        operation: str = "",
        capabilities: Sequence[str] = (),
        page_size: int = 0,
        **arguments: Unpack[CallArguments],
    ) -> AsyncIterator[v1.Model]:
        """All models that can be asked, ordered by ID; pages are fetched as they are needed.

        `provider`: its models only. `operation`: "chat", "embed" or "rerank". `capabilities`: models with all of them.
        """
        request = v1.ListModelsRequest(
            provider=provider, operation=operation, capabilities=capabilities, page_size=page_size
        )
        while True:
            page = await self._call(self.stub.ListModels, request, arguments, _QUICK)
            for model in page.models:
                yield model
            if not page.next_page_token:
                return
            if page.next_page_token == request.page_token:
                raise ProtocolError("the gateway gives the same page of models again and again")
            request.page_token = page.next_page_token

    async def model(self, model: str, **arguments: Unpack[CallArguments]) -> v1.Model:
        """One model. Raises ModelNotFound."""
        answer = await self._call(self.stub.GetModel, v1.GetModelRequest(model=model), arguments, _QUICK)
        return answer.model

    async def info(self, **arguments: Unpack[CallArguments]) -> v1.GetServerInfoResponse:
        """Version, features, providers and limits of the gateway."""
        return await self._call(self.stub.GetServerInfo, v1.GetServerInfoRequest(), arguments, _QUICK)

    async def health(self, service: str = SERVICE, **arguments: Unpack[CallArguments]) -> Health:
        """What the server says of its health, over a connection of its own: the usual one hides unhealthy servers."""
        async with wire.connect(self._dial.plain()) as connection:
            check = connection.unary_unary(
                health.CHECK,
                request_serializer=health.Request.SerializeToString,
                response_deserializer=health.Response.FromString,
            )
            return Health.of(await self._call(check, health.Request(value=service), arguments, _QUICK))

    async def close(self) -> None:
        """Close the connection; calls that still run are cancelled."""
        with self._opening:
            self._closed = True
            opened, self._channel = self._channel, None
        if opened is not None:
            await opened.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.address}>"

    def _metadata(self, arguments: CallArguments) -> Headers:
        return call_headers(self._dial.headers, {**self._headers, **arguments.get("headers", {})})

    async def _call(
        self, call: wire.Unary[Asked, Answer], request: Asked, arguments: CallArguments, timeout: float
    ) -> Answer:
        try:
            return await call(request, timeout=deadline(arguments, timeout), metadata=self._metadata(arguments))
        except grpc.RpcError as error:
            raise from_rpc(error, self.address) from error
        except wire.Stopped:
            if wire.task_is_cancelled():
                raise
            raise Cancelled("the client was closed during the call") from None
