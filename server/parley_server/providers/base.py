"""What a provider is: base URL, auth, and which dialect serves which operation."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from parley import v1
from parley_server.core.context import Operation
from parley_server.core.errors import ProtocolError
from parley_server.core.target import Target
from parley_server.dialects.base import ChatDialect, EmbedDialect, ModelsDialect, RerankDialect
from parley_server.dialects.steps import SteppedChat, SteppedModels
from parley_server.providers.auth import Auth, Open
from parley_server.transports.base import Transport

_SCHEME_AND_HOST = re.compile(r"(https?)://([A-Za-z0-9.:\[\]-]+)/[!-~]*\Z")
"""Nothing that one reader of URLs could take for a host and another for a user or a path."""


@dataclass(frozen=True, slots=True)
class Provider:
    """A calling card. Capability is presence: `embed` is None where there are no embeddings."""

    name: str
    """Short name: prefix of model IDs, in `RouteInfo.provider`."""
    base_url: str
    """Without a trailing slash; the paths of the dialects are joined to it."""
    chat: ChatDialect | SteppedChat | None = None
    chat_for: Callable[[v1.ChatRequest, Target], ChatDialect] | None = None
    """Which dialect a request goes in, where a provider speaks several; must be pure. None: always `chat`."""
    embed: EmbedDialect | None = None
    rerank: RerankDialect | None = None
    models: ModelsDialect | SteppedModels | None = None
    auth: Auth = field(default_factory=Open)
    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent with every request; names in lower case."""
    locate: Callable[[str, Target], str] | None = None
    """URL for a dialect's path and a target, where it is not the path behind the base URL: a deployment in it, say."""
    hosts: tuple[str, ...] = ()
    """Hosts of its own besides that of the base URL, to which its answers may send us, key and all; ".name" stands for
    all hosts below a name."""
    known_models: tuple[str, ...] = ()
    """Models named in the configuration: listed even where the provider does not list them."""
    own_names: bool = False
    """All its models have names of the operator's choosing: it does not offer what the catalogue lists."""
    base_models: Mapping[str, str] = field(default_factory=dict)
    """By a name of the operator's choosing, what the model is: the catalogue and the rules for families go by that."""
    region: str = ""
    """Where its models are asked, in its own words and lower case; empty: as its settings say."""
    region_for: Callable[[Target], str] | None = None
    """Where one model is asked that stands for several regions, say; empty: where all are."""
    semconv_name: str = ""
    """`gen_ai.provider.name` where OpenTelemetry has a value; the short name otherwise."""
    input_tokens_header: str = ""
    """Header in which it says how many tokens were embedded, where the body does not; in lower case."""
    catalog: str = ""
    """Whose part of the catalogue describes its models; empty: nobody's."""
    breaks: bool = True
    """Left alone for a while when it fails; not where failures are scripted, and wanted every time."""
    transport: Transport | None = None
    """What answers instead of a server; None: the gateway gives it connections of its own."""

    def operations(self) -> list[Operation]:
        """What it does, by presence of the dialects."""
        present: list[Operation] = []
        if self.chat is not None:
            present.append("chat")
        if self.embed is not None:
            present.append("embed")
        if self.rerank is not None:
            present.append("rerank")
        return present

    def choose_chat(self, request: v1.ChatRequest, target: Target) -> ChatDialect:
        """The dialect for `request`. Only for providers that chat."""
        if self.chat_for is not None:
            return self.chat_for(request, target)
        if self.chat is None or isinstance(self.chat, SteppedChat):
            raise TypeError(f"{self.name} does not chat, or takes several calls for it")
        return self.chat

    def region_of(self, target: Target) -> str:
        """Where a model is asked; empty: nobody has said."""
        return (self.region_for(target) if self.region_for is not None else "") or self.region

    def url(self, path: str, target: Target) -> str:
        """Where to send a call to `path`, which may be a whole URL that the provider gave.

        Raises ProtocolError for one that is not of its own hosts: the key is not for everybody.
        """
        if path.startswith(("https://", "http://")):
            return self._own(path)
        return self.base_url + path if self.locate is None else self.locate(path, target)

    def _own(self, url: str) -> str:
        given = _SCHEME_AND_HOST.match(url)
        scheme, authority = (given[1], given[2].lower()) if given else ("", "")
        if given and url.startswith(f"{self._origin}/"):
            return url
        for own in self.hosts if scheme == "https" else ():
            if authority == own or (own.startswith(".") and authority.endswith(own)):
                return url
        raise ProtocolError(f"the provider points to a host that is not known to be its own: {authority[:100]}")

    @property
    def _origin(self) -> str:
        base = urlsplit(self.base_url)
        return f"{base.scheme}://{base.netloc}"
