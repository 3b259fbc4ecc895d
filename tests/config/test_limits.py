"""Limits of callers and tenants as they are written, and what becomes of them."""

from __future__ import annotations

import pytest

from parley_server.config import load
from parley_server.config_callers import owned
from parley_server.config_limits import plans
from parley_server.core.limits import Rule
from parley_server.pipeline.admit import Plan
from tests.config.problems import problems

KEYS = {name.upper(): name * 20 for name in "abc"}
CALLERS = "callers: {a: {key: env:A}, b: {key: env:B, tenant: shop}, c: {key: env:C, tenant: shop%s}}\n"


def planned(text: str) -> dict[str, Plan]:
    config = load(text, KEYS)
    return plans(owned(config.callers), config.tenants, config.limits)


def rules(plan: Plan) -> list[tuple[str, Rule]]:
    return [(one.owner, one.limit.rule) for one in plan.limits]


def test_without_limits_nobody_has_any() -> None:
    assert planned("") == planned(CALLERS % "") == {}


@pytest.mark.parametrize(
    ("limit", "rule"),
    [
        ("{requests: 100, per: 10s}", Rule("window", 100, 10_000)),
        ("{requests: 100, per: 10}", Rule("window", 100, 10_000)),
        ("{requests: 1, per: 0.5}", Rule("window", 1, 500)),
        ("{tokens: 20000, per: 1m, window: bucket}", Rule("bucket", 20_000, 60_000)),
        ("{tokens: 5, per: 1.5 h}", Rule("window", 5, 5_400_000)),
        ("{tokens: 1000000000, per: 1d, window: bucket}", Rule("bucket", 10**9, 86_400_000)),
        ("{concurrency: 8}", Rule("slots", 8)),
    ],
)
def test_a_limit_is_of_one_thing_in_a_time(limit: str, rule: Rule) -> None:
    assert rules(planned(f"limits: {{each_caller: [{limit}]}}")[""]) == [("all", rule)]


def test_own_limits_take_the_place_of_those_of_all() -> None:
    found = planned(
        CALLERS % ", limits: []"
        + "limits: {each_caller: [{requests: 5, per: 1m}], each_tenant: [{concurrency: 9}]}\n"
        + "tenants: {shop: {limits: [{tokens: 100, per: 1h}]}}\n"
    )
    each, hour = Rule("window", 5, 60_000), Rule("window", 100, 3_600_000)
    assert rules(found["a"]) == [("caller:a", each), ("tenant:a", Rule("slots", 9))]
    assert rules(found["b"]) == [("caller:b", each), ("tenant:shop", hour)]
    assert rules(found["c"]) == [("tenant:shop", hour)]
    assert [found[name].group for name in "abc"] == ["a", "shop", "shop"]
    assert found["b"].limits[1].limit == found["c"].limits[0].limit, "they count together"


def test_limits_of_single_models_are_apart() -> None:
    text = "limits: {each_caller: [{requests: 5, per: 1m}, {requests: 2, per: 1m, models: [x, y]}, \
        {requests: 2, per: 1m, models: [z]}, {requests: 9, per: 1h}]}"
    limits = planned(text)[""].limits
    assert [sorted(one.models) for one in limits] == [[], ["x", "y"], ["z"], []]
    assert len({one.limit.key for one in limits}) == 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "limits.each_caller.0: a limit is of requests, of tokens or of concurrency"),
        ("{requests: 1, tokens: 1, per: 1m}", "limits.each_caller.0: a limit is of requests, of tokens or of"),
        ("{requests: 1}", "limits.each_caller.0: requests need a time"),
        ("{concurrency: 1, per: 1m}", "limits.each_caller.0: concurrency is so many calls at a time"),
        ("{requests: 0, per: 1m}", "limits.each_caller.0.requests: "),
        ("{requests: 1, per: 1 week}", "limits.each_caller.0.per: a time is seconds, or a number with its unit"),
        ("{requests: 1, per: 0s}", "limits.each_caller.0.per: "),
        ("{tokens: 999999937, per: 1d, window: bucket}", "limits.each_caller.0: so many in such a time cannot be"),
        ("{requests: 1, per: 1m}, {requests: 2, per: 60s}", "limits.each_caller: number 2 limits the same in the same"),
        ("{request: 1, per: 1m}", "limits.each_caller.0.request: unknown key; did you mean requests?"),
    ],
)
def test_what_is_wrong_is_told(text: str, said: str) -> None:
    (problem,) = problems(f"limits: {{each_caller: [{text}]}}")
    assert problem.startswith(said)


def test_a_tenant_that_nobody_belongs_to() -> None:
    assert problems(CALLERS % "" + "tenants: {shpo: {limits: []}}", KEYS) == [
        "tenants.shpo: no caller belongs to this tenant; did you mean shop?"
    ]
    assert problems("tenants: {shop: {}}") == ["tenants.shop: no caller belongs to this tenant"]
