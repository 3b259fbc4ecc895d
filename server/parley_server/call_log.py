"""A line for each call, where the log is to have that."""

from __future__ import annotations

import structlog

from parley_server.core.context import Context

log = structlog.get_logger("parley.calls")


def log_call(ctx: Context) -> None:
    """A call is over: how it ended, how long it took, who answered, what it has cost. Called in its task."""
    code, reason = ctx.ended
    attempts = ctx.ledger.attempts
    last = f"{attempts[-1].provider}/{attempts[-1].model}" if attempts else None
    usage = attempts[-1].usage if attempts and attempts[-1].HasField("usage") else None
    facts = {
        "method": ctx.method,
        "model": ctx.model or None,
        "status": code,
        "reason": reason or None,
        "seconds": round(ctx.clock() - ctx.received, 4),
        "caller": ctx.caller or None,
        "attempts": len(attempts) or None,
        "target": last,
        "cache": None if ctx.cache is None else ctx.cache.Status.Name(ctx.cache.status).removeprefix("STATUS_").lower(),
        "input_tokens": None if usage is None else usage.input_tokens,
        "output_tokens": None if usage is None else usage.output_tokens,
        "cost_nano_usd": ctx.ledger.cost_nano_usd(),
    }
    log.info("call", **{name: value for name, value in facts.items() if value is not None})
