"""How far a stream has come."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from parley import v1


@dataclass(slots=True)
class Progress:
    """Counts of one stream, kept up to date: every callback gets the same object.

    `text_chars`, `reasoning_chars`, `arguments_chars`: characters received. `first_output`: seconds from the call to
    the first of them. `usage`: the last one reported, if any.
    """

    events: int = 0
    text_chars: int = 0
    reasoning_chars: int = 0
    arguments_chars: int = 0
    first_output: float | None = None
    usage: v1.Usage | None = None
    started: float = field(default_factory=time.monotonic, repr=False)

    @property
    def seconds(self) -> float:
        """Since the call began."""
        return time.monotonic() - self.started

    def feed(self, event: v1.StreamChatResponse) -> None:
        self.events += 1
        match event.WhichOneof("event"):
            case "part_delta":
                if self.first_output is None:
                    self.first_output = self.seconds
                delta = event.part_delta
                self.text_chars += len(delta.text)
                self.reasoning_chars += len(delta.reasoning)
                self.arguments_chars += len(delta.arguments_json)
            case "usage":
                self.usage = event.usage
            case "completed":
                self.usage = event.completed.usage
