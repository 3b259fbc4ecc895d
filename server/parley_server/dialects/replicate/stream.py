"""The event stream of a prediction as the parts of an answer: one text, without an end (see `steps.PartsDecoder`)."""

from __future__ import annotations

from collections.abc import Sequence

from parley import v1
from parley_server.core.errors import StreamInterrupted
from parley_server.core.reply import Batch
from parley_server.core.target import Target
from parley_server.dialects.parts import PartWriter
from parley_server.dialects.replicate.errors import error_inside

_TEXT = "text"


class OutputDecoder:
    """Reads events by name: `output` is more of the text as it is, `error` and `done` end it, others say nothing."""

    def __init__(self, target: Target) -> None:
        self.over = False
        """Whether `done` has come."""
        self._target = target
        self._writer = PartWriter()
        self._writer.started(target.model)
        self._writer.open(_TEXT, v1.Part(text=""))
        self._said: list[str] = []

    def feed(self, frames: Sequence[tuple[str, bytes]]) -> Batch:
        """The events of some frames. Raises the error that the provider reports."""
        for name, data in frames:
            if self.over:
                break
            if name == "output":
                self._say(data.decode("utf-8", "replace"))
            elif name == "error":
                raise error_inside(data, self._target)
            elif name == "done":
                self.over = True
                self._writer.close_all()
        return self._writer.take() if frames else []

    def rest(self, message: v1.Message) -> Batch | None:
        """What the prediction has said besides; None if it has said something else."""
        whole, said = "".join(part.text for part in message.parts), "".join(self._said)
        if not whole.startswith(said):
            return None
        self._say(whole[len(said) :])
        self._writer.close_all()
        return self._writer.take()

    def _say(self, text: str) -> None:
        self._said.append(text)
        self._writer.append(_TEXT, "text", text)

    def finish(self) -> Batch:
        """Nothing: `done` has ended the text. Raises StreamInterrupted if it never came."""
        if not self.over:
            raise StreamInterrupted("the provider's stream ended before its answer did")
        return []
