"""Stacks of layers."""

from __future__ import annotations

from typing import Any

from parley import v1
from parley_server.core.context import AttemptBudget, Context, Ledger
from parley_server.core.reply import Reply
from parley_server.core.service import Service, stack
from tests.fakes import answering, chat, context


async def test_first_layer_listed_is_first_to_see_the_request() -> None:
    seen: list[str] = []

    def layer(name: str) -> Any:
        def wrap(inner: Service) -> Service:
            async def service(request: Any, ctx: Context) -> Reply[Any]:
                seen.append(name)
                return await inner(request, ctx)

            return service

        return wrap

    await stack(layer("a"), layer("b"), layer("c"), service=answering("hi"))(chat(), context())
    assert seen == ["a", "b", "c"]


def test_budget_is_used_up_attempt_by_attempt() -> None:
    budget = AttemptBudget(left=2, reserved=1)
    assert budget.allows_retry()
    assert budget.take()
    assert not budget.allows_retry()
    assert budget.take()
    assert not budget.take()


def test_ledger_adds_up_known_costs_only() -> None:
    ledger = Ledger()
    assert ledger.cost_nano_usd() is None
    ledger.attempts.append(v1.Attempt())
    assert ledger.cost_nano_usd() is None
    ledger.attempts.append(v1.Attempt(usage=v1.Usage(cost=v1.Cost(total_nano_usd=7))))
    ledger.attempts.append(v1.Attempt(usage=v1.Usage(cost=v1.Cost(total_nano_usd=5))))
    assert ledger.cost_nano_usd() == 12


async def test_remaining_counts_down_on_the_clock_of_the_call() -> None:
    assert context().remaining() is None
    remaining = context(deadline=3.0).remaining()
    assert remaining is not None
    assert 2.9 < remaining <= 3.0
