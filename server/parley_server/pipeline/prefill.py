"""Let a model that can be put words into its mouth go on from them without being asked to.

Around a target, since only there it is known which model it is; outermost, so that all others see the request as it is
sent. Only for models of the capability `assistant-prefill`: others would refuse a last turn of their own, or begin a
new one, so they are asked in words.
"""

from __future__ import annotations

from typing import Any

from parley import v1
from parley_server.core.context import Context
from parley_server.core.reply import Reply
from parley_server.core.service import Service
from parley_server.core.target import Target

CAPABILITY = "assistant-prefill"


class Prefill:
    """Takes the instruction to go on away, where there is one: the model's own turn comes to be the last."""

    def __call__(self, inner: Service) -> Service:
        async def prefilled(request: Any, ctx: Context) -> Reply[Any]:
            if ctx.continues:
                shorter = v1.ChatRequest()
                shorter.CopyFrom(request)
                del shorter.messages[-1]
                request = shorter
            return await inner(request, ctx)

        return prefilled


def takes_prefill(target: Target) -> bool:
    """Whether that is known of the model."""
    return target.card is not None and CAPABILITY in target.card.capabilities
