"""The comparison with peers can fail: text that is lost is noticed, and so is a budget that is not kept."""

from __future__ import annotations

import pytest

from parley_server.transports.mock import MockModel
from tests.benchmarks import driver, prompt
from tests.benchmarks.job import Job
from tests.benchmarks.peers import report
from tests.mock_server import mock_server

LENGTH = 300
TEXT = prompt.answer(LENGTH)
ANSWERS = {
    "whole": MockModel(reply=TEXT),
    "short": MockModel(reply=TEXT[:-1]),
    "other": MockModel(reply=TEXT.upper()),
    "torn": MockModel(reply=TEXT, cut_after=5),
    "broken": MockModel(reply=TEXT, error_after=5),
    "refused": MockModel.model_validate({"errors": [{"status": 500}], "repeat_errors": True}),
}


@pytest.mark.parametrize("kind", ["chat", "stream"])
@pytest.mark.parametrize("model", ANSWERS)
async def test_only_what_was_sent_is_taken(kind: str, model: str) -> None:
    async with mock_server(ANSWERS) as server:
        address = server.base_url.removeprefix("http://").removesuffix("/v1")
        job = Job(kind, address, model, 3, 2, LENGTH, api="openai", headers={"x-provider": "openai"})  # type: ignore[arg-type]
        result = await driver.run(job)
    assert bool(result.error) is (model != "whole"), result
    if model == "whole":
        assert result.messages >= 3
        assert [request.headers["x-provider"] for request in server.requests] == ["openai"] * 3


def test_budgets_are_judged_by_the_median_of_ratios_within_one_repetition() -> None:
    ours = {"gateway": [100.0, 200, 100], "floor": [50.0, 100, 50]}
    made = report.rows({"unary": {**ours, "litellm": [1300, 2300, 1100], "portkey": [250, 390, 300]}})
    assert [(row["peer"], row["value"], row["within"]) for row in made] == [
        ("litellm", 11.5, False),
        ("portkey", 2.5, True),
    ]
    over, within = list(report.table(made))[2:]
    assert "**OVER**" in over
    assert within.endswith("| ≥ 2 | within | 5.00 (3.90–6.00) |")
