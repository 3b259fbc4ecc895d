"""Walnut: follows OpenAI's chat completions, so a row says all there is to say."""

from __future__ import annotations

from parley_server.dialects.openai_chat import Quirks
from parley_server.dialects.openai_embed import EmbedQuirks
from parley_server.providers.rows import Row, kind_of

WALNUT = Row(
    "walnut",
    "Walnut, a server on your own machine.",
    base_url="http://127.0.0.1:8600/v1",
    key_variables=("WALNUT_API_KEY",),
    url_variables=("WALNUT_URL",),
    chat=Quirks(missing=frozenset({"seed", "logit_bias"}), most_stop_sequences=4),
    embed=EmbedQuirks(),
)

KIND = kind_of(WALNUT)
