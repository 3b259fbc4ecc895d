"""Cuts server-sent events into the payloads of their `data:` fields.

After the WHATWG standard (HTML, §9.2): CRLF, CR and LF end lines, comments and other fields are skipped, several
`data:` lines of an event are joined by LF, a byte order mark is skipped. Event names are left out because nearly every
provider repeats them inside the payload; events without payload are left out because none gives them a meaning.
`NamedSSE` is for the others.
"""

from __future__ import annotations

import re

import orjson

from parley_server.core.errors import ProtocolError

MOST_BYTES = 16 * 1024 * 1024
"""Of one line, and of all lines of one event."""

_NAMED = re.compile(rb"(?:(?:(?:event|id): [^\n]*\n)+data: [^\n]+\n\n)+")
_DATA = re.compile(rb"\ndata: ([^\n]+)\n")
_BOM = b"\xef\xbb\xbf"


class _Lines:
    """What cutting into lines needs to keep."""

    def __init__(self) -> None:
        self._head = b""  # the first bytes, while they could still become a byte order mark
        self._at_start = True
        self._after_cr = False  # the last byte was CR: an LF that follows belongs to it
        self._line: list[bytes] = []  # fragments of the line that has not ended
        self._line_size = 0
        self._event: list[bytes] = []  # data lines of the event that has not ended
        self._event_size = 0

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


class SSE(_Lines):
    """bytes → payloads. Fed any split of the same bytes it gives the same payloads."""

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads that `data` completes. Raises ProtocolError for an event of more than 16 MiB."""
        if self._at_start or self._after_cr or b"\r" in data:
            if data.endswith(b"\r\n\r\n") and (whole := self._whole_pairs(data)):
                return whole
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
        elif not self._event and data.startswith((b"event: ", b"id: ")):
            # Or a name or a number, a line of data and an empty one.
            end = data.rfind(b"\n\n") + 2
            if _NAMED.fullmatch(data, 0, end):
                payloads, data = _DATA.findall(data, 0, end), data[end:]
                if not data:
                    return payloads
        *lines, rest = data.split(b"\n")
        if len(lines) > 8 and len(data) < MOST_BYTES:
            lines = self._named(lines, payloads)
        self._lines(lines, payloads)
        self._keep(rest)
        return payloads

    def _whole_pairs(self, data: bytes) -> list[bytes]:
        """The payloads, if `data` is lines of data and empty ones in turn, all ended by CRLF, between two events."""
        if self._at_start or self._after_cr or self._line or self._event or not data.startswith(b"data: "):
            return []
        events = data[6:-4].split(b"\r\n\r\ndata: ")
        regular = data.count(b"\n") == data.count(b"\r") == 2 * len(events) and b"" not in events
        return events if regular else []

    def finish(self) -> list[bytes]:
        """The payload of a last event without its blank line, if it is whole; what was cut off is no event.

        The standard would drop it, but some servers end their last event with the connection. Payloads are JSON or the
        marker [DONE], so a whole one can be told from the beginning of one.
        """
        payloads: list[bytes] = []
        self._lines([b"".join(self._line)], payloads)
        self._end(payloads)
        return [payload for payload in payloads if _is_whole(payload)]

    def _named(self, lines: list[bytes], payloads: list[bytes]) -> list[bytes]:
        """Take in events of a name, a line of data and an empty line, if `lines` are those; what is left of them.

        The other usual form: looking at every third line costs half of looking at all.
        """
        start = 0
        if self._event or not lines[0].startswith(b"event:"):  # in the middle of an event
            start = lines.index(b"") + 1 if b"" in lines else 0
            self._lines(lines[:start], payloads)
        end = len(lines) - (len(lines) - start) % 3
        data = [line[6:] for line in lines[start + 1 : end : 3] if line[:6] == b"data: "]
        names = {line[:6] for line in lines[start:end:3]}
        if len(data) * 3 != end - start or names != {b"event:"} or any(lines[start + 2 : end : 3]) or b"" in data:
            return lines[start:]
        payloads += data
        return lines[end:]

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


class NamedSSE(_Lines):
    """bytes → pairs of event name ("message" where there is none) and payload, which may be empty or any text."""

    def __init__(self) -> None:
        super().__init__()
        self._name = b""

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """The events that `data` completes. Raises ProtocolError for an event of more than 16 MiB."""
        if self._at_start or self._after_cr or b"\r" in data:
            data = self._with_line_feeds(data)
        if b"\n" in data and self._line:
            data = b"".join((*self._line, data))
            self._line, self._line_size = [], 0
        *lines, rest = data.split(b"\n")
        events: list[tuple[str, bytes]] = []
        for line in lines:
            if line.startswith(b"data:"):
                value = line[6:] if line.startswith(b"data: ") else line[5:]
                self._event.append(value)
                self._event_size += len(value)
                _check(self._event_size)
            elif line.startswith(b"event:"):
                self._name = line[6:].strip()
            elif not line:
                if self._event:
                    events.append((self._name.decode("utf-8", "replace") or "message", b"\n".join(self._event)))
                self._name, self._event, self._event_size = b"", [], 0
        self._keep(rest)
        return events

    def finish(self) -> list[tuple[str, bytes]]:
        """Nothing: an event without its blank line may have been cut anywhere, and text does not tell."""
        return []


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
