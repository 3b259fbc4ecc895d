"""Embeddings without a model: similar texts share many character trigrams, so their vectors have a higher cosine.

Each gram is hashed to a dimension and a sign; the sum is scaled to length 1.
"""

from __future__ import annotations

import math
import zlib
from array import array
from collections.abc import Iterable, Sequence


def of_text(text: str, dimensions: int) -> array[float]:
    """The unit vector of a text; case and white space do not matter."""
    padded = f"  {' '.join(text.casefold().split())}  "
    return _vector((padded[i : i + 3] for i in range(len(padded) - 2)), dimensions)


def of_tokens(ids: Sequence[int], dimensions: int) -> array[float]:
    """The unit vector of token IDs: they and their neighbours count."""
    return _vector([*map(str, ids), *map("{} {}".format, ids, ids[1:])], dimensions)


def _vector(grams: Iterable[str], dimensions: int) -> array[float]:
    sums = [0] * dimensions
    for gram in grams:
        digest = zlib.crc32(gram.encode("utf-8", "surrogatepass"))
        sums[(digest >> 1) % dimensions] += 1 if digest & 1 else -1
    length = math.sqrt(sum(x * x for x in sums))
    if not length:  # the grams cancelled out
        sums[0], length = 1, 1.0
    return array("f", (x / length for x in sums))  # float32, so that both encodings say the same
