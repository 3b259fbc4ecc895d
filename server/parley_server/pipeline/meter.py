"""Enter every attempt into the ledger, once, with what it used and cost.

Around the clocks of the attempt, inside its retries: each try is paid for on its own, and one that timed out says so.
"""

from __future__ import annotations

from typing import Any, Protocol

from google.rpc.error_details_pb2 import ErrorInfo

from parley import v1
from parley_server.core import usage as counting
from parley_server.core.context import Context
from parley_server.core.reply import Final, Outcome, Reply
from parley_server.core.service import AnyRequest, Service
from parley_server.core.target import Target
from parley_server.core.verdict import OK, Verdict, verdict

_DOMAIN = "parley"
_LIST_PRICE_TIERS = frozenset({"", "auto", "default", "on_demand", "standard", "standard_only"})


class Measures(Protocol):
    """Who counts attempts, beside the ledger. Must be quick."""

    def began(self, ctx: Context, /) -> str:
        """Before an attempt; gives the word for what it is."""
        ...

    def first_chunk(self, seconds: float, /) -> None:
        """A stream has content."""
        ...

    def ended(self, ctx: Context, attempt: v1.Attempt, ended: Verdict, seconds: float, kind: str, /) -> None:
        """The attempt is over, as it is entered."""
        ...


class Meter:
    """Keeps `ctx.ledger`, and completes the end of the answer: total tokens, cost, `route.attempts`.

    Usage that the provider did not report is estimated from characters and says so in `usage.source`. An attempt that
    failed before its answer began has no usage; of one that was given up before, the prompt is counted. Cost stays
    unset where `price` has no list for the service tier that answered, and where media occur whose tokens it does not
    price.
    """

    def __init__(
        self,
        target: Target,
        price: v1.ModelPricing | None,
        measures: Measures | None = None,
    ) -> None:
        self._target = target
        unpriced = frozenset(price.unpriced_modalities if price is not None else ())
        given = frozenset(target.card.output_modalities if target.card is not None else ())
        self._price = None if unpriced & given else price  # which of its answers hold such media, usage does not tell
        self._unpriced = frozenset(v1.Modality.Name(kind).removeprefix("MODALITY_").lower() for kind in unpriced)
        self._measures = measures

    def __call__(self, inner: Service) -> Service:
        measures = self._measures

        async def metered(request: Any, ctx: Context) -> Reply[Any]:
            kind = "" if measures is None else measures.began(ctx)
            start = ctx.clock()
            try:
                reply = await inner(request, ctx)
            except BaseException as error:
                attempt = v1.Attempt()
                if not isinstance(error, Exception):  # nobody waits any more, but the provider has the prompt
                    attempt.usage.CopyFrom(counting.unfinished(None, request, 0))
                    self._bill(attempt.usage, request, request.routing.service_tier)
                self._enter(attempt, ctx, start, verdict(error, ctx), kind)
                raise
            if measures is not None and ctx.streaming:
                measures.first_chunk(ctx.clock() - start)
            outcome = reply.outcome

            def complete(final: Final) -> None:
                self._complete(final, request, outcome)
                attempts = final.route.attempts
                if ctx.ledger.attempts:
                    attempts.extend(ctx.ledger.attempts)
                self._enter(attempts.add(usage=final.usage), ctx, start, OK, kind)

            def settle(outcome: Outcome) -> None:
                if outcome.final is None:
                    usage = counting.unfinished(outcome.usage, request, outcome.chars)
                    self._bill(usage, request, request.routing.service_tier)
                    self._enter(v1.Attempt(usage=usage), ctx, start, verdict(outcome.error, ctx), kind)

            reply.on_final(complete)
            reply.on_over(settle)
            return reply

        return metered

    def _complete(self, final: Final, request: AnyRequest, outcome: Outcome) -> None:
        usage = final.usage
        if not counting.is_counted(usage):
            chars = counting.parts_length(final.message.parts) if isinstance(final, v1.ChatResponse) else outcome.chars
            usage.MergeFrom(counting.unfinished(outcome.usage, request, chars))
        elif usage.source == v1.Usage.SOURCE_UNSPECIFIED:
            usage.source = v1.Usage.SOURCE_PROVIDER
        if not usage.HasField("total_tokens"):
            usage.total_tokens = usage.input_tokens + usage.output_tokens
        if not usage.HasField("cost"):  # a dialect knows it where what is charged is not what is counted
            self._bill(usage, request, final.route.service_tier)

    def _bill(self, usage: v1.Usage, request: AnyRequest, tier: str) -> None:
        if self._price is None or (self._unpriced and counting.has_media(request, self._unpriced)):
            return
        tier = tier.lower()
        cost = counting.cost(self._price, usage, "" if tier in _LIST_PRICE_TIERS else tier)
        if cost is not None:
            usage.cost.CopyFrom(cost)

    def _enter(self, attempt: v1.Attempt, ctx: Context, start: float, ended: Verdict, kind: str) -> None:
        seconds = ctx.clock() - start
        attempt.provider = self._target.provider
        attempt.model = self._target.model
        duration = attempt.duration
        duration.seconds = int(seconds)
        duration.nanos = int(seconds % 1 * 1e9)
        attempt.status.SetInParent()  # also when it is OK
        if ended is not OK:
            attempt.status.code = ended.number
            attempt.status.message = ended.message
            attempt.status.details.add().Pack(ErrorInfo(reason=ended.reason, domain=_DOMAIN))
        ctx.ledger.attempts.append(attempt)
        if self._measures is not None:
            self._measures.ended(ctx, attempt, ended, seconds, kind)
