"""Cuts server-sent events into the payloads of their `data:` fields.

After the WHATWG standard (HTML, §9.2): CRLF, CR and LF end lines, comments and other fields are skipped, several
`data:` lines of an event are joined by LF, a byte order mark is skipped. Event names are left out because every
provider repeats them inside the payload; events without payload are left out because none gives them a meaning.
"""

from __future__ import annotations

import orjson

from parley_server.core.errors import ProtocolError

MOST_BYTES = 16 * 1024 * 1024
"""Of one line, and of all lines of one event."""

_BOM = b"\xef\xbb\xbf"


class SSE:
    """bytes → payloads. Fed any split of the same bytes it gives the same payloads."""

    def __init__(self) -> None:
        self._head = b""  # the first bytes, while they could still become a byte order mark
        self._at_start = True
        self._after_cr = False  # the last byte was CR: an LF that follows belongs to it
        self._line: list[bytes] = []  # fragments of the line that has not ended
        self._line_size = 0
        self._event: list[bytes] = []  # data lines of the event that has not ended
        self._event_size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads that `data` completes. Raises ProtocolError for an event of more than 16 MiB."""
        if self._at_start or self._after_cr or b"\r" in data:
            data = self._with_line_feeds(data)
        if b"\n" not in data:
            self._keep(data)
            return []
        if self._line:
            data = b"".join((*self._line, data))
            self._line, self._line_size = [], 0
        payloads: list[bytes] = []
        if not self._event and data.startswith(b"data: "):
            # Nearly always a line of data and an empty one in turn: then one split cuts all there is.
            end = data.rfind(b"\n\n")
            events = data[6:end].split(b"\n\ndata: ")
            if end > 0 and data.count(b"\n", 0, end) == 2 * len(events) - 2 and b"" not in events:
                payloads, data = events, data[end + 2 :]
                if not data:
                    return payloads
        *lines, rest = data.split(b"\n")
        self._lines(lines, payloads)
        self._keep(rest)
        return payloads

    def finish(self) -> list[bytes]:
        """The payload of a last event without its blank line, if it is whole; what was cut off is no event.

        The standard would drop it, but some servers end their last event with the connection. Payloads are JSON or the
        marker [DONE], so a whole one can be told from the beginning of one.
        """
        payloads: list[bytes] = []
        self._lines([b"".join(self._line)], payloads)
        self._end(payloads)
        return [payload for payload in payloads if _is_whole(payload)]

    def _with_line_feeds(self, data: bytes) -> bytes:
        """`data` with every line end as one LF, without the byte order mark."""
        if self._at_start:
            data = self._head + data
            if len(data) < len(_BOM) and _BOM.startswith(data):
                self._head = data
                return b""
            self._at_start = False
            data = data.removeprefix(_BOM)
        if not data:
            return data
        if self._after_cr:
            data = data.removeprefix(b"\n")
            self._after_cr = False
        self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _keep(self, fragment: bytes) -> None:
        if fragment:
            self._line.append(fragment)
            self._line_size += len(fragment)
            _check(self._line_size)

    def _lines(self, lines: list[bytes], payloads: list[bytes]) -> None:
        for line in lines:
            if not line:
                self._end(payloads)
            elif line.startswith(b"data:"):
                value = line[6:] if line.startswith(b"data: ") else line[5:]
                self._event.append(value)
                self._event_size += len(value)
                _check(self._event_size)

    def _end(self, payloads: list[bytes]) -> None:
        if self._event:
            payload = b"\n".join(self._event)
            self._event, self._event_size = [], 0
            if payload:
                payloads.append(payload)


def _check(size: int) -> None:
    if size > MOST_BYTES:
        raise ProtocolError(f"the provider sent an event of more than {MOST_BYTES} bytes")


def _is_whole(payload: bytes) -> bool:
    if payload == b"[DONE]":
        return True
    try:
        orjson.loads(payload)
    except orjson.JSONDecodeError:
        return False
    return payload.startswith(b"{")
