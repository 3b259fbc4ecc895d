"""Vectors from an embedding model that the gateway itself serves."""

from __future__ import annotations

import math

import numpy as np

from parley import v1
from parley_server.core.context import Context
from parley_server.core.errors import GatewayError
from parley_server.core.service import Service
from parley_server.embedders.base import CannotEmbed, Vector


class ModelEmbedder:
    """An embedder that asks `model` (provider/model) by way of `service`: what calls pass behind the cache.

    So limits, retries, breakers and traces of the target hold as for any call; each attempt's span belongs to the call
    that the text is embedded for. What it costs is not that call's, and is counted in `nano_usd` and `tokens`.
    """

    threshold = 0.85

    def __init__(self, model: str, service: Service) -> None:
        self.name = model
        self.nano_usd = 0
        self.tokens = 0
        self._service = service

    async def embed(self, text: str, ctx: Context) -> Vector:
        request = v1.EmbedRequest(
            model=self.name,
            inputs=[v1.EmbedInput(text=text)],
            encoding=v1.EMBEDDING_ENCODING_FLOAT32_BYTES,
        )
        own = Context(
            operation="embed",
            streaming=False,
            request_id=ctx.request_id,
            response_id=ctx.response_id,
            clock=ctx.clock,
            received=ctx.clock(),
            received_at=ctx.received_at,
            deadline=ctx.deadline,
            method="Embed",
            peer=ctx.peer,
            caller=ctx.caller,
            tenant=ctx.tenant,
            priority=ctx.priority,
            trace=ctx.trace,
        )
        try:
            async with await self._service(request, own) as reply:
                response: v1.EmbedResponse = await reply.response()
        except GatewayError as error:
            raise CannotEmbed(f"{self.name} gave no vector: {error}") from error
        finally:
            self.nano_usd += own.ledger.cost_nano_usd() or 0
        self.tokens += response.usage.input_tokens
        return _unit(response)

    async def aclose(self) -> None:
        pass


def _unit(response: v1.EmbedResponse) -> Vector:
    if len(response.embeddings) != 1:
        raise CannotEmbed(f"{response.model} gave {len(response.embeddings)} vectors for one text")
    vector = np.frombuffer(response.embeddings[0].packed, "<f4").astype(np.float32)
    length = float(np.linalg.norm(vector))
    if not math.isfinite(length) or length == 0:
        raise CannotEmbed(f"{response.model} gave a vector without a direction")
    return vector / np.float32(length)
