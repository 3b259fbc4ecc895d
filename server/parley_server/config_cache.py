"""The `cache` section: whose answers are kept, for how long, where; and what a route says of it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import importlib.util
from collections.abc import Mapping
from typing import Literal

from pydantic import Field, field_validator

from parley import v1
from parley_server.config_semantic import Semantic, Similarity
from parley_server.core.secret import Secret
from parley_server.pipeline.cache import CachePolicy, Policies
from parley_server.settings import NO_SECRET, SecretRef, Section

_HOUR, _DAY = 3600, 86_400
_MONTH = 30 * _DAY
_KEY = 32  # bytes of a key
_HEX = 2 * _KEY

Mode = Literal["bypass", "read_write", "read_only", "refresh", "only_if_cached"]


class CachePolicySettings(Section):
    """What a route may say of caching; what it leaves out is as in `cache`."""

    mode: Mode | None = Field(None, description="What happens to requests that do not say.")
    ttl: float | None = Field(None, gt=0, le=_MONTH, description="Seconds an answer is good for.")
    max_ttl: float | None = Field(None, gt=0, le=_MONTH, description="Most seconds that a request may ask for.")
    max_temperature: float | None = Field(None, ge=0, le=2, description="Highest temperature that is cached unasked.")
    tool_calls: bool | None = Field(None, description="Keep answers that call tools.")
    stale_while_revalidate: float | None = Field(
        None, ge=0, le=_DAY, description="Seconds after its time that an answer is given while a new one is fetched."
    )
    stale_if_error: float | None = Field(
        None, ge=0, le=_DAY, description="Seconds after its time that an answer is given where a new one fails."
    )
    similar: Similarity | None = Field(
        None, description="Whether answers to similar questions do; a number says how similar."
    )


class Cache(Section):
    """The cache of answers. Requests that ask for it are cached in any case."""

    enabled: bool = Field(True, description="Whether there is one; otherwise every request passes it by.")
    mode: Mode = Field("bypass", description="What happens to requests that do not say.")
    ttl: float = Field(_HOUR, gt=0, le=_MONTH, description="Seconds an answer is good for.")
    max_ttl: float = Field(7 * _DAY, gt=0, le=_MONTH, description="Most seconds that a request may ask for.")
    max_temperature: float = Field(
        0,
        ge=0,
        le=2,
        description="Highest temperature that is cached unasked; requests without one count as 1, unless with a seed.",
    )
    tool_calls: bool = Field(False, description="Keep answers that call tools.")
    stale_while_revalidate: float = Field(
        0, ge=0, le=_DAY, description="Seconds after its time that an answer is given while a new one is fetched."
    )
    stale_if_error: float = Field(
        0, ge=0, le=_DAY, description="Seconds after its time that an answer is given where a new one fails."
    )
    similar: Similarity = Field(
        False,
        description="Whether answers to similar questions do for requests that do not say: a number says how similar, "
        "from 0 to 1; true: as `semantic.threshold` has it.",
    )
    max_entry_bytes: int = Field(
        1024 * 1024, ge=1024, le=64 * 1024 * 1024, description="Largest answer that is kept, uncompressed."
    )
    memory_bytes: int = Field(
        64 * 1024 * 1024, ge=0, le=1024**4, description="Most that each process keeps in its own memory; 0: nothing."
    )

    semantic: Semantic = Semantic()
    keys: tuple[SecretRef, ...] = Field(
        (),
        description="Keys that everything of answers is sealed with in a shared store: 32 bytes in base64 or "
        "hexadecimal each. The first seals, all open.",
    )
    secret: SecretRef = Field(
        NO_SECRET,
        description="What makes the names of answers unguessable and signs them; the same for all gateways that share "
        "a store. From the last of `keys` if unset.",
    )

    @field_validator("keys")
    @classmethod
    def _usable(cls, keys: tuple[Secret, ...]) -> tuple[Secret, ...]:
        for number, key in enumerate(keys):
            if _key_bytes(key) is None:
                raise ValueError(f"key {number} is not 32 bytes in base64 or hexadecimal")
        if keys and importlib.util.find_spec("cryptography") is None:
            raise ValueError("needs a package that is not installed: pip install 'parley-server[encryption]'")
        return keys

    def sealing_keys(self) -> list[bytes]:
        """The keys as bytes."""
        return [key for given in self.keys if (key := _key_bytes(given)) is not None]

    def hash_secret(self) -> bytes:
        """What keys of the cache are hashed with; empty if nothing is set. A new sealing key does not change it."""
        given = self.secret.reveal().encode() if self.secret else b"".join(self.sealing_keys()[-1:])
        return hashlib.blake2b(given, digest_size=32, person=b"cache secret").digest() if given else b""

    def policies(self, routes: Mapping[str, CachePolicySettings]) -> Policies:
        """The policies of routes and of everything else."""
        return Policies(
            self._policy(CachePolicySettings()), {name: self._policy(route) for name, route in routes.items()}
        )

    def _policy(self, route: CachePolicySettings) -> CachePolicy:
        said = self.model_dump(include=set(CachePolicySettings.model_fields))
        said |= route.model_dump(exclude_none=True)
        mode = v1.ResponseCacheOptions.Mode.Value(f"MODE_{said.pop('mode').upper()}")
        similar = said.pop("similar")
        return CachePolicy(
            enabled=self.enabled,
            mode=mode,
            max_entry_bytes=self.max_entry_bytes,
            similar=similar is not False,
            min_similarity=None if isinstance(similar, bool) else similar,
            **said,
        )


def _key_bytes(key: Secret) -> bytes | None:
    """The key that is written in base64, plain or for URLs, or in hexadecimal; None if it is none."""
    text = key.reveal()
    try:
        if len(text) == _HEX:
            found = bytes.fromhex(text)
        else:
            found = base64.b64decode(text, altchars=_alphabet(text), validate=True)
    except (ValueError, binascii.Error):
        return None
    return found if len(found) == _KEY else None


def _alphabet(text: str) -> bytes:
    return b"-_" if "-" in text or "_" in text else b"+/"
