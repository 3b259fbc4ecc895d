"""The HTTP transport is held to its word on both event loops: they close sockets in their own ways."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

_ASYNCIO = {"asyncio": asyncio.new_event_loop}
_BOTH = {**_ASYNCIO, "uvloop": uvloop.new_event_loop}


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return _BOTH if item.path.name == "test_http.py" else _ASYNCIO
