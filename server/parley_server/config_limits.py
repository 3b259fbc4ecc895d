"""What callers and tenants may ask in a time: `limits` of callers, of tenants, and of whoever has none of his own."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from parley_server.core.limits import Rule
from parley_server.pipeline.admit import CallerLimit, Plan
from parley_server.settings import Section
from parley_server.stores.counters import Limit

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_PERIOD = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)\s*([smhd])")
_LONGEST = 31 * 86_400.0
_NOBODY = "-"  # tenant of calls that nobody has to make himself known for; no name is spelt so


def _period(value: object) -> object:
    if isinstance(value, str):
        found = _PERIOD.fullmatch(value.strip())
        if found is None:
            raise ValueError("a time is seconds, or a number with its unit: 10s, 1m, 1h, 1d")
        return float(found[1]) * _UNITS[found[2]]
    return value


Amount = Annotated[int, Field(ge=1, le=1_000_000_000)]
Period = Annotated[float, BeforeValidator(_period), Field(ge=0.1, le=_LONGEST)]
"""Seconds, or a number with its unit."""


class LimitSettings(Section):
    """One limit: so many requests or tokens in a time, or so many calls at a time."""

    requests: Amount | None = Field(None, description="Calls in the time.")
    tokens: Amount | None = Field(None, description="Tokens in the time, input and output together.")
    concurrency: Amount | None = Field(None, description="Calls at a time.")
    per: Period | None = Field(None, description="The time, for requests and tokens: 10s, 1m, 1h, 1d.")
    window: Literal["sliding", "bucket"] = Field(
        "sliding",
        description="How to count: never more than that within any such time, or a bucket that is refilled steadily, "
        "from which all of it may go at once.",
    )
    models: tuple[str, ...] = Field((), description="Only calls for these models, as callers name them; else all.")

    @model_validator(mode="after")
    def _one_of_three(self) -> Self:
        given = [name for name in ("requests", "tokens", "concurrency") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("a limit is of requests, of tokens or of concurrency: one of them; list several limits")
        if given == ["concurrency"]:
            if self.per is not None or "window" in self.model_fields_set:
                raise ValueError("concurrency is so many calls at a time: it has neither `per` nor `window`")
        elif self.per is None:
            raise ValueError(f"{given[0]} need a time: `per: 1m`")
        _ = self.rule  # raises ValueError if it cannot be counted
        return self

    @property
    def of(self) -> Literal["requests", "tokens", "concurrency"]:
        """What it limits."""
        return "requests" if self.requests else "tokens" if self.tokens else "concurrency"

    @property
    def rule(self) -> Rule:
        """How it counts."""
        if self.concurrency is not None:
            return Rule("slots", self.concurrency)
        amount = self.requests or self.tokens or 0
        return Rule("window" if self.window == "sliding" else "bucket", amount, round((self.per or 0) * 1000))

    def counted_for(self, owner: str) -> CallerLimit:
        """The limit as it is counted, under a name that says whose it is and of what."""
        models = ",".join(sorted(set(self.models)))
        which = f":{hashlib.sha256(models.encode()).hexdigest()[:12]}" if models else ""
        return CallerLimit(Limit(f"{owner}:{self.of}{which}", self.rule), self.of, owner, frozenset(self.models))


def _apart(limits: tuple[LimitSettings, ...]) -> tuple[LimitSettings, ...]:
    keys = [limit.counted_for("").limit.key for limit in limits]
    twice = next((number for number, key in enumerate(keys) if key in keys[:number]), None)
    if twice is not None:
        raise ValueError(f"number {twice + 1} limits the same in the same time as another one: keep the smaller")
    return limits


LimitList = Annotated[tuple[LimitSettings, ...], AfterValidator(_apart)]


class TenantSettings(Section):
    """What is set for the callers of one tenant together."""

    limits: LimitList | None = Field(None, description="What they may ask together; `limits.each_tenant` if unset.")


class Limits(Section):
    """What callers and tenants may ask who have no limits of their own."""

    each_caller: LimitList = Field((), description="Each caller; all calls together where there are no callers.")
    each_tenant: LimitList = Field((), description="The callers of each tenant together.")
    expected_output: int = Field(
        500, ge=0, le=10_000_000, description="Output tokens reserved for a call that does not say how many it wants."
    )


Owned = Mapping[str, tuple[str, Sequence[LimitSettings] | None]]
"""Callers by name: their tenant, and their own limits, if any are set."""


def plans(callers: Owned | None, tenants: Mapping[str, TenantSettings], limits: Limits) -> dict[str, Plan]:
    """The limits that calls pass, by caller; "" where there are no callers. Callers without any are not in it."""
    found: dict[str, Plan] = {}
    for name, (tenant, own) in ({"": (_NOBODY, None)} if callers is None else callers).items():
        mine = limits.each_caller if own is None else own
        shared = tenants.get(tenant, TenantSettings()).limits
        ours = limits.each_tenant if shared is None else shared
        counted = [limit.counted_for(f"caller:{name}" if name else "all") for limit in mine]
        counted += [limit.counted_for(f"tenant:{tenant}") for limit in ours]
        if counted:
            found[name] = Plan(tenant, tuple(counted))
    return found


def problems(callers: Owned | None, tenants: Mapping[str, TenantSettings]) -> list[str]:
    """Tenants that nobody belongs to."""
    there = {tenant for tenant, _ in callers.values()} if callers is not None else set()
    found = []
    for name in tenants:
        if name not in there:
            near = difflib.get_close_matches(name, there, n=1, cutoff=0.6)
            hint = f"; did you mean {near[0]}?" if near else ""
            found.append(f"tenants.{name}: no caller belongs to this tenant{hint}")
    return found
