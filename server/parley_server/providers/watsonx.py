"""IBM watsonx.ai: the calling card."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from parley_server.core.secret import Secret
from parley_server.dialects.openai_chat import OpenAIChat, Quirks
from parley_server.dialects.openai_chat.quirks import UNCOMMON
from parley_server.dialects.watsonx import Scope, WatsonxChat, WatsonxEmbed, WatsonxModels, WatsonxRerank, error_inside
from parley_server.providers.auth import Auth, Bearer, Header, Token, TokenAuth, forms
from parley_server.providers.base import Provider
from parley_server.providers.kind import Kind, Shared
from parley_server.settings import NO_SECRET, BaseUrl, ProviderSettings, SecretRef
from parley_server.transports.base import Transport

QUIRKS = replace(
    Quirks.compatible(),
    missing=UNCOMMON | {"parallel_tool_calls", "service_tier", "strict"},
    token_limit_field="max_completion_tokens",
    top_k_field="",
    min_p_field="",
    end_user_field="",
    most_stop_sequences=4,
    stream_usage=False,  # it is always told
    documents="",
    efforts=("low", "medium", "high"),
    hiding_field="include_reasoning",
    reasoning_replay=False,
    error_inside=error_inside,
)
"""How watsonx.ai speaks chat completions, inside its own envelope."""

_GRANT = "urn:ibm:params:oauth:grant-type:apikey"
_CREDENTIALS = ("api_key", "token", "zen_api_key")


class Watsonx(ProviderSettings):
    """IBM watsonx.ai, in IBM's cloud or a cluster of one's own. Models are those of IBM, or deployment/<id>."""

    variables: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "base_url": ("WATSONX_URL", "WATSONX_API_BASE"),
        "region": ("WATSONX_REGION",),
        "api_key": ("WATSONX_APIKEY", "WATSONX_API_KEY", "WX_API_KEY"),
        "token": ("WATSONX_TOKEN",),
        "zen_api_key": ("WATSONX_ZENAPIKEY",),
        "project_id": ("WATSONX_PROJECT_ID",),
        "space_id": ("WATSONX_SPACE_ID", "WATSONX_DEPLOYMENT_SPACE_ID"),
    }

    base_url: BaseUrl | None = Field(None, description="Base URL of a cluster; that of the region if unset.")
    region: str = Field("us-south", pattern=r"^[a-z0-9-]+$", description="Region of IBM's cloud.")
    api_key: SecretRef = Field(NO_SECRET, description="API key of IBM Cloud, exchanged for tokens at iam_url.")
    token: SecretRef = Field(NO_SECRET, description="Bearer token instead of a key; nobody renews it.")
    zen_api_key: SecretRef = Field(NO_SECRET, description="Key of Cloud Pak for Data: base64 of user:key.")
    iam_url: BaseUrl = Field("https://iam.cloud.ibm.com/identity/token", description="Where keys become tokens.")
    project_id: str = Field("", description="Project that pays for the models.")
    space_id: str = Field("", description="Deployment space instead of a project.")
    api_version: str = Field("2024-10-08", pattern=r"^\d{4}-\d\d-\d\d$", description="Version of the API, a date.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if not (self.api_key or self.token or self.zen_api_key):
            raise ValueError("say who asks: api_key, token or zen_api_key")
        return self


def iam(transport: Transport, clock: Callable[[], float], url: str, key: Secret) -> Auth:
    """Tokens for an API key of IBM Cloud, each good for an hour."""
    form: forms.Fields = {"grant_type": _GRANT, "apikey": key}

    async def fetch() -> Token:
        return forms.token_of(await forms.post_form(transport, url, form), clock())

    return TokenAuth(fetch, clock)


def _auth(settings: Watsonx, shared: Shared) -> Auth:
    if settings.api_key:
        return iam(shared.transport, shared.clock, settings.iam_url, settings.api_key)
    if settings.token:
        return Bearer(settings.token)
    return Header("authorization", Secret(f"ZenApiKey {settings.zen_api_key.reveal()}"))


def card(name: str, settings: Watsonx, shared: Shared) -> Provider:
    """IBM watsonx.ai. Of several credentials the key counts first, of project and space the project."""
    scope = Scope(settings.api_version, settings.project_id, settings.space_id)
    return Provider(
        name=name,
        region=settings.region if settings.base_url is None or "region" in settings.model_fields_set else "",
        semconv_name="ibm.watsonx.ai",
        catalog="watsonx",
        base_url=settings.base_url or f"https://{settings.region}.ml.cloud.ibm.com",
        auth=_auth(settings, shared),
        headers=settings.headers,
        chat=WatsonxChat(OpenAIChat(QUIRKS), scope),
        embed=WatsonxEmbed(scope),
        rerank=WatsonxRerank(scope),
        models=WatsonxModels(scope),
        known_models=settings.models,
    )


def usual(environ: Mapping[str, str]) -> Mapping[str, Any] | None:
    """Where the environment says both who asks and who pays."""

    def told(*fields: str) -> bool:
        return any(environ.get(name, "").strip() for field in fields for name in Watsonx.variables[field])

    return {} if told(*_CREDENTIALS) and told("project_id", "space_id") else None


KIND = Kind("watsonx", Watsonx, card, usual=usual)
