"""The `callers` section: who may call, by which keys, and for which tenant.

A key is read from where its reference points and only its SHA-256 digest is kept; or the digest itself is given, and
the key is nowhere at the gateway.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, model_validator

from parley_server.config_limits import LimitList
from parley_server.core.callers import Caller, Callers, digest
from parley_server.settings import Name, Section, header_secret

_DIGEST = re.compile(r"sha256:([0-9a-fA-F]{64})")
_SHORTEST = 16  # characters: a digest hides only what cannot be guessed


@dataclass(frozen=True, slots=True)
class KeyDigest:
    """What is kept of a caller's key."""

    sha256: bytes = field(repr=False)


def _key(value: object, info: ValidationInfo) -> KeyDigest:
    if isinstance(value, KeyDigest):
        return value
    if isinstance(value, str) and value.startswith("sha256:"):
        given = _DIGEST.fullmatch(value)
        if given is None:
            raise ValueError("sha256: is followed by 64 hexadecimal digits, the SHA-256 of the key without a line end")
        return KeyDigest(bytes.fromhex(given[1]))
    key = header_secret(value, info).reveal()
    if len(key) < _SHORTEST:
        raise ValueError(f"the key has fewer than {_SHORTEST} characters; `parley-server new-key` makes a good one")
    return KeyDigest(digest(key))


CallerKey = Annotated[KeyDigest, BeforeValidator(_key)]
"""A caller's key: `env:NAME`, `file:/path`, or `sha256:` and its digest."""


class CallerSettings(Section):
    """Somebody who may call."""

    key: CallerKey | None = Field(None, description="The key it shows: env:NAME, file:/path, or sha256:DIGEST of it.")
    keys: tuple[CallerKey, ...] = Field((), description="Several, each as good as the other: so one can be replaced.")
    tenant: Name | None = Field(None, description="Whose data it is; callers of one tenant may share answers.")
    limits: LimitList | None = Field(None, description="What it may ask; `limits.each_caller` if unset, [] for all.")

    @model_validator(mode="after")
    def _has_a_key(self) -> Self:
        if not self.digests:
            raise ValueError("has no key: set `key` or `keys`")
        return self

    def belongs_to(self, name: str) -> str:
        """Its tenant, where `name` is its name."""
        return self.tenant or name

    @property
    def digests(self) -> frozenset[bytes]:
        """Of all its keys."""
        return frozenset(key.sha256 for key in (self.key, *self.keys) if key is not None)


def _callers(callers: dict[str, CallerSettings]) -> dict[str, CallerSettings]:
    if not callers:
        raise ValueError("names nobody, so nobody could call; without the section everybody may")
    seen: dict[bytes, str] = {}
    for name, caller in callers.items():
        for key in caller.digests:
            if (other := seen.setdefault(key, name)) != name:
                raise ValueError(f"{other} and {name} have the same key, so nobody could tell one from the other")
    return callers


CallersSection = Annotated[dict[Name, CallerSettings], AfterValidator(_callers)]
"""Callers by their names."""


def known_callers(section: Mapping[str, CallerSettings]) -> Callers:
    """Those who may call, as the gateway finds them."""
    found: dict[bytes, Caller] = {}
    for name, settings in section.items():
        caller = Caller(name, settings.belongs_to(name))
        found.update(dict.fromkeys(settings.digests, caller))
    return Callers(found)


def owned(section: Mapping[str, CallerSettings] | None) -> dict[str, tuple[str, LimitList | None]] | None:
    """Tenant and own limits of each caller."""
    if section is None:
        return None
    return {name: (settings.belongs_to(name), settings.limits) for name, settings in section.items()}
