"""An answer that several callers get, as each of them gets it."""

from __future__ import annotations

import copy

from parley import v1
from parley_server.core import usage as counting
from parley_server.core.context import Context
from parley_server.core.errors import GatewayError
from parley_server.core.reply import Final


def own(final: Final, ctx: Context, warnings: list[v1.Warning] | tuple[v1.Warning, ...], *, leads: bool) -> None:
    """Make the end of an answer that of one caller. The call is paid for and told of once, by who leads it."""
    ctx.warnings.extend(warnings)
    if not leads:
        final.usage.CopyFrom(counting.from_cache(final.usage))
        del final.route.attempts[:]


def again(error: Exception) -> Exception:
    """The error for one caller: outer layers write into it."""
    return copy.copy(error) if isinstance(error, GatewayError) else error
