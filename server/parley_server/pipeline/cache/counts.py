"""What the cache has done so far, in this process."""

from __future__ import annotations

from dataclasses import dataclass

from parley_server.pipeline.cache.entry import Saved


@dataclass(slots=True)
class Counts:
    """Numbers of events since the start; an embedding request counts once for each input."""

    memory_hits: int = 0
    shared_hits: int = 0
    semantic_hits: int = 0
    coalesced: int = 0
    misses: int = 0
    stale_hits: int = 0
    writes: int = 0
    refused_writes: int = 0
    evictions: int = 0
    corrupt: int = 0
    store_failures: int = 0
    saved_input_tokens: int = 0
    saved_output_tokens: int = 0
    saved_nano_usd: int = 0

    def save(self, saved: Saved) -> None:
        """An answer was given that did not have to be paid for again."""
        self.saved_input_tokens += saved.input_tokens
        self.saved_output_tokens += saved.output_tokens
        self.saved_nano_usd += saved.nano_usd
