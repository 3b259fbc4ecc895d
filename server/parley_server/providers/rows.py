"""Providers that follow OpenAI's wire format, each a row of a table: where it is, what it is asked, how it differs.

Adding one takes a row in `row_table.py` and nothing else: settings, calling card and kind are made from it here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, create_model

from parley_server.dialects.base import ChatDialect
from parley_server.dialects.openai_chat import OpenAIChat, Quirks
from parley_server.dialects.openai_embed import EmbedQuirks, OpenAIEmbed
from parley_server.dialects.openai_models import OpenAIModels
from parley_server.dialects.openai_responses import OpenAIResponses, ResponsesQuirks
from parley_server.dialects.rerank import Rerank, RerankQuirks
from parley_server.providers.auth import Bearer, of_keys
from parley_server.providers.base import Provider
from parley_server.providers.kind import Kind, Shared
from parley_server.settings import NO_SECRET, BaseUrl, KeyedSettings, SecretRef

_PLACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Place:
    """A setting that stands in the base URL, as `{name}`."""

    name: str
    description: str
    variables: tuple[str, ...]
    """Environment variables that usually hold it."""


@dataclass(frozen=True, slots=True)
class Row:
    """One provider. Capability is presence, as in `Provider`: None is an operation it lacks."""

    name: str
    """Of the kind, and of a provider of it that has no other: the prefix of its models."""
    description: str
    """Who that is, in one line."""
    base_url: str = ""
    """Without a trailing slash; may hold places. Empty: everybody has another."""
    key_variables: tuple[str, ...] = ()
    """Environment variables that usually hold the key, first one set wins."""
    key_needed: bool = True
    """Answers nobody without a key."""
    url_variables: tuple[str, ...] = ()
    """Environment variables that usually hold the base URL."""
    places: tuple[Place, ...] = ()

    chat: Quirks | None = field(default_factory=Quirks)
    """How its chat completions differ."""
    chat_path: str = "/chat/completions"
    responses: ResponsesQuirks | None = None
    """How its Responses API differs: what it chats with where it has no chat completions, or where that is wanted."""
    embed: EmbedQuirks | None = None
    embed_path: str = "/embeddings"
    rerank: RerankQuirks | None = None
    rerank_path: str = "/rerank"
    models_path: str = "/models"
    """Of the listing; empty: it lists nothing."""
    known_models: tuple[str, ...] = ()
    """Listed although the provider does not."""

    semconv_name: str = ""
    """`gen_ai.provider.name`, where OpenTelemetry has a value."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent with every request; names in lower case."""


class RowSettings(KeyedSettings):
    """What a provider of the table can be told. `settings_of` gives each row a class of its own, with its defaults."""

    base_url: BaseUrl
    api_key: SecretRef = NO_SECRET


def kind_of(row: Row) -> Kind:
    """The kind of provider that a row describes."""
    settings = settings_of(row)
    if row.key_needed:
        needed = ["api_key", *(place.name for place in row.places), *([] if row.base_url else ["base_url"])]
        return Kind(row.name, settings, partial(_card, row), needs=tuple(needed))
    return Kind(row.name, settings, partial(_card, row), needs=(), usual=partial(_usual_without_key, settings))


def settings_of(row: Row) -> type[RowSettings]:
    """The class of a row's settings."""
    wanted: dict[str, Any] = {
        "base_url": (BaseUrl, Field(row.base_url or ..., description="Base URL.")),
        "api_key": (
            (SecretRef, Field(description="API key."))
            if row.key_needed
            else (SecretRef, Field(NO_SECRET, description="API key, if it wants one."))
        ),
    }
    for place in row.places:
        wanted[place.name] = (Annotated[str, AfterValidator(_fits_url)], Field(description=place.description))
    if row.chat is not None:
        known = BeforeValidator(partial(_over, row.chat))
        wanted["quirks"] = (
            Annotated[Quirks, known],
            Field(row.chat, description="What else its wire format differs in."),
        )
    if row.chat is not None and row.responses is not None:
        which = "Which of its two APIs for chat is used."
        wanted["api"] = (Literal["chat", "responses"], Field("chat", description=which))
    if row.embed is not None:
        wanted["embeddings"] = (bool, Field(True, description="Whether it serves embeddings."))
    title = re.sub(r"(?:^|[^a-z0-9])([a-z0-9])", lambda match: match.group(1).upper(), row.name)
    made: type[RowSettings] = create_model(f"{title}Settings", __base__=RowSettings, __doc__=row.description, **wanted)
    usual = {place.name: place.variables for place in row.places}
    usual |= {"api_key": row.key_variables, "base_url": row.url_variables}
    made.variables = {name: variables for name, variables in usual.items() if variables}
    return made


def _card(row: Row, name: str, settings: RowSettings, _shared: Shared) -> Provider:
    base_url = settings.base_url
    for place in row.places:
        base_url = base_url.replace(f"{{{place.name}}}", getattr(settings, place.name))
    serves_embeddings = row.embed is not None and getattr(settings, "embeddings", False)
    return Provider(
        name=name,
        semconv_name=row.semconv_name,
        catalog=row.name,
        base_url=base_url,
        auth=of_keys(settings.keys, Bearer, name),
        headers={**row.headers, **settings.headers},
        chat=_chat(row, settings),
        embed=OpenAIEmbed(row.embed, path=row.embed_path) if serves_embeddings else None,
        rerank=Rerank(row.rerank, path=row.rerank_path) if row.rerank is not None else None,
        models=OpenAIModels(path=row.models_path) if row.models_path else None,
        known_models=tuple(dict.fromkeys((*settings.models, *row.known_models))),
    )


def _chat(row: Row, settings: RowSettings) -> ChatDialect | None:
    if row.responses is not None and getattr(settings, "api", "responses") == "responses":
        return OpenAIResponses(row.responses)
    if row.chat is None:
        return None
    return OpenAIChat(getattr(settings, "quirks", row.chat), path=row.chat_path)


def _over(known: Quirks, given: Any) -> Any:
    """The quirks that a configuration names, over those that are known of the provider."""
    if not isinstance(given, dict):
        return given
    return {one.name: getattr(known, one.name) for one in fields(known)} | given


def _usual_without_key(settings: type[RowSettings], environ: Mapping[str, str]) -> Mapping[str, Any] | None:
    """A server without keys is set up if anything is said of it."""
    said = (name for names in settings.variables.values() for name in names)
    return {} if any(environ.get(name, "").strip() for name in said) else None


def _fits_url(text: str) -> str:
    if not _PLACE.fullmatch(text):
        raise ValueError("it stands in a URL: letters, digits, '.', '_' and '-' only")
    return text
