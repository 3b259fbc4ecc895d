"""Tell the standing of a target what every attempt says of it: how long, whether it failed, what quota is left.

Inside bulkhead and breaker: waiting for a place says nothing of how fast the target is, and an attempt that was not let
through is none. Around the meter, which is inside whatever refuses to begin.
"""

from __future__ import annotations

from typing import Any

from parley_server.core.context import Context
from parley_server.core.errors import CredentialsRejected, ProtocolError, QuotaExhausted, RateLimited, Unavailable
from parley_server.core.reply import Outcome, Reply
from parley_server.core.service import Service
from parley_server.core.standing import Standing

_FAILURES = (Unavailable, RateLimited, QuotaExhausted, CredentialsRejected, ProtocolError)


class Observe:
    """Keeps up `standing`. Refusals for what the caller asked count as neither success nor failure."""

    def __init__(self, standing: Standing) -> None:
        self._standing = standing

    def __call__(self, inner: Service) -> Service:
        standing = self._standing

        async def observed(request: Any, ctx: Context) -> Reply[Any]:
            before = ctx.answer_headers
            standing.began()
            start = ctx.clock()
            try:
                reply = await inner(request, ctx)
            except BaseException as error:
                standing.over()
                if isinstance(error, _FAILURES):
                    standing.failed()
                elif not isinstance(error, Exception):
                    standing.left(ctx.clock() - start, streaming=ctx.streaming)
                _tell(standing, ctx, before)
                raise
            standing.answered(ctx.clock() - start, streaming=ctx.streaming)
            _tell(standing, ctx, before)

            def over(outcome: Outcome) -> None:
                standing.over()
                if isinstance(outcome.error, _FAILURES):
                    standing.failed()

            reply.on_over(over)
            return reply

        return observed


def _tell(standing: Standing, ctx: Context, before: object) -> None:
    if ctx.answer_headers and ctx.answer_headers is not before:  # those of an attempt before are not this target's
        standing.told(ctx.answer_headers)
