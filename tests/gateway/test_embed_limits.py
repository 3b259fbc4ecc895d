"""Embeddings that take several requests, against a provider that counts what it is asked."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from parley import v1
from tests.gateway.process import config, gateway
from tests.upstream import Exchange, scripted

LIMIT = 10
BATCH = 4


def inputs(count: int, model: str = "tei/m") -> v1.EmbedRequest:
    return v1.EmbedRequest(model=model, inputs=[v1.EmbedInput(text=f"text {number}") for number in range(count)])


def reason_of(error: grpc.aio.AioRpcError) -> str:
    info = ErrorInfo()
    Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"]).details[0].Unpack(info)
    return info.reason


async def test_each_request_counts(tmp_path: Path) -> None:
    """The provider allows ten requests in a minute and is never asked an eleventh time, however calls are cut up."""
    asked: list[int] = []

    async def counting(exchange: Exchange) -> None:
        asked.append(len(exchange.request.json["inputs"]))
        await exchange.answer(200, f"[{','.join('[1,0]' for _ in exchange.request.json['inputs'])}]")

    async with scripted(counting) as upstream:
        tei: dict[str, Any] = {"kind": "tei", "base_url": upstream.base_url, "batch_size": BATCH}
        providers = {
            "tei": {**tei, "limits": {"requests_per_minute": LIMIT, "max_wait": 0}},
            "free": tei,
        }
        async with gateway(config(providers=providers), tmp_path) as server:
            calls = [server.stub.Embed(inputs(11), timeout=10) for _ in range(6)]  # three requests each
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            answers = [outcome for outcome in outcomes if isinstance(outcome, v1.EmbedResponse)]
            failures = [outcome for outcome in outcomes if isinstance(outcome, grpc.aio.AioRpcError)]
            assert [len(answer.embeddings) for answer in answers] == [11] * 3
            assert sorted(asked) == sorted([4, 4, 3] * 3)
            assert {reason_of(failure) for failure in failures} == {"PROVIDER_RATE_LIMITED"}
            assert len((await server.stub.Embed(inputs(4))).embeddings) == 4, "there is room for one more"
            assert len(asked) == LIMIT

            call = server.stub.Embed(inputs(LIMIT * BATCH + 1))
            assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "takes 11 requests to tei/m" in (await call.details() or "")
            larger = inputs(LIMIT * BATCH + 1)
            larger.routing.fallbacks.add(model="free/m")
            response = await server.stub.Embed(larger)
            assert (response.route.provider, len(response.embeddings)) == ("free", 41)
            assert len(asked) == LIMIT + 11
