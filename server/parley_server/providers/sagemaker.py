"""Amazon SageMaker: the calling card. Models are endpoints of one's own, and speak what their containers speak.

Chat is for containers with an OpenAI-style API (vLLM, LMI, TGI with its messages API). TGI's older `generate` takes a
finished prompt, for which the gateway would have to know each model's template, so it is not offered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from pydantic import Field

from parley_server.core.target import Target
from parley_server.dialects.base import EmbedDialect
from parley_server.dialects.bedrock import LISTING, EndpointChat, EndpointEmbed, PayloadParts, SageMakerEndpoints
from parley_server.dialects.openai_chat import OpenAIChat, Quirks
from parley_server.dialects.openai_embed import OpenAIEmbed
from parley_server.dialects.tei import TEIEmbed
from parley_server.providers.aws import AwsSettings
from parley_server.providers.base import Provider
from parley_server.providers.kind import Kind, Shared
from parley_server.settings import BaseUrl

CHAT = EndpointChat(OpenAIChat(Quirks.compatible(), framing=PayloadParts))


class SageMaker(AwsSettings):
    """Endpoints of Amazon SageMaker."""

    base_url: BaseUrl = Field("", description="URL of the runtime, where it is not the region's public one.")
    control_url: BaseUrl = Field("", description="URL of the control plane, which lists endpoints; likewise.")
    list_endpoints: bool | None = Field(
        None,
        description="Ask which endpoints the account has, which takes the permission sagemaker:ListEndpoints. "
        "Unless set: if none are named here.",
    )
    embeddings: dict[str, Literal["openai", "tei"]] = Field(
        {}, description="What endpoints of embeddings speak, by name; openai unless named."
    )
    base_models: dict[str, str] = Field({}, description="What the endpoints serve: names of models, by name.")

    @property
    def runtime(self) -> str:
        """Where endpoints are asked."""
        return self.base_url or f"https://runtime.sagemaker.{self.region}.{self.domain}"

    @property
    def control(self) -> str:
        """Where they are listed."""
        return self.control_url or f"https://api.sagemaker.{self.region}.{self.domain}"

    @property
    def named(self) -> tuple[str, ...]:
        """The endpoints that are configured, each once."""
        return tuple({**dict.fromkeys(self.models), **dict.fromkeys(self.embeddings)})


def located(settings: SageMaker) -> Callable[[str, Target], str]:
    """What `Provider.locate` wants: each path behind the host that serves it."""

    def locate(path: str, _target: Target) -> str:
        return (settings.control if path == LISTING else settings.runtime) + path

    return locate


def card(name: str, settings: SageMaker, shared: Shared) -> Provider:
    """SageMaker's runtime in one region."""
    openai, tei = OpenAIEmbed(), TEIEmbed()
    listed = not settings.named if settings.list_endpoints is None else settings.list_endpoints

    def embedder(endpoint: str) -> EmbedDialect:
        return tei if settings.embeddings.get(endpoint) == "tei" else openai

    return Provider(
        name=name,
        region=settings.region,
        semconv_name="aws.sagemaker",
        base_url=settings.runtime,
        locate=located(settings),
        auth=settings.signed(shared, lambda _url: "sagemaker"),
        headers=settings.headers,
        chat=CHAT,
        embed=EndpointEmbed(embedder),
        models=SageMakerEndpoints() if listed else None,
        known_models=settings.named,
        own_names=True,
        base_models=settings.base_models,
    )


KIND = Kind("sagemaker", SageMaker, card, needs=())
