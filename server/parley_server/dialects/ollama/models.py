"""The models that an Ollama server has: `GET /api/tags`, and of each what `POST /api/show` tells.

Newer servers tell most of it in the list already, so only what is missing there is asked for, and only once: a digest
stands for the same model for ever. `GET /api/ps` tells which are loaded, and how much they take as they are loaded,
which is mostly far less than the model could.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from parley import v1
from parley_server.core.errors import GatewayError, ProtocolError
from parley_server.core.target import Target
from parley_server.dialects.base import HttpCall, load_object
from parley_server.dialects.ollama.answers import MALFORMED
from parley_server.dialects.ollama.errors import error
from parley_server.dialects.steps import Ask, AskAll, Heard, Steps

_AT_ONCE = 4  # the server reads a file for each
_OPERATIONS = {"completion": "chat", "embedding": "embed"}
_CAPABILITIES = {"completion": "json-schema", "tools": "tools", "thinking": "reasoning"}
_MODALITIES = {"vision": v1.MODALITY_IMAGE, "audio": v1.MODALITY_AUDIO}
_WINDOW = re.compile(r"^num_ctx\s+(\d+)\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Facts:
    """What is known of a model. Zero and empty: not known."""

    capabilities: tuple[str, ...] = ()
    context_tokens: int = 0
    embedding_dimensions: int = 0
    window: int = 0
    """Tokens that it takes at a time by its own settings."""


class OllamaModels:
    """Lists models. Servers that do not tell what a model can do leave it open."""

    def __init__(self) -> None:
        self._shown: dict[str, _Facts] = {}  # by digest, of the models that were there last

    def converse(self, provider: str) -> Steps[list[v1.Model]]:
        """The list, what is missing in it, which are loaded. Raises ProtocolError if the first is no list."""
        listed: Heard = yield Ask(HttpCall("/api/tags", method="GET", headers={}))
        rows = _rows(listed.body)
        yield from self._show([row for row in rows if _says_little(row) and row.get("digest") not in self._shown])
        self._shown = {digest: self._shown[digest] for row in rows if (digest := row.get("digest")) in self._shown}
        loaded: dict[str, int] = {}
        if rows:
            try:
                heard: Heard = yield Ask(HttpCall("/api/ps", method="GET", headers={}))
                loaded = {_name(row): row.get("context_length") or 0 for row in _rows(heard.body)}
            except GatewayError:  # an old server, or a proxy that allows only some paths
                pass
        try:
            return [_model(row, self._shown.get(row.get("digest", "")), loaded, provider) for row in rows]
        except MALFORMED as problem:
            raise ProtocolError("the provider's answer is not a listing of models") from problem

    def _show(self, rows: list[dict[str, Any]]) -> Steps[None]:
        """Ask about models and remember what is told. One that is not shown this time is asked about again."""
        if not rows:
            return
        calls = tuple(HttpCall("/api/show", orjson.dumps({"model": _name(row)})) for row in rows)
        came: list[Heard | GatewayError] = yield AskAll(calls, at_once=_AT_ONCE)
        for row, heard in zip(rows, came, strict=True):
            if isinstance(heard, Heard) and row.get("digest") and (facts := _facts(heard.body)) is not None:
                self._shown[row["digest"]] = facts

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
        """See `errors.py`."""
        return error(status, headers, body, target)


def _rows(body: bytes) -> list[dict[str, Any]]:
    try:
        rows = load_object(body)["models"] or []
        if all(isinstance(row, dict) and isinstance(_name(row), str) for row in rows):
            return list(rows)
    except MALFORMED:
        pass
    raise ProtocolError("the provider's answer is not a listing of models")


def _name(row: Mapping[str, Any]) -> str:
    name: str = row.get("model") or row["name"]
    return name


def _says_little(row: Mapping[str, Any]) -> bool:
    details = row.get("details")
    return not row.get("capabilities") or not (isinstance(details, dict) and details.get("context_length"))


def _facts(body: bytes) -> _Facts | None:
    """What `/api/show` tells; None if it is nothing that can be read."""
    try:
        shown = load_object(body)
        info = shown.get("model_info") or {}
        kind = info.get("general.architecture", "")
        window = _WINDOW.search(shown.get("parameters") or "")
        return _Facts(
            capabilities=tuple(shown.get("capabilities") or ()),
            context_tokens=int(info.get(f"{kind}.context_length") or 0),
            embedding_dimensions=int(info.get(f"{kind}.embedding_length") or 0),
            window=int(window[1]) if window else 0,
        )
    except (ProtocolError, *MALFORMED):
        return None


def _model(row: Mapping[str, Any], facts: _Facts | None, loaded: Mapping[str, int], provider: str) -> v1.Model:
    name, facts = _name(row), facts or _Facts()
    details = row.get("details") or {}
    able = row.get("capabilities") or facts.capabilities
    model = v1.Model(
        id=f"{provider}/{name}",
        provider=provider,
        provider_model=name,
        operations=[word for kind, word in _OPERATIONS.items() if kind in able],
        capabilities=[word for kind, word in _CAPABILITIES.items() if kind in able],
        state=v1.Model.STATE_ACTIVE,
    )
    if able:
        model.input_modalities.extend([v1.MODALITY_TEXT, *(kind for word, kind in _MODALITIES.items() if word in able)])
    elif "bert" in (details.get("family") or ""):
        model.operations.append("embed")  # an encoder: it cannot do anything else
    if "completion" in able:
        model.output_modalities.append(v1.MODALITY_TEXT)
    if context := details.get("context_length") or facts.context_tokens:
        model.limits.context_tokens = context
    if window := loaded.get(name) or facts.window:
        model.limits.max_input_tokens = window  # what is longer is cut off in silence
    dimensions = details.get("embedding_length") or facts.embedding_dimensions
    if dimensions and "embed" in model.operations:  # that of a chat model is an inner matter
        model.limits.embedding_dimensions = dimensions
    return model
