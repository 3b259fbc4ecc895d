"""Vectors as they come from providers, in the encoding that was asked for."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable

from parley import v1
from parley_server.core.errors import ProtocolError


def embedding(index: int, vector: Iterable[float] | bytes, encoding: v1.EmbeddingEncoding.ValueType) -> v1.Embedding:
    """The embedding of input `index`, from numbers or from little-endian float32.

    Raises ProtocolError if it has no dimensions, and ValueError or TypeError for what are no numbers.
    """
    if isinstance(vector, bytes):
        numbers = array("f")
        numbers.frombytes(vector)
        if sys.byteorder == "big":
            numbers.byteswap()
    else:
        numbers = array("f", vector)
    if not numbers:
        raise ProtocolError("the provider answered an embedding that is no vector")
    if encoding != v1.EMBEDDING_ENCODING_FLOAT32_BYTES:
        return v1.Embedding(index=index, floats=v1.FloatVector(values=numbers), dimensions=len(numbers))
    if isinstance(vector, bytes):
        return v1.Embedding(index=index, packed=vector, dimensions=len(numbers))
    if sys.byteorder == "big":
        numbers.byteswap()
    return v1.Embedding(index=index, packed=numbers.tobytes(), dimensions=len(numbers))
