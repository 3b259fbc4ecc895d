"""Cuts newline-delimited JSON into its lines."""

from __future__ import annotations

import orjson

from parley_server.core.errors import ProtocolError

MOST_BYTES = 16 * 1024 * 1024
"""Of one line."""


class NDJSON:
    """bytes → lines. Fed any split of the same bytes it gives the same lines; blank ones are no frames."""

    def __init__(self) -> None:
        self._line: list[bytes] = []  # fragments of the line that has not ended
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes. Raises ProtocolError for one of more than 16 MiB."""
        *lines, rest = data.split(b"\n")
        if lines and self._line:
            lines[0] = b"".join((*self._line, lines[0]))
            self._line, self._size = [], 0
        if rest:
            self._line.append(rest)
            self._size += len(rest)
            if self._size > MOST_BYTES:
                raise ProtocolError(f"the provider sent a line of more than {MOST_BYTES} bytes")
        return [line for line in lines if line and not line.isspace()]

    def finish(self) -> list[bytes]:
        """A last line without its newline, if it is whole JSON; what was cut off is no line."""
        line, self._line, self._size = b"".join(self._line), [], 0
        try:
            orjson.loads(line)
        except orjson.JSONDecodeError:
            return []
        return [line]
