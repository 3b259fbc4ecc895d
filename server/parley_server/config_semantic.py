"""The section `cache.semantic`: whether similar questions share answers, and what finds them."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from parley_server.embedders.installed import BUILT_IN, MINILM, missing
from parley_server.settings import Seconds, Section


def _similarity(value: object) -> object:
    if isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return float(value)
    raise ValueError("should be true, false, or a number from 0 to 1")


Similarity = Annotated[bool | Annotated[float, Field(ge=0, le=1)], BeforeValidator(_similarity)]


class Semantic(Section):
    """An index of the questions whose answers are cached, to find those that ask nearly the same."""

    enabled: bool = Field(False, description="Keep one, for requests and routes that accept such answers.")
    embedder: str = Field(
        MINILM,
        description="What compares questions: minilm (a small model in this process, for English), ngrams (spelling "
        "only), or an embedding model as provider/model.",
    )
    threshold: float | None = Field(
        None,
        ge=0,
        le=1,
        description="How similar a question has to be where nobody says; the embedder's own if unset: minilm 0.8, "
        "ngrams 0.4, other models 0.85.",
    )
    words: bool = Field(
        True,
        description="Compare the words of both questions as well. Without it wrong answers are to be expected.",
    )
    timeout: Seconds = Field(0.3, description="Seconds that looking for a similar question may take.")
    longest: int = Field(
        1000, ge=1, le=10_000, description="Characters of a last turn; longer ones have to be the same."
    )
    max_entries: int = Field(
        20_000, ge=1, le=10_000_000, description="Questions that each process holds in memory, about 3 KB each."
    )

    @model_validator(mode="after")
    def _installed(self) -> Semantic:
        if self.embedder not in BUILT_IN and "/" not in self.embedder.strip("/"):
            raise ValueError(f"embedder: {self.embedder!r} is none of {', '.join(BUILT_IN)}, nor a provider/model")
        if self.enabled and (lacking := missing(self.embedder)):
            raise ValueError(lacking)
        return self


def problems(semantic: Semantic, similar: Mapping[str, Similarity | None], providers: Collection[str]) -> list[str]:
    """What is wrong with the section and others together. `similar`: where answers to similar questions will do."""
    if not semantic.enabled:
        return [
            f"{path}: there is no index of questions to find similar ones in; set cache.semantic.enabled: true"
            for path, wanted in similar.items()
            if wanted is not None and wanted is not False
        ]
    provider, slash, model = semantic.embedder.partition("/")
    if not slash or provider in providers:
        return []
    near = difflib.get_close_matches(provider, providers, n=1, cutoff=0.6)
    hint = f"; did you mean {near[0]}/{model}?" if near else ""
    return [f"cache.semantic.embedder: no provider {provider} is configured{hint}"]
