"""OpenAI: the calling card."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from parley_server.dialects.openai_chat import OpenAIChat, Quirks
from parley_server.dialects.openai_embed import OpenAIEmbed
from parley_server.dialects.openai_models import OpenAIModels
from parley_server.dialects.openai_responses import Api, OpenAIResponses, ResponsesQuirks, by_request
from parley_server.providers.auth import Bearer, of_keys
from parley_server.providers.base import Provider
from parley_server.providers.kind import Kind, Shared
from parley_server.settings import BaseUrl, KeyedSettings, SecretRef


class OpenAI(KeyedSettings):
    """OpenAI's own API."""

    variables: ClassVar = {"api_key": ("OPENAI_API_KEY",)}

    base_url: BaseUrl = Field("https://api.openai.com/v1", description="Base URL.")
    api_key: SecretRef = Field(description="API key.")
    organization: str = Field("", description="Sent as OpenAI-Organization.")
    project: str = Field("", description="Sent as OpenAI-Project.")
    api: Api = Field("auto", description="Which of its two APIs for chat is used; auto: by what a request needs.")


def card(name: str, settings: OpenAI, _shared: Shared) -> Provider:
    """OpenAI's own API."""
    chat, responses = OpenAIChat(Quirks.openai()), OpenAIResponses(ResponsesQuirks.openai())
    extra = {"openai-organization": settings.organization, "openai-project": settings.project}
    return Provider(
        name=name,
        semconv_name="openai",
        catalog="openai",
        base_url=settings.base_url,
        auth=of_keys(settings.keys, Bearer, name),
        headers=settings.headers | {header: value for header, value in extra.items() if value},
        chat=chat,
        chat_for=by_request(chat, responses, settings.api),
        embed=OpenAIEmbed(),
        models=OpenAIModels(),
        known_models=settings.models,
    )


KIND = Kind("openai", OpenAI, card)
