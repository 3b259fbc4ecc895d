"""Embeddings of the mock provider: unit vectors, close for similar texts, the same in both encodings."""

from __future__ import annotations

import base64
import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_server.transports.mock import vectors
from tests.transports.mock_exchange import ask, mock


async def embed(input: Any, **fields: Any) -> tuple[int, Any]:
    return await ask(mock(**fields.pop("settings", {})), "/embeddings", {"model": "m", "input": input, **fields})


async def vector(input: Any, **fields: Any) -> list[float]:
    status, answer = await embed(input, **fields)
    assert status == 200, answer
    embedding: list[float] = answer["data"][0]["embedding"]
    return embedding


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


async def test_answer_has_openais_shape() -> None:
    status, answer = await embed(["one two", "three"])
    assert status == 200
    assert [(row["object"], row["index"]) for row in answer["data"]] == [("embedding", 0), ("embedding", 1)]
    assert (answer["object"], answer["model"]) == ("list", "m")
    assert answer["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


@pytest.mark.parametrize(
    ("settings", "asked", "dimensions"), [({}, {}, 256), ({"dimensions": 8}, {}, 8), ({}, {"dimensions": 1024}, 1024)]
)
async def test_dimensions(settings: dict[str, Any], asked: dict[str, Any], dimensions: int) -> None:
    assert len(await vector("text", settings=settings, **asked)) == dimensions


async def test_both_encodings_say_the_same() -> None:
    packed: Any = await vector("some text", encoding_format="base64")
    assert list(struct.unpack("<256f", base64.b64decode(packed))) == await vector("some text", encoding_format="float")


async def test_similar_texts_are_closer() -> None:
    cat, cats, bond = [
        await vector(text)
        for text in (
            "The cat sat on the mat.",
            "the  cats sat on a mat",
            "Yields on ten-year government bonds fell sharply",
        )
    ]
    assert cosine(cat, cats) > 0.5
    assert abs(cosine(cat, bond)) < 0.25


async def test_case_and_white_space_do_not_matter() -> None:
    assert await vector("Hello  World\n") == await vector("hello world")


async def test_token_ids() -> None:
    _, answer = await embed([[1, 2, 3], [1, 2, 4], [70, 80, 90]])
    near, nearer, far = [row["embedding"] for row in answer["data"]]
    assert cosine(near, nearer) > cosine(near, far)
    assert answer["usage"]["prompt_tokens"] == 9
    assert await vector([1, 2, 3]) == near


@pytest.mark.parametrize(
    ("input", "code"),
    [
        (None, "missing_required_parameter"),
        ([], "empty_array"),
        ("", "invalid_value"),
        (["a", ""], "invalid_value"),
        ([[]], "invalid_value"),
        ([[1], "a", 2], "invalid_value"),
        ({"a": 1}, "invalid_value"),
        (["a"] * 2049, "array_above_max_length"),
        ("word " * 9000, "context_length_exceeded"),
        ("x" * 100_000, "context_length_exceeded"),
    ],
)
async def test_refused_inputs(input: Any, code: str) -> None:
    status, answer = await embed(input)
    assert (status, answer["error"]["code"]) == (400, code)


@pytest.mark.parametrize("asked", [{"dimensions": 0}, {"dimensions": "8"}, {"encoding_format": "hex"}])
async def test_refused_wishes(asked: dict[str, Any]) -> None:
    assert (await embed("text", **asked))[0] == 400


@given(st.text(min_size=1), st.integers(1, 300))
def test_every_text_has_a_unit_vector(text: str, dimensions: int) -> None:
    made = vectors.of_text(text, dimensions)
    assert len(made) == dimensions
    assert math.isclose(math.sqrt(sum(x * x for x in made)), 1, rel_tol=1e-5)
