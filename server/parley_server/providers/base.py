"""What a provider is: base URL, auth, and which dialect serves which operation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from parley_server.core.context import Operation
from parley_server.dialects.base import ChatDialect, EmbedDialect, ModelsDialect
from parley_server.providers.auth import Auth, Open
from parley_server.transports.base import Transport


@dataclass(frozen=True, slots=True)
class Provider:
    """A calling card. Capability is presence: `embed` is None where there are no embeddings."""

    name: str
    """Short name: prefix of model IDs, in `RouteInfo.provider`."""
    base_url: str
    """Without a trailing slash; the paths of the dialects are joined to it."""
    chat: ChatDialect | None = None
    embed: EmbedDialect | None = None
    models: ModelsDialect | None = None
    auth: Auth = field(default_factory=Open)
    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent with every request; names in lower case."""
    known_models: tuple[str, ...] = ()
    """Models named in the configuration: listed even where the provider does not list them."""
    semconv_name: str = ""
    """`gen_ai.provider.name` where OpenTelemetry has a value; the short name otherwise."""
    catalog: str = ""
    """Whose part of the catalogue describes its models; empty: nobody's."""
    transport: Transport | None = None
    """Its own wire; None: the gateway's shared HTTP client."""

    def operations(self) -> list[Operation]:
        """What it does, by presence of the dialects."""
        present: list[Operation] = []
        if self.chat is not None:
            present.append("chat")
        if self.embed is not None:
            present.append("embed")
        return present
