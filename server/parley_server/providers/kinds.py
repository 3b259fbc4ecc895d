"""All kinds of providers there are: the built-in ones, then those of installed packages."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import metadata
from types import MappingProxyType

from parley_server.providers import (
    anthropic,
    azure,
    bedrock,
    cohere,
    databricks,
    gemini,
    mock,
    ollama,
    openai,
    openai_compatible,
    replicate,
    sagemaker,
    tei,
    vertex,
    watsonx,
)
from parley_server.providers.kind import ENTRY_POINTS, Kind, KindError
from parley_server.providers.row_table import ROWS
from parley_server.providers.rows import kind_of

BUILT_IN: tuple[Kind, ...] = (
    openai.KIND,
    anthropic.KIND,
    ollama.KIND,
    openai_compatible.KIND,
    *map(kind_of, ROWS),
    *azure.KINDS,
    bedrock.KIND,
    sagemaker.KIND,
    databricks.KIND,
    gemini.KIND,
    vertex.KIND,
    cohere.KIND,
    tei.KIND,
    replicate.KIND,
    watsonx.KIND,
    mock.KIND,
)


@functools.cache
def known() -> Mapping[str, Kind]:
    """Kinds by name. Raises KindError for an entry point that fails, names no kind, or names one that is there."""
    found = {kind.name: kind for kind in BUILT_IN}
    for entry in metadata.entry_points(group=ENTRY_POINTS):
        for kind in _brought(entry):
            if kind.name in found:
                raise KindError(f"{_named(entry)} brings the kind {kind.name!r}, which is there already")
            found[kind.name] = kind
    return MappingProxyType(found)


def _brought(entry: metadata.EntryPoint) -> tuple[Kind, ...]:
    try:
        given = entry.load()
    except Exception as error:  # whatever a module of somebody else does when it is imported
        raise KindError(f"{_named(entry)} cannot be loaded: {type(error).__name__}: {error}") from error
    kinds = given if isinstance(given, tuple) else (given,)
    for kind in kinds:
        if not isinstance(kind, Kind):
            raise KindError(f"{_named(entry)} names an object of the type {type(kind).__name__}, not a Kind")
    return kinds


def _named(entry: metadata.EntryPoint) -> str:
    package = f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "unknown"
    return f"the installed package {package}: its entry point {entry.name} ({entry.value}) of {ENTRY_POINTS}"
