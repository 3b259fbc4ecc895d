"""What is wrong with a configuration, for tests."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from parley_server.config import load
from parley_server.config_sources import ConfigError


def problems(text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    """The problems for which a file's text and an environment are refused."""
    with pytest.raises(ConfigError) as caught:
        load(text, environ or {})
    return caught.value.problems
