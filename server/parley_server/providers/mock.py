"""Mock: the calling card of the built-in offline provider, which speaks OpenAI's wire format inside the process."""

from __future__ import annotations

from parley_server.dialects.openai_chat import OpenAIChat, Quirks
from parley_server.dialects.openai_embed import OpenAIEmbed
from parley_server.dialects.openai_models import OpenAIModels
from parley_server.providers.base import Provider
from parley_server.transports.mock import MockTransport


def card(name: str, transport: MockTransport) -> Provider:
    """The mock provider. Its host name is never resolved: the transport answers by itself."""
    return Provider(
        name=name,
        base_url="http://mock.invalid/v1",
        chat=OpenAIChat(Quirks.compatible()),
        embed=OpenAIEmbed(),
        models=OpenAIModels(),
        transport=transport,
    )
