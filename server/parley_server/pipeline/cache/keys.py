"""What makes two requests the same: a canonical form, and a keyed hash over it.

The canonical form is protobuf's deterministic bytes of the request, fields that this server does not know included, so
a wish of a newer client never gets the answer to a request without it. What changes no answer is left out; where the
API knows no order there is none (maps, stop sequences, allowed tools and providers, keys of provider options). The
order of messages, parts, tools and fallbacks counts: models and the router see it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import orjson

from parley import v1
from parley_server.pipeline.cache.policy import Cacheable

KEY_BYTES = 20
_LEFT_OUT = ("model", "response_cache", "metadata", "end_user_id", "idempotency_key")
_ROUTING_LEFT_OUT = ("max_attempts", "attempt_timeout", "first_output_timeout", "mid_stream_fallback", "continuation")
_REMEMBERED = 10_000  # tenants, and scopes
_FORM = b"cache 1 "  # of what is hashed; another one for whatever changes it


@dataclass(frozen=True, slots=True)
class Target:
    """What a model name stands for: `name` is provider/model or the route's; `version` differs where a route's targets
    do. `primary`: the target that is meant, empty if any of several is."""

    name: str
    version: str = ""
    primary: str = ""


class Scope(NamedTuple):
    """Within what answers are shared."""

    tenant: str
    namespace: str
    target: Target


class Keys:
    """Makes keys. `secret`: without it nobody can tell from a key what was asked; up to 64 bytes."""

    def __init__(self, secret: bytes) -> None:
        self.secret = secret
        self._tenants: dict[str, str] = {}
        self._beginnings: dict[tuple[bytes, Scope], bytes] = {}

    def chat(self, request: v1.ChatRequest, scope: Scope, *, plain: bool = False) -> bytes:
        """The key of the answer to a request. `plain`: it is known to be."""
        return self._key(b"chat", scope, _without_model(request) if plain else canonical(request))

    def inputs(self, request: v1.EmbedRequest, scope: Scope) -> Iterator[bytes]:
        """The keys of the vectors of a request, input by input."""
        shared = v1.EmbedRequest()
        shared.CopyFrom(request)
        del shared.inputs[:]
        asked = canonical(shared)
        for one in request.inputs:
            yield self._key(b"embed", scope, _told_apart([asked, one.SerializeToString(deterministic=True)]))

    def near(self, request: v1.ChatRequest, scope: Scope, *more: str | bytes) -> bytes:
        """The same for all requests of one scope that differ in nothing but the text of their last message.

        `more`: what else has to be the same. It begins with `nearby(tenant)`.
        """
        asked = v1.ChatRequest()
        asked.CopyFrom(request)
        for part in asked.messages[-1].parts:
            if part.HasField("text"):
                part.text = ""
        extra = [one.encode() if isinstance(one, str) else one for one in more]
        return self.nearby(scope.tenant) + self._key(b"near", scope, _told_apart([canonical(asked), *extra]))

    def nearby(self, tenant: str) -> bytes:
        """How all that `near` gives for a tenant begins."""
        return bytes.fromhex(self.tenant(tenant))

    def tenant(self, tenant: str) -> str:
        """What stands for a tenant in names that others may see."""
        if (name := self._tenants.get(tenant)) is None:
            if len(self._tenants) >= _REMEMBERED:
                self._tenants.clear()
            name = self._tenants[tenant] = self._hash(b"tenant", tenant.encode()).hex()[:16]
        return name

    def of_several(self, keys: list[bytes]) -> bytes:
        """One key for several together."""
        return self._hash(b"several", b"".join(keys))

    def _key(self, kind: bytes, scope: Scope, asked: bytes) -> bytes:
        beginning = self._beginnings.get((kind, scope))
        if beginning is None:
            if len(self._beginnings) >= _REMEMBERED:
                self._beginnings.clear()
            target = scope.target
            texts = (scope.tenant, scope.namespace, target.name, target.version)
            beginning = self._beginnings[kind, scope] = _told_apart([text.encode() for text in texts])
        return self._hash(kind, beginning + asked)

    def _hash(self, kind: bytes, data: bytes) -> bytes:
        return hashlib.blake2b(data, digest_size=KEY_BYTES, key=self.secret, person=_FORM + kind).digest()


def _told_apart(pieces: list[bytes]) -> bytes:
    """The pieces as one: other pieces never give the same."""
    return b"".join([len(piece).to_bytes(8, "little") + piece for piece in pieces])


def canonical(request: Cacheable) -> bytes:
    """What is asked, model aside: the same bytes for all requests that ask the same."""
    if isinstance(request, v1.ChatRequest) and is_plain(request):
        return _without_model(request)
    asked = type(request)()
    asked.CopyFrom(request)  # type: ignore[arg-type]  # they are of one class
    for name in _LEFT_OUT:
        asked.ClearField(name)  # type: ignore[arg-type]
    if asked.HasField("routing"):
        _plain_routing(asked)
    if isinstance(asked, v1.ChatRequest):
        if asked.HasField("sampling") and len(asked.sampling.stop_sequences) > 1:
            asked.sampling.stop_sequences.sort()
        if asked.HasField("tool_choice") and len(asked.tool_choice.allowed_tool_names) > 1:
            asked.tool_choice.allowed_tool_names.sort()
    for provider, options in list(asked.provider_options_json.items()):
        ordered = orjson.dumps(orjson.loads(options), option=orjson.OPT_SORT_KEYS)
        asked.provider_options_json[provider] = ordered.decode()
    return asked.SerializeToString(deterministic=True)


def _without_model(request: v1.ChatRequest) -> bytes:
    # It is the first field, and so the first in the bytes: a copy without it costs more than to cut it off.
    model = v1.ChatRequest(model=request.model).ByteSize()
    return request.SerializeToString(deterministic=True)[model:]


def is_plain(request: v1.ChatRequest) -> bool:
    """Whether nothing but the model has to be left out or put in order: then all else that it says is in its key."""
    return not (
        request.HasField("response_cache")
        or request.HasField("routing")
        or request.HasField("tool_choice")
        or request.metadata
        or request.end_user_id
        or request.idempotency_key
        or request.provider_options_json
        or len(request.sampling.stop_sequences) > 1
    )


def _plain_routing(asked: Cacheable) -> None:
    routing = asked.routing
    for name in _ROUTING_LEFT_OUT:
        routing.ClearField(name)  # type: ignore[arg-type]
    routing.allowed_providers.sort()
    routing.denied_providers.sort()
    if not routing.ByteSize():
        asked.ClearField("routing")
