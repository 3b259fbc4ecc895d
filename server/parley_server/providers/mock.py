"""Mock: the calling card of the built-in offline provider, which speaks OpenAI's wire format inside the process."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from parley_server.dialects.openai_chat import OpenAIChat, Quirks
from parley_server.dialects.openai_embed import OpenAIEmbed
from parley_server.dialects.openai_models import OpenAIModels
from parley_server.dialects.rerank import Rerank, RerankQuirks
from parley_server.providers.base import Provider
from parley_server.providers.kind import Kind, Shared
from parley_server.settings import KindSettings, Name
from parley_server.transports.mock import CaptureFile, MockModel, MockTransport


class Mock(KindSettings):
    """The built-in offline provider: deterministic answers for tests and first steps."""

    models: dict[Name, MockModel] = Field({}, description="What each model answers, beside mock/echo.")
    capture: Path | None = Field(None, description="File that gets every request it receives, one JSON object a line.")


def card(name: str, settings: Mock, _shared: Shared) -> Provider:
    """The mock provider. Its host name is never resolved: the transport answers by itself."""
    capture = CaptureFile(settings.capture) if settings.capture else None
    return Provider(
        name=name,
        base_url="http://mock.invalid/v1",
        chat=OpenAIChat(Quirks.compatible()),
        embed=OpenAIEmbed(),
        rerank=Rerank(RerankQuirks.jina()),
        models=OpenAIModels(),
        breaks=False,
        transport=MockTransport(settings.models, capture=capture),
    )


KIND = Kind("mock", Mock, card, usual=lambda _: {})
