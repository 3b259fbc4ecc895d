"""Azure: OpenAI's models, the many vendors' models of Foundry, and Claude on Foundry; the calling cards.

Deployments have names of the operator's choosing, and requests go by these. `deployments` says what they are, so that
the rules for families of models and the prices of the catalogue apply. No API lists deployments to a key, so what is
configured is what is listed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal, Self
from urllib.parse import quote

from pydantic import Field, model_validator

from parley import v1
from parley_server.core.target import Target
from parley_server.dialects.anthropic import AnthropicMessages
from parley_server.dialects.base import ChatDialect
from parley_server.dialects.openai_chat import OpenAIChat, Quirks
from parley_server.dialects.openai_embed import EmbedQuirks, OpenAIEmbed
from parley_server.dialects.openai_responses import Api, OpenAIResponses, ResponsesQuirks, by_request
from parley_server.providers.auth import Auth, Bearer, Header, TokenAuth, entra, of_keys
from parley_server.providers.base import Provider
from parley_server.providers.kind import Kind, Shared
from parley_server.settings import NO_SECRET, BaseUrl, KeyedSettings, SecretRef

Choice = Callable[[v1.ChatRequest, Target], ChatDialect]

OPENAI_MODELS = replace(
    Quirks.openai(),
    end_user_field="user",
    refusal_field=True,
    cache_breakpoints="",
    missing=frozenset({"prompt_cache_options"}),
    allowed_tools=False,
    obfuscation=False,  # whether it can be told not to pad depends on the API version
    documents="",  # of those that are no text, only the Responses API takes any
    reasoning_fields=("reasoning_content",),  # a deployment of unknown name may be one of DeepSeek
)
"""How OpenAI's models on Azure speak chat completions."""

OTHER_MODELS = replace(Quirks.compatible(), documents="", top_k_field="", min_p_field="", repetition_penalty_field="")
"""How the models of other vendors do: not all of them know `max_completion_tokens`."""

_OPENAI_NAME = re.compile(r"(?:gpt-?[3-9o]|o\d(?:-|$)|chatgpt|codex|computer-use|model-router)", re.IGNORECASE)
_OTHER_NAME = re.compile(
    r"(?:deepseek|mai-|grok|(?:meta-)?llama|(?:mi|mini)stral|codestral|phi-|cohere|command|jamba|kimi|qwen)",
    re.IGNORECASE,
)
_ROUTES = re.compile(r"/(?:openai(?:/v1)?|models|anthropic(?:/v1)?)$")  # what people copy behind the endpoint
_RESOURCE = r"^[A-Za-z0-9][A-Za-z0-9-]{0,62}$"
_V1 = ("", "v1", "preview", "latest")
_FIRST_WITH_RESPONSES = "2025-03-01-preview"
_WHICH_API = "Which of the two APIs for chat OpenAI's models are asked in; auto: by what a request needs."
_COGNITIVE_SERVICES = "https://cognitiveservices.azure.com/.default"


class _Azure(KeyedSettings):
    """What all of them can be told. Of the ways to authenticate the first one that is set counts."""

    host: ClassVar[str]

    endpoint: BaseUrl = Field("", description="Endpoint of the resource, such as https://NAME.openai.azure.com.")
    resource: str = Field("", pattern=rf"^$|{_RESOURCE}", description="Name of the resource, instead of its endpoint.")
    api_key: SecretRef = Field(NO_SECRET, description="API key.")
    token: SecretRef = Field(NO_SECRET, description="A token of Entra ID, which is not renewed.")
    tenant_id: str = Field("", description="Tenant of an application in Entra ID.")
    client_id: str = Field("", description="Its client ID.")
    client_secret: SecretRef = Field(NO_SECRET, description="Its client secret.")
    identity: bool = Field(False, description="Tokens by azure-identity: workload or managed identity, or a login.")
    authority: BaseUrl = Field("https://login.microsoftonline.com", description="Where tokens come from.")
    scope: str = Field(_COGNITIVE_SERVICES, description="What tokens are for.")
    deployments: dict[str, str] = Field({}, description="What the deployments are: names of the base models, by name.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if not self.endpoint and not self.resource:
            raise ValueError("say where it is: endpoint or resource")
        if not (self.api_key or self.token or self._is_client or self.identity):
            raise ValueError("say who asks: api_key, token, tenant_id with client_id and client_secret, or identity")
        if self.identity and not entra.has_identity():
            raise ValueError("identity needs azure-identity: install the extra `azure` of parley-server")
        return self

    @property
    def _is_client(self) -> bool:
        return bool(self.tenant_id and self.client_id and self.client_secret)

    @property
    def origin(self) -> str:
        """The endpoint without the route of any API."""
        return _ROUTES.sub("", self.endpoint) if self.endpoint else f"https://{self.resource}.{self.host}"

    def auth(self, name: str, shared: Shared, key_header: str = "api-key") -> Auth:
        """The keys, or a token."""
        if self.api_key:
            return of_keys(self.keys, partial(Header, key_header), name)
        if self.token:
            return Bearer(self.token)
        if not self._is_client:
            return TokenAuth(entra.default_identity(self.scope), shared.clock)
        fetch = entra.client_credentials(
            shared.transport,
            shared.clock,
            authority=self.authority,
            tenant=self.tenant_id,
            client_id=self.client_id,
            client_secret=self.client_secret,
            scope=self.scope,
        )
        return TokenAuth(fetch, shared.clock)

    def names(self) -> tuple[str, ...]:
        """What is deployed."""
        return tuple({**dict.fromkeys(self.deployments), **dict.fromkeys(self.models)})


class AzureOpenAI(_Azure):
    """OpenAI's models on Azure."""

    host: ClassVar[str] = "openai.azure.com"
    variables: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "endpoint": ("AZURE_OPENAI_ENDPOINT",),
        "api_key": ("AZURE_OPENAI_API_KEY",),
        "token": ("AZURE_OPENAI_AD_TOKEN",),
        "api_version": ("OPENAI_API_VERSION",),
        "tenant_id": ("AZURE_TENANT_ID",),
        "client_id": ("AZURE_CLIENT_ID",),
        "client_secret": ("AZURE_CLIENT_SECRET",),
    }

    api_version: str = Field("", description="A dated API version, for routes by deployment; empty: the v1 API.")
    api: Api = Field("auto", description=_WHICH_API)


class Foundry(_Azure):
    """Models of any vendor in Azure AI Foundry."""

    host: ClassVar[str] = "services.ai.azure.com"
    variables: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "endpoint": ("AZURE_AI_ENDPOINT", "AZURE_INFERENCE_ENDPOINT", "AZURE_AI_API_BASE"),
        "api_key": ("AZURE_AI_API_KEY", "AZURE_INFERENCE_CREDENTIAL"),
        "tenant_id": ("AZURE_TENANT_ID",),
        "client_id": ("AZURE_CLIENT_ID",),
        "client_secret": ("AZURE_CLIENT_SECRET",),
    }

    api_version: str = Field("", description="A dated API version, for the route /models; empty: the v1 API.")
    api: Api = Field("auto", description=_WHICH_API)


class FoundryClaude(_Azure):
    """Claude in Azure AI Foundry."""

    host: ClassVar[str] = "services.ai.azure.com"
    variables: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "endpoint": ("ANTHROPIC_FOUNDRY_BASE_URL",),
        "resource": ("ANTHROPIC_FOUNDRY_RESOURCE",),
        "api_key": ("ANTHROPIC_FOUNDRY_API_KEY",),
        "tenant_id": ("AZURE_TENANT_ID",),
        "client_id": ("AZURE_CLIENT_ID",),
        "client_secret": ("AZURE_CLIENT_SECRET",),
    }

    scope: str = Field("https://ai.azure.com/.default", description="What tokens are for.")


def by_deployment(origin: str, api_version: str) -> Callable[[str, Target], str]:
    """URLs of Azure OpenAI: the v1 API, or with a dated version the routes by deployment and those beside them."""

    def locate(path: str, target: Target) -> str:
        if api_version in _V1:
            return _v1(origin, api_version, path)
        of_deployment = path in ("/chat/completions", "/embeddings")
        deployment = f"/deployments/{quote(target.model, safe='')}" if of_deployment else ""
        return f"{origin}/openai{deployment}{path}?api-version={quote(api_version)}"

    return locate


def by_model(origin: str, api_version: str) -> Callable[[str, Target], str]:
    """URLs of Foundry: the v1 API, or with a dated version the route that all models share."""

    def locate(path: str, _target: Target) -> str:
        if api_version in _V1:
            return _v1(origin, api_version, path)
        return f"{origin}/models{path}?api-version={quote(api_version)}"

    return locate


def _v1(origin: str, api_version: str, path: str) -> str:
    preview = f"?api-version={api_version}" if api_version in ("preview", "latest") else ""
    return f"{origin}/openai/v1{path}{preview}"


def openai_choice(api: Api, api_version: str) -> Choice:
    """The dialect for OpenAI's models: by what a request needs, within what the API version has."""
    chat, responses = OpenAIChat(OPENAI_MODELS), OpenAIResponses(ResponsesQuirks.azure())
    if api_version not in _V1 and api_version < _FIRST_WITH_RESPONSES:
        return by_request(chat, responses, "chat")
    choose = by_request(chat, responses, api)
    if api != "auto":
        return choose
    return lambda request, target: responses if _has_files(request) else choose(request, target)


def _has_files(request: v1.ChatRequest) -> bool:
    """Whether there are documents that are no text, for which chat completions have no place on Azure."""
    documents = (part.document for message in request.messages for part in message.parts if part.HasField("document"))
    return any(not document.source.mime_type.startswith("text/") for document in documents)


def by_vendor(openai: Choice, others: ChatDialect, *, unknown: Literal["openai", "others"]) -> Choice:
    """OpenAI's models in one way, those of other vendors in another: by the name of the base model.

    `unknown`: deployments of which nobody says what they are, and that are not named after a model either.
    """

    def choose(request: v1.ChatRequest, target: Target) -> ChatDialect:
        if _OPENAI_NAME.match(target.known_as):
            return openai(request, target)
        is_other = target.base_model or unknown == "others" or _OTHER_NAME.match(target.model)
        return others if is_other else openai(request, target)

    return choose


def openai_card(name: str, settings: AzureOpenAI, shared: Shared) -> Provider:
    """OpenAI's models on Azure, and those of others that are deployed beside them."""
    openai = openai_choice(settings.api, settings.api_version)
    return Provider(
        name=name,
        semconv_name="azure.ai.openai",
        catalog="azure",
        base_url=settings.origin,
        locate=by_deployment(settings.origin, settings.api_version),
        auth=settings.auth(name, shared),
        headers=settings.headers,
        chat=OpenAIChat(OPENAI_MODELS),
        chat_for=by_vendor(openai, OpenAIChat(OTHER_MODELS), unknown="openai"),
        embed=OpenAIEmbed(),
        known_models=settings.names(),
        own_names=True,
        base_models=settings.deployments,
    )


def foundry_card(name: str, settings: Foundry, shared: Shared) -> Provider:
    """Models of any vendor in Azure AI Foundry."""
    others = OpenAIChat(OTHER_MODELS)
    # the route that all models share has chat completions and nothing else
    openai = openai_choice(settings.api if settings.api_version in _V1 else "chat", "")
    return Provider(
        name=name,
        semconv_name="azure.ai.inference",
        catalog="azure",
        base_url=settings.origin,
        locate=by_model(settings.origin, settings.api_version),
        auth=settings.auth(name, shared),
        headers=settings.headers,
        chat=others,
        chat_for=by_vendor(openai, others, unknown="others"),
        embed=OpenAIEmbed(EmbedQuirks(encoding_format="")),  # Cohere's models answer numbers, whatever is asked for
        known_models=settings.names(),
        own_names=True,
        base_models=settings.deployments,
    )


def claude_card(name: str, settings: FoundryClaude, shared: Shared) -> Provider:
    """Claude in Azure AI Foundry."""
    return Provider(
        name=name,
        semconv_name="azure.ai.inference",
        catalog="anthropic",
        base_url=f"{settings.origin}/anthropic/v1",
        auth=settings.auth(name, shared, key_header="x-api-key"),
        headers=settings.headers,
        chat=AnthropicMessages(),
        known_models=settings.names(),
        own_names=True,
        base_models=settings.deployments,
    )


def _usual(settings: type[_Azure]) -> Callable[[Mapping[str, str]], Mapping[str, Any] | None]:
    """Among the usual providers where the environment says both where it is and who asks."""

    def usual(environ: Mapping[str, str]) -> Mapping[str, Any] | None:
        def told(field: str) -> bool:
            return any(environ.get(name, "").strip() for name in settings.variables.get(field, ()))

        where = told("endpoint") or told("resource")
        client = told("tenant_id") and told("client_id") and told("client_secret")
        return {} if where and (told("api_key") or told("token") or client) else None

    return usual


KIND = Kind("azure", AzureOpenAI, openai_card, usual=_usual(AzureOpenAI))
FOUNDRY = Kind("azure-ai", Foundry, foundry_card, usual=_usual(Foundry))
CLAUDE = Kind("azure-anthropic", FoundryClaude, claude_card, usual=_usual(FoundryClaude))
KINDS = (KIND, FOUNDRY, CLAUDE)
