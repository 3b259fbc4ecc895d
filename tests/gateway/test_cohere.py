"""The gateway in front of Cohere: everything it does, as a caller sees it."""

from __future__ import annotations

from pathlib import Path

from parley import v1
from parley.fold import fold
from tests.dialects.cohere_wire import answer, citation, events_of, text, wire
from tests.gateway.process import ask, config, gateway, stream
from tests.upstream import Exchange, scripted

MODELS = [
    {"name": "command-x", "endpoints": ["chat"], "context_length": 1000, "features": ["tools"]},
    {"name": "sorter", "endpoints": ["classify"]},
]
SOURCE = {"type": "document", "id": "doc:0", "document": {"id": "doc:0", "title": "Sky", "text": "The sky is green."}}
GREEN = answer(text("It is green."), citations=[citation(6, 11, SOURCE)])


async def cohere(exchange: Exchange) -> None:
    match exchange.request.path.partition("?")[0]:
        case "/v1/models":
            await exchange.answer(200, {"models": MODELS})
        case "/v2/chat" if exchange.request.json["stream"]:
            await exchange.stream(wire(*events_of(GREEN)))
        case "/v2/chat":
            await exchange.answer(200, GREEN)
        case "/v2/embed":
            rows = [[float(len(one))] for one in exchange.request.json["texts"]]
            meta = {"billed_units": {"input_tokens": len(rows)}}
            await exchange.answer(200, {"id": "e", "embeddings": {"float": rows}, "meta": meta})
        case "/v2/rerank":
            results = [{"index": 1, "relevance_score": 0.5}, {"index": 0, "relevance_score": 0.25}]
            meta = {"billed_units": {"search_units": 1}}
            await exchange.answer(200, {"id": "r", "results": results, "meta": meta})


async def test_everything_it_does(tmp_path: Path) -> None:
    async with scripted(cohere) as upstream:
        providers = {"cohere": {"base_url": upstream.base_url}}
        async with gateway(config(providers=providers), tmp_path, {"CO_API_KEY": "co-key"}) as server:
            sky = v1.MediaSource(data=b"The sky is green.", mime_type="text/plain")
            request = ask("cohere/command-x", "What colour is the sky?")
            request.messages[0].parts.add(document=v1.DocumentPart(source=sky, title="Sky"))
            whole = await server.stub.Chat(request)
            start = stream("cohere/command-x")
            start.request.CopyFrom(request)
            streamed = fold([event async for event in server.stub.StreamChat(start)])
            for response in (whole, streamed):
                assert response.message.parts == [
                    v1.Part(
                        text="It is green.",
                        citations=[v1.Citation(start_index=6, end_index=11, title="Sky", source_index=0)],
                    )
                ]
                assert (response.usage.input_tokens, response.usage.cache_read_input_tokens) == (70, 64)
                assert response.route.provider == "cohere"
            vectors = await server.stub.Embed(
                v1.EmbedRequest(model="cohere/embed-x", inputs=[v1.EmbedInput(text="a" * n) for n in range(1, 99)])
            )
            assert [row.floats.values[0] for row in vectors.embeddings] == list(range(1, 99))
            assert vectors.usage.input_tokens == 98
            ranked = await server.stub.Rerank(v1.RerankRequest(model="cohere/rank", query="q", documents=["a", "b"]))
            assert [result.index for result in ranked.results] == [1, 0]
            assert ranked.usage.server_tool_calls["search"] == 1
            assert (await server.stub.GetModel(v1.GetModelRequest(model="cohere/command-x"))).model.operations == [
                "chat"
            ]
        chats = [request for request in upstream.requests if request.path == "/v2/chat"]
        assert {request.headers["authorization"] for request in upstream.requests} == {"Bearer co-key"}
        assert chats[0].json["documents"] == [{"id": "doc:0", "data": {"text": "The sky is green.", "title": "Sky"}}]
        sizes = sorted(len(request.json["texts"]) for request in upstream.requests if request.path == "/v2/embed")
        assert sizes == [2, 96]
