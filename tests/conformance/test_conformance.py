"""The dialects against recorded exchanges with real providers, where PARLEY_RECORDINGS names the folder of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conformance.registry import adapters
from tests.conformance.report import run


@pytest.mark.recordings
@pytest.mark.timeout(300)
def test_recorded_exchanges() -> None:
    folder = os.environ.get("PARLEY_RECORDINGS", "")
    if not folder:
        pytest.skip("no recordings: PARLEY_RECORDINGS names no folder, so nothing was held against real exchanges")
    root = Path(folder)
    assert root.is_dir(), f"PARLEY_RECORDINGS is {folder}, which is no folder"
    report = run(root, adapters())
    print("\n".join(report.lines()))
    assert report.good, report.lines()[-1]
