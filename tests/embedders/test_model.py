"""Vectors from one of the gateway's own models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from parley import v1
from parley_server.core.context import Context
from parley_server.core.errors import Unavailable
from parley_server.core.reply import Reply
from parley_server.embedders.base import CannotEmbed
from parley_server.embedders.model import ModelEmbedder


class Models:
    """A service that embeds, or fails."""

    def __init__(self, *values: float, error: Exception | None = None) -> None:
        self.values = np.array(values, "<f4")
        self.error = error
        self.calls: list[tuple[v1.EmbedRequest, Context]] = []

    async def __call__(self, request: Any, ctx: Context, /) -> Reply[Any]:
        self.calls.append((request, ctx))
        usage = v1.Usage(input_tokens=7, cost=v1.Cost(total_nano_usd=30))
        ctx.ledger.attempts.append(v1.Attempt(usage=usage))
        if self.error is not None:
            raise self.error
        embedding = v1.Embedding(packed=self.values.tobytes(), dimensions=len(self.values))
        return Reply.of(v1.EmbedResponse(embeddings=[embedding], usage=usage))


def caller() -> Context:
    return Context("chat", True, "request", "response", deadline=5.0, caller="me", tenant="us", priority=2, trace="t")


async def test_asks_for_one_vector_and_makes_it_one_long() -> None:
    models = Models(3, 4)
    embedder = ModelEmbedder("openai/text-embedding-3-small", models)
    vector = await embedder.embed("hello", caller())
    assert vector.tolist() == pytest.approx([0.6, 0.8])
    [(request, ctx)] = models.calls
    assert (request.model, request.inputs[0].text) == ("openai/text-embedding-3-small", "hello")
    assert (ctx.operation, ctx.deadline, ctx.tenant, ctx.caller, ctx.priority, ctx.trace) == (
        ("embed", 5.0, "us", "me", 2, "t")
    )


async def test_its_cost_is_counted_and_not_the_callers() -> None:
    ctx = caller()
    embedder = ModelEmbedder("a/m", Models(1, 0))
    await embedder.embed("hello", ctx)
    await embedder.embed("hello", ctx)
    assert (embedder.nano_usd, embedder.tokens) == (60, 14)
    assert not ctx.ledger.attempts


@pytest.mark.parametrize("models", [Models(0, 0), Models(float("nan"), 1), Models(error=Unavailable("down"))])
async def test_without_a_vector_there_is_none(models: Models) -> None:
    with pytest.raises(CannotEmbed):
        await ModelEmbedder("a/m", models).embed("hello", caller())
