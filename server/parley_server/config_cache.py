"""The `cache` section: whose answers are kept, for how long, where; and what a route says of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from parley import v1
from parley_server.pipeline.cache import CachePolicy, Policies
from parley_server.settings import Section

_HOUR, _DAY = 3600, 86_400
_MONTH = 30 * _DAY

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
    max_entry_bytes: int = Field(
        1024 * 1024, ge=1024, le=64 * 1024 * 1024, description="Largest answer that is kept, uncompressed."
    )
    memory_bytes: int = Field(
        64 * 1024 * 1024, ge=0, le=1024**4, description="Most that each process keeps in its own memory; 0: nothing."
    )

    def policies(self, routes: Mapping[str, CachePolicySettings]) -> Policies:
        """The policies of routes and of everything else."""
        return Policies(
            self._policy(CachePolicySettings()), {name: self._policy(route) for name, route in routes.items()}
        )

    def _policy(self, route: CachePolicySettings) -> CachePolicy:
        said = self.model_dump(include=set(CachePolicySettings.model_fields))
        said |= route.model_dump(exclude_none=True)
        mode = v1.ResponseCacheOptions.Mode.Value(f"MODE_{said.pop('mode').upper()}")
        return CachePolicy(mode=mode, max_entry_bytes=self.max_entry_bytes, **said)
