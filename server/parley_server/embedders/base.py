"""What an embedder does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

from parley_server.core.context import Context

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Vector: TypeAlias = "npt.NDArray[np.float32]"
"""One dimension, of length 1 by Euclid: the cosine of two is their scalar product."""


class CannotEmbed(Exception):
    """There is no vector for the text: now, or ever, as the message says."""


class Embedder(Protocol):
    """Makes vectors of texts. Vectors of one `name` can be compared, those of different names cannot."""

    @property
    def name(self) -> str:
        """Of the vectors' space: another one for whatever changes them."""
        ...

    @property
    def threshold(self) -> float:
        """From which cosine on texts are similar, if nobody says otherwise."""
        ...

    async def embed(self, text: str, ctx: Context) -> Vector:
        """The vector of a text that is not empty, for the call `ctx`, by its deadline. Raises CannotEmbed.

        The vector stands for the whole of the text: one that cannot be read to its end, or holds what the embedder does
        not know, has none.
        """
        ...

    async def aclose(self) -> None:
        """Let go of what it holds."""
        ...
