"""Amazon Bedrock: the calling card.

Chat goes by Converse; to Claude by InvokeModel where only Anthropic's own API can say it, and to OpenAI's models, which
Converse does not have, by the OpenAI-style endpoint.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from parley import v1
from parley_server.core.target import Target
from parley_server.dialects.anthropic import AnthropicMessages, Hosting
from parley_server.dialects.base import ChatDialect
from parley_server.dialects.bedrock import (
    MODELS,
    PROFILES,
    BedrockConverse,
    BedrockEmbed,
    BedrockModels,
    BedrockRerank,
    EventStream,
    Hosted,
    Packed,
    is_claude,
    needs_messages,
    path,
    unpacked,
)
from parley_server.dialects.openai_chat import OpenAIChat, Quirks
from parley_server.dialects.openai_responses import OpenAIResponses, ResponsesQuirks, needs_responses
from parley_server.providers.auth import Auth, Bearer
from parley_server.providers.aws import AwsSettings
from parley_server.providers.base import Provider
from parley_server.providers.kind import Kind, Shared
from parley_server.settings import NO_SECRET, BaseUrl, SecretRef

_OPENAI_PATH = "/openai/v1"
_OPENAI_NAME = re.compile(r"(^|[./])openai\.(?!gpt-oss)")
"""OpenAI's models that Converse does not have."""
_PROFILE = re.compile(r"(?:^|/)(us-gov|us|eu|apac|jp|au|ca|sa|global)\.[a-z0-9]+\.")
"""Inference profiles: whatever region they are asked in, the model may run in any of these."""


def _invoke(model: str, stream: bool) -> str:
    return path(model, "invoke-with-response-stream" if stream else "invoke")


CONVERSE = BedrockConverse()
CLAUDE = Hosted(
    AnthropicMessages(
        Hosting(
            path=_invoke,
            model_in_body=False,
            stream_in_body=False,
            version="bedrock-2023-05-31",
            betas_in_body=True,
            framing=EventStream,
            unpack=unpacked,
            shape=Packed,
        )
    ),
    "anthropic.",
    invoked=True,
)
OPENAI = Hosted(
    OpenAIChat(
        replace(Quirks.openai(), obfuscation=False, reasoning_fields=("reasoning", "reasoning_content")),
        path=f"{_OPENAI_PATH}/chat/completions",
    ),
    "openai.",
)
OPENAI_RESPONSES = Hosted(OpenAIResponses(ResponsesQuirks.mantle(), path=f"{_OPENAI_PATH}/responses"), "openai.")


class Bedrock(AwsSettings):
    """Amazon Bedrock. An API key counts before AWS credentials."""

    variables: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **AwsSettings.variables,
        "api_key": ("AWS_BEARER_TOKEN_BEDROCK",),
    }

    api_key: SecretRef = Field(NO_SECRET, description="API key of Bedrock.")
    base_url: BaseUrl = Field("", description="URL of the runtime, where it is not the region's public one.")
    control_url: BaseUrl = Field("", description="URL of the control plane, which lists models; likewise.")
    openai_url: BaseUrl = Field("", description="URL of the OpenAI-style endpoint, with /openai/v1; likewise.")
    base_models: dict[str, str] = Field({}, description="What ARNs of your own stand for: IDs of models, by ARN.")

    def _has_other_ways(self) -> bool:
        return bool(self.api_key)

    @property
    def runtime(self) -> str:
        """Where models are asked."""
        return self.base_url or f"https://bedrock-runtime.{self.region}.{self.domain}"

    @property
    def control(self) -> str:
        """Where models are listed."""
        return self.control_url or f"https://bedrock.{self.region}.{self.domain}"

    @property
    def openai(self) -> str:
        """Where OpenAI's models are asked."""
        return self.openai_url or f"https://bedrock-mantle.{self.region}.api.aws{_OPENAI_PATH}"

    def auth(self, shared: Shared) -> Auth:
        """The API key, or signatures."""
        if self.api_key:
            return Bearer(self.api_key)
        openai = f"{self.openai}/"
        return self.signed(shared, lambda url: "bedrock-mantle" if url.startswith(openai) else "bedrock")


def chat_for(request: v1.ChatRequest, target: Target) -> ChatDialect:
    """The dialect of a request; see `dialects/bedrock/choosing.py` for Claude's."""
    name = target.known_as
    if _OPENAI_NAME.search(name):
        return OPENAI_RESPONSES if needs_responses(request, target) else OPENAI
    return CLAUDE if is_claude(name) and needs_messages(request, target) else CONVERSE


def profile_of(target: Target) -> str:
    """Of a model that runs in several regions, what these are called together."""
    found = _PROFILE.search(target.known_as)
    return found[1] if found else ""


def located(settings: Bedrock) -> Callable[[str, Target], str]:
    """What `Provider.locate` wants: each path behind the host that serves it."""

    def locate(path: str, _target: Target) -> str:
        if path.startswith(_OPENAI_PATH):
            return settings.openai + path.removeprefix(_OPENAI_PATH)
        return (settings.control if path.startswith((MODELS, PROFILES)) else settings.runtime) + path

    return locate


def card(name: str, settings: Bedrock, shared: Shared) -> Provider:
    """Amazon Bedrock in one region."""
    return Provider(
        name=name,
        region=settings.region,
        region_for=profile_of,
        semconv_name="aws.bedrock",
        catalog="bedrock",
        input_tokens_header="x-amzn-bedrock-input-token-count",
        base_url=settings.runtime,
        locate=located(settings),
        auth=settings.auth(shared),
        headers=settings.headers,
        chat=CONVERSE,
        chat_for=chat_for,
        embed=BedrockEmbed(),
        rerank=BedrockRerank(),
        models=BedrockModels(),
        known_models=settings.models,
        base_models=settings.base_models,
    )


KIND = Kind("bedrock", Bedrock, card, needs=("api_key", "region"))
