"""A server of Text Embeddings Inference as a provider."""

from __future__ import annotations

import json

from parley import v1
from parley_server.core.target import Target
from parley_server.providers import tei
from parley_server.providers.endpoint import EmbedEndpoint, Wire
from parley_server.transports.http import HttpTransport
from tests.fakes import context
from tests.providers.cards import made
from tests.upstream import Exchange, scripted

TARGET = Target("tei", "bge")


async def test_batches_go_out_as_large_as_the_server_takes_them() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.answer(200, json.dumps([[float(text)] for text in exchange.request.json["inputs"]]))

    async with scripted(script) as upstream:
        transport = HttpTransport()
        card = made(tei.KIND, "tei", base_url=upstream.base_url, batch_size=2)
        assert card.embed is not None
        request = v1.EmbedRequest(model="tei/bge", inputs=[v1.EmbedInput(text=str(n)) for n in range(5)])
        endpoint = EmbedEndpoint(Wire(card, TARGET, transport, connect_timeout=5), card.embed)
        async with await endpoint(request, context("embed", streaming=False)) as reply:
            vectors = [list(one.floats.values) for one in (await reply.response()).embeddings]
        await transport.aclose()
        assert vectors == [[0], [1], [2], [3], [4]]
        assert sorted(len(call.json["inputs"]) for call in upstream.requests) == [1, 2, 2]
        assert {call.headers["authorization"] for call in upstream.requests} == {"Bearer k"}


def test_it_embeds_and_reranks_and_does_not_chat() -> None:
    card = made(tei.KIND, "tei", base_url="http://localhost:8080", models=["bge"])
    assert (card.operations(), card.known_models) == (["embed", "rerank"], ("bge",))
