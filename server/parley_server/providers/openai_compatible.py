"""Servers that speak OpenAI's chat completions and are none of those we know: the row without defaults."""

from __future__ import annotations

from parley_server.dialects.openai_chat import Quirks
from parley_server.dialects.openai_embed import EmbedQuirks
from parley_server.providers.rows import Row, kind_of

KIND = kind_of(
    Row(
        "openai-compatible",
        "Any server that speaks OpenAI's chat completions.",
        key_needed=False,
        chat=Quirks.compatible(),
        embed=EmbedQuirks(),
    )
)
