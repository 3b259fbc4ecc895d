"""Which of these texts is closest to the question? With the standard library alone."""

import math
from collections.abc import Sequence

import parley

TEXTS = ["Oslo is the capital of Norway.", "Bread needs flour, water and salt.", "Fjords are deep."]


def similarity(a: Sequence[float], b: Sequence[float]) -> float:
    """Cosine of the angle between two vectors: 1 is the same direction."""
    return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


with parley.Client() as client:
    question, *vectors = client.embed("mock/embed", ["What is the capital of Norway?", *TEXTS])
    # Each vector is an array('f'), which numpy reads without copying: numpy.stack(vectors) is a matrix.
    for score, text in sorted(
        zip([similarity(question, vector) for vector in vectors], TEXTS, strict=True), reverse=True
    ):
        print(f"{score:.3f}  {text}")
