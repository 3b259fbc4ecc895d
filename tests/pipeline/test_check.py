"""Requests that break the contract."""

from __future__ import annotations

import pytest

from parley_server.core.errors import InvalidRequest, Violation
from parley_server.pipeline.check import Check
from tests.fakes import Attempts, answering, chat, context


async def test_good_request_goes_through() -> None:
    service = Check(lambda _: [])(answering("hi"))
    assert (await (await service(chat(), context())).response()).message.parts[0].text == "hi"


@pytest.mark.parametrize(
    ("count", "told", "message"),
    [
        (1, 1, "f0: is wrong"),
        (2, 2, "f0: is wrong; and one more violation"),
        (25, 20, "f0: is wrong; and 24 more violations"),
    ],
)
async def test_bad_request_is_refused_before_anything_is_spent(count: int, told: int, message: str) -> None:
    inner = Attempts(answering("never"))
    service = Check(lambda _: [Violation(f"f{i}", "is wrong") for i in range(count)])(inner)
    with pytest.raises(InvalidRequest) as refused:
        await service(chat(), context())
    assert inner.made == 0
    assert len(refused.value.violations) == told
    assert refused.value.message == message
    assert refused.value.facts == {"field": "f0"}
