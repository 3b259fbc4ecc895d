"""Ollama: the calling card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from parley_server.dialects.ollama import OllamaChat, OllamaEmbed, OllamaModels
from parley_server.providers.auth import Bearer, of_keys
from parley_server.providers.base import Provider
from parley_server.providers.kind import Kind, Shared
from parley_server.settings import NO_SECRET, BaseUrl, KeyedSettings, SecretRef

_USUAL_PORTS = {"ollama": "11434", "http": "80", "https": "443"}


class Ollama(KeyedSettings):
    """A local or remote Ollama."""

    base_url: BaseUrl = Field("http://localhost:11434", description="Base URL.")
    api_key: SecretRef = Field(NO_SECRET, description="API key, for ollama.com.")
    keep_alive: str | None = Field(
        None,
        pattern=r"^-?(\d+|(\d+(\.\d+)?(ms|s|m|h))+)$",
        description="How long models stay loaded behind a call, such as 10m; 0: not at all, negative: for ever.",
    )


def card(name: str, settings: Ollama, _shared: Shared) -> Provider:
    """An Ollama server, in its native dialect."""
    wish = settings.keep_alive
    keep_alive = int(wish) if wish is not None and wish.lstrip("-").isdecimal() else wish  # a bare number is seconds
    return Provider(
        name=name,
        semconv_name="ollama",
        catalog="ollama",
        base_url=settings.base_url,
        auth=of_keys(settings.keys, Bearer, name),
        headers=settings.headers,
        chat=OllamaChat(keep_alive),
        embed=OllamaEmbed(keep_alive),
        models=OllamaModels(),
        known_models=settings.models,
    )


def usual(environ: Mapping[str, str]) -> dict[str, Any]:
    """A local Ollama if it answers, or the one that its own clients would call."""
    found: dict[str, Any] = {"only_if_reachable": True}
    if host := environ.get("OLLAMA_HOST", "").strip(" \"'"):
        found["base_url"] = _url(host)
    return found


def _url(host: str) -> str:
    """The URL that Ollama's own clients would call: OLLAMA_HOST may lack scheme and port, or be where to listen."""
    scheme, separator, rest = host.rpartition("://")
    port = _USUAL_PORTS.get(scheme if separator else "ollama", "")
    authority, slash, path = rest.partition("/")
    if authority.count(":") > 1 and not authority.startswith("["):  # an IPv6 address as such
        authority = f"[{authority}]"
    name, colon, stated = authority.rpartition(":")
    if not colon or authority.endswith("]"):
        name, stated = authority, port
    name = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(name, name)  # noqa: S104  # not where we listen
    return f"{scheme or 'http'}://{name}:{stated}{slash}{path}".rstrip("/")


KIND = Kind("ollama", Ollama, card, usual=usual)
