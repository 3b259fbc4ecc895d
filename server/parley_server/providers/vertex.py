"""Vertex AI of Google Cloud: Gemini, and the models of others that are served beside it; the calling card."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Self
from urllib.parse import quote

from pydantic import Field, model_validator

from parley import v1
from parley_server.core.errors import GatewayError
from parley_server.core.target import Target
from parley_server.dialects.anthropic import AnthropicMessages
from parley_server.dialects.anthropic import Hosting as ClaudeHosting
from parley_server.dialects.base import ChatDialect, Decoder, Framing, HttpCall
from parley_server.dialects.gemini import PUBLISHED, VERTEX, GeminiChat, VertexEmbed, VertexModels, is_google_error
from parley_server.dialects.openai_chat import OpenAIChat
from parley_server.providers.auth import Auth, Bearer, Header, TokenAuth, google
from parley_server.providers.base import Provider
from parley_server.providers.kind import Kind, Shared
from parley_server.providers.row_labs import LABS
from parley_server.providers.row_presets import PASSES_ON
from parley_server.settings import NO_SECRET, BaseUrl, ProviderSettings, SecretDocument, SecretRef

_HOST = "aiplatform.googleapis.com"
_REGIONS_TOGETHER = ("us", "eu")
_NAME = r"^$|^[a-z0-9][a-z0-9:._-]*$"


def _raw_predict(publisher: str, model: str, stream: bool) -> str:
    verb = "streamRawPredict" if stream else "rawPredict"
    return f"/publishers/{publisher}/models/{quote(model, safe='@')}:{verb}"


class Partner:
    """The dialect of another vendor's model: the front of Google Cloud may refuse a call in its own words.

    `publisher`: calls go to the model's own path, and the body names the model without its version. Without it the
    dialect's paths are right.
    """

    def __init__(self, dialect: ChatDialect, publisher: str = "") -> None:
        self._dialect = dialect
        self._publisher = publisher
        self._google = GeminiChat(VERTEX)

    @property
    def framing(self) -> type[Framing]:
        return self._dialect.framing

    def encode(self, request: v1.ChatRequest, target: Target, *, stream: bool) -> HttpCall:
        """The call that the vendor's dialect makes."""
        call = self._dialect.encode(request, self._named(target), stream=stream)
        return replace(call, path=_raw_predict(self._publisher, target.model, stream)) if self._publisher else call

    def decode(self, body: bytes, target: Target) -> v1.ChatResponse:
        return self._dialect.decode(body, self._named(target))

    def decoder(self, target: Target) -> Decoder:
        return self._dialect.decoder(self._named(target))

    def error(self, status: int, headers: Mapping[str, str], body: bytes, target: Target) -> GatewayError:
        """What either of the two says."""
        speaker = self._google if is_google_error(body) else self._dialect
        return speaker.error(status, headers, body, target)

    def _named(self, target: Target) -> Target:
        return replace(target, model=target.model.partition("@")[0]) if self._publisher else target


GEMINI = GeminiChat(VERTEX)
CLAUDE = Partner(
    AnthropicMessages(
        ClaudeHosting(
            path=lambda model, stream: _raw_predict("anthropic", model, stream),
            model_in_body=False,
            version="vertex-2023-10-16",
        )
    )
)
MISTRAL = Partner(
    OpenAIChat(next(row.chat for row in LABS if row.name == "mistral" and row.chat is not None)), "mistralai"
)
OPEN_MODELS = Partner(OpenAIChat(PASSES_ON, path="/endpoints/openapi/chat/completions"))
"""Models as a service of many publishers, by publisher and name: meta/llama-…, deepseek-ai/…, openai/gpt-oss-…"""

_BY_NAME: tuple[tuple[re.Pattern[str], ChatDialect], ...] = (
    (re.compile(r"(?:google/)?gemini-|endpoints/|publishers/google/"), GEMINI),
    (re.compile(r"claude-"), CLAUDE),
    (re.compile(r"(?:mistral|ministral|codestral|magistral)-"), MISTRAL),
    (re.compile(r"[a-z0-9-]+/"), OPEN_MODELS),
)
"""The first pattern that a name begins with decides; any other name is taken for one of Google's."""


def chat_for(_request: v1.ChatRequest, target: Target) -> ChatDialect:
    """The dialect of a model, by its name."""
    return next((dialect for name, dialect in _BY_NAME if name.match(target.model)), GEMINI)


class Vertex(ProviderSettings):
    """Vertex AI of Google Cloud. Of the ways to authenticate the first one that is set counts."""

    variables: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "project": ("GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT"),
        "location": ("GOOGLE_CLOUD_LOCATION", "GOOGLE_CLOUD_REGION"),
    }

    project: str = Field("", pattern=_NAME, description="Project; that of the key if empty.")
    location: str = Field("global", pattern=_NAME, description="Region, us or eu for all regions there, or global.")
    api_version: str = Field("v1beta1", pattern=r"^v\d+[a-z0-9]*$", description="API version.")
    base_url: BaseUrl = Field("", description="Where the API is, before its version; that of the location if empty.")
    api_key: SecretRef = Field(NO_SECRET, description="API key of express mode.")
    token: SecretRef = Field(NO_SECRET, description="An access token, which is not renewed.")
    credentials: SecretDocument = Field(
        NO_SECRET,
        description="Key of a service account, or configuration of workload identity federation, as JSON. "
        "Without it: application default credentials.",
    )
    quota_project: str = Field("", pattern=_NAME, description="Project that is billed, if it is another.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.api_key:
            return self
        if self.credentials:
            google.key_document(self.credentials.reveal())
        if not self.token and not google.is_installed():
            raise ValueError("tokens of Google Cloud need google-auth: install the extra `google` of parley-server")
        if not self.project_id:
            raise ValueError("say which project, unless api_key is one of express mode")
        return self

    @property
    def project_id(self) -> str:
        """The project, perhaps as the key tells it; empty: none, which express mode allows."""
        if self.project or not self.credentials:
            return self.project
        return str(google.key_document(self.credentials.reveal()).get("project_id") or "")

    @property
    def origin(self) -> str:
        """Scheme and host."""
        if self.base_url:
            return self.base_url
        if self.location == "global" or not self.project_id:
            return f"https://{_HOST}"
        if self.location in _REGIONS_TOGETHER:
            return f"https://aiplatform.{self.location}.rep.googleapis.com"
        return f"https://{self.location}-{_HOST}"

    def auth(self, shared: Shared) -> Auth:
        """The key of express mode, or a token."""
        if self.api_key:
            return Header("x-goog-api-key", self.api_key)
        if self.token:
            return Bearer(self.token)
        return TokenAuth(google.tokens(shared.clock, self.credentials or None), shared.clock)


def below_project(settings: Vertex) -> Callable[[str, Target], str]:
    """URLs: all below a project and its location, but for the listing of what publishers have."""
    project, origin = settings.project_id, settings.origin
    place = f"/projects/{project}/locations/{settings.location}" if project else ""
    below = f"{origin}/{settings.api_version}{place}"

    def locate(path: str, _target: Target) -> str:
        listing = path.startswith(f"{PUBLISHED}?")
        return f"{origin}/v1beta1{path}" if listing else f"{below}{path}"  # the listing is in no other version

    return locate


def card(name: str, settings: Vertex, shared: Shared) -> Provider:
    """Vertex AI of Google Cloud."""
    billed = {"x-goog-user-project": settings.quota_project} if settings.quota_project else {}
    return Provider(
        name=name,
        region=settings.region or (settings.location if settings.project_id else "global"),
        semconv_name="gcp.vertex_ai",
        catalog="vertex",
        base_url=settings.origin,
        locate=below_project(settings),
        auth=settings.auth(shared),
        headers=settings.headers | billed,
        chat=GEMINI,
        chat_for=chat_for,
        embed=VertexEmbed(),
        models=VertexModels(),
        known_models=settings.models,
    )


def usual(environ: Mapping[str, str]) -> Mapping[str, Any] | None:
    """Among the usual providers where the environment names a project and says that Vertex AI is meant."""

    def told(name: str) -> str:
        return environ.get(name, "").strip()

    meant = told("GOOGLE_APPLICATION_CREDENTIALS") or told("GOOGLE_GENAI_USE_VERTEXAI").lower() in ("1", "true")
    here = meant and any(told(name) for name in Vertex.variables["project"])
    return {} if here and google.is_installed() else None


KIND = Kind("vertex", Vertex, card, usual=usual)
