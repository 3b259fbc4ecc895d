"""Databricks model serving: the calling card."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from parley_server.core.target import Target
from parley_server.dialects.databricks_endpoints import LISTING, DatabricksEndpoints
from parley_server.dialects.openai_chat import OpenAIChat, Quirks
from parley_server.dialects.openai_embed import EmbedQuirks, OpenAIEmbed
from parley_server.providers.auth import Auth, Bearer, Token, TokenAuth, forms, of_keys
from parley_server.providers.base import Provider
from parley_server.providers.kind import Kind, Shared
from parley_server.settings import NO_SECRET, BaseUrl, KeyedSettings, SecretRef
from parley_server.transports.base import Transport

QUIRKS = replace(
    Quirks.compatible(),
    participant_names=False,
    empty_turns=False,
    documents="",
    min_p_field="",
    repetition_penalty_field="",
    end_user_field="",
    budget_field="thinking.budget_tokens",
    reasoning_blocks="reasoning",
    one_result_a_turn=True,  # Claude there answers 400 to several tool messages in a row
)
"""How Databricks speaks chat completions."""


class Databricks(KeyedSettings):
    """Model serving of a Databricks workspace. A token of a person, or the secret of a service principal."""

    variables: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "host": ("DATABRICKS_HOST",),
        "api_key": ("DATABRICKS_TOKEN", "DATABRICKS_API_KEY"),
        "client_id": ("DATABRICKS_CLIENT_ID",),
        "client_secret": ("DATABRICKS_CLIENT_SECRET",),
    }

    host: BaseUrl = Field(description="URL of the workspace.")
    api_key: SecretRef = Field(NO_SECRET, description="Personal access token.")
    client_id: str = Field("", description="Application ID of a service principal.")
    client_secret: SecretRef = Field(NO_SECRET, description="Its OAuth secret.")
    base_models: dict[str, str] = Field({}, description="What endpoints of your own serve: names of models, by name.")

    @field_validator("host", mode="before")
    @classmethod
    def _scheme(cls, host: Any) -> Any:
        """Databricks' own tools take a host without a scheme."""
        return f"https://{host}" if isinstance(host, str) and "://" not in host else host

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if not self.api_key and not (self.client_id and self.client_secret):
            raise ValueError("say who asks: api_key, or client_id and client_secret")
        return self


def client_credentials(transport: Transport, clock: Callable[[], float], settings: Databricks) -> Auth:
    """Tokens of a service principal, each good for an hour."""
    pair = f"{settings.client_id}:{settings.client_secret.reveal()}"
    basic = {"authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    form = {"grant_type": "client_credentials", "scope": "all-apis"}

    async def fetch() -> Token:
        return forms.token_of(await forms.post_form(transport, f"{settings.host}/oidc/v1/token", form, basic), clock())

    return TokenAuth(fetch, clock)


def card(name: str, settings: Databricks, shared: Shared) -> Provider:
    """Model serving of a Databricks workspace; models are its serving endpoints."""
    base_url = f"{settings.host}/serving-endpoints"

    def locate(path: str, _target: Target) -> str:
        return (settings.host if path == LISTING else base_url) + path

    return Provider(
        name=name,
        base_url=base_url,
        locate=locate,
        auth=of_keys(settings.keys, Bearer, name)
        if settings.api_key
        else client_credentials(shared.transport, shared.clock, settings),
        headers=settings.headers,
        chat=OpenAIChat(QUIRKS),
        embed=OpenAIEmbed(EmbedQuirks.databricks()),
        models=DatabricksEndpoints(),
        known_models=settings.models,
        own_names=True,
        base_models=settings.base_models,
    )


def usual(environ: Mapping[str, str]) -> Mapping[str, Any] | None:
    """Where the environment says both where it is and who asks."""

    def told(field: str) -> bool:
        return any(environ.get(name, "").strip() for name in Databricks.variables[field])

    asks = told("api_key") or (told("client_id") and told("client_secret"))
    return {} if told("host") and asks else None


KIND = Kind("databricks", Databricks, card, usual=usual)
