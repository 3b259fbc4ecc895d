"""All kinds of providers there are: the built-in ones, then those of installed packages."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import metadata
from types import MappingProxyType

from parley_server.providers import anthropic, mock, ollama, openai, openai_compatible
from parley_server.providers.kind import ENTRY_POINTS, Kind

BUILT_IN: tuple[Kind, ...] = (openai.KIND, anthropic.KIND, ollama.KIND, openai_compatible.KIND, mock.KIND)


@functools.cache
def known() -> Mapping[str, Kind]:
    """Kinds by name. Raises TypeError or ValueError for an entry point that names no kind, or one that is there."""
    found = {kind.name: kind for kind in BUILT_IN}
    for entry in metadata.entry_points(group=ENTRY_POINTS):
        given = entry.load()
        for kind in given if isinstance(given, tuple) else (given,):
            if not isinstance(kind, Kind):
                raise TypeError(f"the entry point {entry.name} of {ENTRY_POINTS} names {type(kind).__name__}, no Kind")
            if kind.name in found:
                raise ValueError(f"the entry point {entry.name} brings the kind {kind.name}, which is there already")
            found[kind.name] = kind
    return MappingProxyType(found)
