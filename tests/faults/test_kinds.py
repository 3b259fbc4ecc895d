"""What must hold of every kind of provider and of every operation: how refusals and broken answers end, over sockets.

No answer has to be whole for that, so nothing needs to be known of the wires.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2 as details
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from parley import v1
from parley_server.core.context import Operation
from parley_server.providers.auth import Bearer, Header, Open
from parley_server.providers.kind import Kind
from parley_server.providers.kinds import BUILT_IN
from tests.faults.faults import CLOCKS, HTML
from tests.gateway.process import Gateway, ask, config, gateway
from tests.tools.providers import example, made_up
from tests.upstream import Exchange, Request, scripted

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

NAMELESS = frozenset({"tei"})
"""Kinds whose servers have one model, so that calls do not name it, and no script can be chosen by it."""
PREFIXES: dict[tuple[str, Operation], str] = {
    ("replicate", "chat"): "acme/",
    ("bedrock", "embed"): "amazon.titan-embed-",
}
"""What names of models have to begin with, where the provider goes by the name."""
FETCHING = frozenset({"databricks", "sagemaker", "vertex", "watsonx"})
"""Kinds that fetch tokens or sign requests, or whose address is made from other settings."""
_AT_ONCE = 48


async def _half(exchange: Exchange) -> None:
    await exchange.head(200, {"content-type": "application/json"}, length=1000)
    await exchange.raw(b'{"id": ')
    await exchange.hang_up()


def _answers(status: int, body: bytes = b"", **headers: str) -> Callable[[Exchange], Awaitable[None]]:
    async def script(exchange: Exchange) -> None:
        await exchange.answer(status, body, {name.replace("_", "-"): value for name, value in headers.items()})

    return script


FAULTS: dict[str, tuple[Callable[[Exchange], Awaitable[None]], StatusCode, str]] = {
    "401": (_answers(401), StatusCode.FAILED_PRECONDITION, "PROVIDER_CREDENTIALS_REJECTED"),
    "429": (_answers(429), StatusCode.RESOURCE_EXHAUSTED, "PROVIDER_RATE_LIMITED"),
    "500": (_answers(500, HTML, content_type="text/html"), StatusCode.UNAVAILABLE, "PROVIDER_UNAVAILABLE"),
    "page": (_answers(200, HTML, content_type="text/html"), StatusCode.INTERNAL, "PROVIDER_PROTOCOL_ERROR"),
    "redirect": (_answers(302, location="http://127.0.0.1:9/"), StatusCode.INTERNAL, "PROVIDER_PROTOCOL_ERROR"),
    "reset": (lambda exchange: exchange.reset(), StatusCode.UNAVAILABLE, "PROVIDER_UNAVAILABLE"),
    "half": (_half, StatusCode.UNAVAILABLE, "STREAM_INTERRUPTED"),
    "silence": (lambda exchange: exchange.stall(), StatusCode.UNAVAILABLE, "PROVIDER_TIMEOUT"),
}


def _reachable(kind: Kind) -> bool:
    """Whether all it asks is at an address of ours: no tokens are fetched elsewhere, and it has no wire of its own."""
    card = example(kind)
    return (
        isinstance(card.auth, Bearer | Header | Open)
        and card.base_url.startswith("http://127.0.0.1")
        and card.transport is None
        and kind.name not in NAMELESS
    )


KINDS = [kind for kind in BUILT_IN if _reachable(kind)]
CELLS: list[tuple[str, Operation, str]] = [
    (kind.name, operation, fault) for kind in KINDS for operation in example(kind).operations() for fault in FAULTS
]


@dataclass
class Outcome:
    """How one call ended, and what the provider was asked."""

    code: StatusCode
    reason: str
    metadata: dict[str, str]
    said: v1.ProviderError
    asked: list[Request]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def outcomes(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[dict[tuple[str, Operation, str], Outcome]]:
    async def script(exchange: Exchange) -> None:
        if found := _fault(exchange.request):
            await FAULTS[found][0](exchange)
        else:
            await exchange.answer(404, b"", {"connection": "close"})
            await exchange.hang_up()

    async with scripted(script) as upstream:
        environ: dict[str, str] = {}
        providers: dict[str, Any] = {}
        for kind in KINDS:
            said, variables = made_up(kind, upstream.base_url)
            providers[kind.name] = said
            environ |= variables
        environ |= {name: upstream.base_url for name in environ if name.endswith(("_URL", "_BASE", "_ENDPOINT"))}
        clocks = {**CLOCKS, "connect": 5.0}  # fifty connections are made at a moment, to this one process
        settings = config(providers=providers, timeouts=clocks, retry={"base": 0.01, "attempts_per_target": 2})
        async with gateway(settings, tmp_path_factory.mktemp("kinds"), environ) as server:
            free = asyncio.Semaphore(_AT_ONCE)

            async def one(kind: str, operation: Operation, fault: str) -> Outcome:
                async with free, asyncio.timeout(20):
                    outcome = await _call(server, kind, operation, fault)
                name = f"{operation}-{fault}".encode()
                outcome.asked = [r for r in upstream.requests if _names(r, name, kind)]
                return outcome

            async with asyncio.TaskGroup() as group:
                tasks = {cell: group.create_task(one(*cell)) for cell in CELLS}
            yield {cell: task.result() for cell, task in tasks.items()}
            assert not [line for line in server.log if line.get("level") == "error"], server.log[-5:]


def _model(kind: str, operation: Operation, fault: str) -> str:
    return f"{PREFIXES.get((kind, operation), '')}zz-{operation}-{fault}-of-{kind}-zz"


def _fault(request: Request) -> str:
    found = re.search(rb"zz-[a-z]+-([a-z0-9]+)-of-[a-z0-9.-]+-zz", request.path.encode() + b" " + request.body)
    return found[1].decode() if found else ""


def _names(request: Request, name: bytes, kind: str) -> bool:
    return b"zz-" + name + b"-of-" + kind.encode() + b"-zz" in request.path.encode() + b" " + request.body


async def _call(server: Gateway, kind: str, operation: Operation, fault: str) -> Outcome:
    model = f"{kind}/{_model(kind, operation, fault)}"
    routing = v1.RoutingOptions()
    routing.attempt_timeout.FromTimedelta(timedelta(seconds=0.5))
    try:
        match operation:
            case "chat":
                await server.stub.Chat(ask(model, routing=routing))
            case "embed":
                inputs = [v1.EmbedInput(text="hello")]
                await server.stub.Embed(v1.EmbedRequest(model=model, inputs=inputs, routing=routing))
            case "rerank":
                await server.stub.Rerank(
                    v1.RerankRequest(model=model, query="q", documents=["a", "b"], routing=routing)
                )
    except grpc.aio.AioRpcError as error:
        trailers = dict(error.trailing_metadata() or ())
        info, said = details.ErrorInfo(), v1.ProviderError()
        for detail in Status.FromString(trailers.get("grpc-status-details-bin", b"")).details:
            detail.Unpack(info) or detail.Unpack(said)
        return Outcome(error.code(), info.reason, dict(info.metadata), said, [])
    return Outcome(StatusCode.OK, "", {}, v1.ProviderError(), [])


@pytest.mark.parametrize(("kind", "operation", "fault"), CELLS)
async def test_kind(outcomes: dict[Any, Outcome], kind: str, operation: Operation, fault: str) -> None:
    outcome = outcomes[kind, operation, fault]
    assert (outcome.code, outcome.reason) == FAULTS[fault][1:]
    assert outcome.metadata["provider"] == kind
    assert outcome.said.provider == kind
    assert "<" not in outcome.said.message
    assert outcome.asked
    for request in outcome.asked:
        assert request.headers.get("content-type", "application/json") == "application/json"
        assert "cookie" not in request.headers


async def test_hardly_any_kind_is_left_out() -> None:
    left_out = {kind.name for kind in BUILT_IN} - {kind.name for kind in KINDS}
    assert left_out <= FETCHING | NAMELESS | {"mock"}
