"""What is to be forgotten, as rules that answers are held against when they are met.

A rule takes effect at once, whatever there is to search through, and takes with it the answers of calls that are still
under way. What falls under it are answers whose call began before the rule was known where they were made: revisions
tell that, so the clocks of gateways need not agree. Only ages are told by clocks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import orjson

from parley_server.pipeline.cache.entry import Entry

_MOST = 1000


@dataclass(frozen=True, slots=True)
class Purge:
    """Answers that meet all its conditions are gone. None or empty: no condition."""

    tenant: str | None = None
    model: str = ""
    namespace: str | None = None
    key: bytes = b""
    before: float = math.inf
    """Unix time: only what was asked for until then."""
    revision: int = 0
    """Larger than that of all purges before."""

    @property
    def spares_nothing(self) -> bool:
        """Whether all answers of a tenant are gone by it, or all there are."""
        return self.before == math.inf and not self.model and self.namespace is None and not self.key

    def hits(self, key: bytes, entry: Entry) -> bool:
        """Whether the entry under `key` is gone."""
        return (
            entry.revision < self.revision
            and entry.made <= self.before
            and (self.tenant is None or entry.tenant == self.tenant)
            and (self.namespace is None or entry.namespace == self.namespace)
            and (not self.model or self.model in (entry.target, entry.answered))
            and (not self.key or key == self.key)
        )

    def covers(self, other: Purge) -> bool:
        """Whether all that is gone by `other` is gone by this one as well."""
        return (
            self.revision >= other.revision
            and self.before >= other.before
            and (self.tenant is None or self.tenant == other.tenant)
            and (self.namespace is None or self.namespace == other.namespace)
            and (not self.model or self.model == other.model)
            and (not self.key or self.key == other.key)
        )

    def pack(self) -> bytes:
        """As bytes."""
        before = None if self.before == math.inf else self.before
        return orjson.dumps([self.tenant, self.model, self.namespace, self.key.hex(), before, self.revision])

    @classmethod
    def unpack(cls, packed: bytes) -> Purge:
        """What `pack` gave. Raises ValueError if it cannot be that."""
        match orjson.loads(packed):
            case [None | str() as tenant, str(model), None | str() as namespace, str(key), before, int(revision)]:
                until = math.inf if before is None else float(before)
                return cls(tenant, model, namespace, bytes.fromhex(key), until, revision)
        raise ValueError("not a purge")


class Purges:
    """The purges that are known here."""

    def __init__(self) -> None:
        self.revision = 0
        """Of the newest."""
        self.arrived = 0
        """How many became known, so far."""
        self._known: list[Purge] = []

    def __len__(self) -> int:
        return len(self._known)

    def add(self, purge: Purge) -> bool:
        """Take in a purge; whether it was new."""
        if any(known.covers(purge) for known in self._known):
            return False
        self.arrived += 1
        self._known = [known for known in self._known if not purge.covers(known)]
        self._known.append(purge)
        self.revision = max(self.revision, purge.revision)
        if len(self._known) > _MOST:  # the older half becomes one that forgets more than was asked for
            self._known.sort(key=lambda known: known.revision)
            old, new = self._known[: _MOST // 2], self._known[_MOST // 2 :]
            self._known = [Purge(revision=old[-1].revision), *new]
        return True

    def is_purged(self, key: bytes, entry: Entry) -> bool:
        """Whether an entry is gone."""
        return any(known.hits(key, entry) for known in self._known)

    def packed_with(self, purge: Purge, oldest: float) -> bytes:
        """All of them and another one as bytes, one a line; without those from before `oldest`, Unix time."""
        known = [one for one in self._known if one.revision >= oldest * 1000 and not purge.covers(one)]
        return b"\n".join(one.pack() for one in [*known, purge])


def unpacked(packed: bytes) -> list[Purge]:
    """What `Purge.pack` and `Purges.packed_with` gave; lines that cannot be read are left out."""
    found = []
    for line in packed.splitlines():
        try:
            found.append(Purge.unpack(line))
        except ValueError:
            continue
    return found


def next_revision(known: int, now: float) -> int:
    """A revision for a purge made now (Unix time). It goes up even if those before are lost, as time does."""
    return max(known + 1, int(now * 1000))


def numbered(purge: Purge, revision: int) -> Purge:
    """The same purge with its revision."""
    return replace(purge, revision=revision)
