"""Rankings of the mock provider: more words in common, a higher place; Jina's format."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_server.transports.mock import ranking
from tests.transports.mock_exchange import ask, mock

DOCUMENTS = ["Dogs bark.", "The cat sleeps on the mat.", "Sleep is what a CAT does best, and a cat sleeps well"]


async def rerank(query: Any = "where a cat sleeps", documents: Any = DOCUMENTS, **fields: Any) -> tuple[int, Any]:
    body = {"model": "m", "query": query, "documents": documents, **fields}
    return await ask(mock(**fields.pop("settings", {})), "/rerank", body)


async def test_answer_has_jinas_shape() -> None:
    status, answer = await rerank()
    assert (status, answer["model"]) == (200, "m")
    assert [row["index"] for row in answer["results"]] == [1, 2, 0]
    assert [row["document"]["text"] for row in answer["results"]] == [DOCUMENTS[1], DOCUMENTS[2], DOCUMENTS[0]]
    scores = [row["relevance_score"] for row in answer["results"]]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] == 0
    assert answer["usage"] == {"total_tokens": 3 * 4 + 2 + 6 + 12}


async def test_only_the_best_and_without_the_texts() -> None:
    _, answer = await rerank(top_n=1, return_documents=False)
    [best] = answer["results"]
    assert best.keys() == {"index", "relevance_score"}


async def test_more_than_there_are_gives_all() -> None:
    assert len((await rerank(top_n=99))[1]["results"]) == 3


async def test_documents_as_objects() -> None:
    _, answer = await rerank(documents=[{"text": text} for text in DOCUMENTS])
    assert [row["index"] for row in answer["results"]] == [1, 2, 0]


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"query": None}, "query"),
        ({"query": ""}, "query"),
        ({"documents": None}, "documents"),
        ({"documents": []}, "documents"),
        ({"documents": "text"}, "documents"),
        ({"documents": ["a", ""]}, "documents[1]"),
        ({"documents": [["a"]]}, "documents[0]"),
        ({"documents": ["a"] * 2049}, "documents"),
        ({"top_n": 0}, "top_n"),
        ({"top_n": "3"}, "top_n"),
    ],
)
async def test_refused(asked: dict[str, Any], param: str) -> None:
    status, answer = await rerank(**asked)
    assert (status, answer["error"]["param"]) == (400, param)


async def test_scripted_errors_come_here_too() -> None:
    model = mock(errors=[{"status": 429, "retry_after": 2}])
    body = {"model": "m", "query": "q", "documents": ["d"]}
    assert (await ask(model, "/rerank", body))[0] == 429
    assert (await ask(model, "/rerank", body))[0] == 200


@given(st.text(), st.lists(st.text(), max_size=8))
def test_every_document_is_ranked_once_best_first(query: str, documents: list[str]) -> None:
    found = ranking.ranked(query, documents)
    assert sorted(index for index, _ in found) == list(range(len(documents)))
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
    assert all(0 <= score <= 1 for _, score in found)
