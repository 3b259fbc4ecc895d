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

_NAMED = re.compile(rb"(?:(?:event|id): [^\n]*\n)+data: ([^\n]+)\n\n")
_LF, _CRLF = (b"\n\n", b"\n\ndata: "), (b"\r\n\r\n", b"\r\n\r\ndata: ")  # an empty line, and one before data
_USUAL = (b"data: ", b"event: ", b"id: ")  # how events begin
_MOST_WAITING = 16 * 1024  # bytes, of the beginning of an event: what waits is looked at again with every read
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
        if self._at_start or self._after_cr:
            data = self._with_line_feeds(data)
        if self._line:
            if b"\n" not in data and b"\r" not in data:
                self._keep(data)
                return []
            data = b"".join((*self._line, data))
            self._line, self._line_size = [], 0
        payloads: list[bytes] = []
        if not self._event:
            payloads, data = _usual(data)
            if not data:
                return payloads
            if _can_wait(data):
                self._keep(data)
                return payloads
        if b"\r" in data:
            data = self._with_line_feeds(data)
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
        self._lines(b"".join(self._line).split(b"\n"), payloads)
        self._end(payloads)
        return [payload for payload in payloads if _is_whole(payload)]

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


def _usual(data: bytes) -> tuple[list[bytes], bytes]:
    """The payloads of whole events at the start of `data`, which is between two events, and what is left of it.

    Nearly always an event is a line of data and an empty one, perhaps with its name or number before: then cutting at
    these costs a third of looking at every line. Where anything is written otherwise, all is left.
    """
    blank, between = _CRLF if b"\r" in data else _LF
    end = data.rfind(blank)
    if end < 0:
        return [], data
    if data.startswith(b"data: "):
        payloads = data[6:end].split(between)
        together = b"".join(payloads)
        if b"\n" in together or b"\r" in together or b"" in payloads:
            return [], data
    elif data.startswith(_USUAL):
        pieces = _NAMED.split(data[: end + 2])
        payloads = pieces[1::2]
        if any(pieces[::2]):
            return [], data
    else:
        return [], data
    return payloads, data[end + len(blank) :]


def _can_wait(data: bytes) -> bool:
    """Whether `data` is the beginning of an event, better looked at together with its end."""
    if b"\r" in data:
        return False
    return b"\n" not in data or (len(data) < _MOST_WAITING and data.startswith(_USUAL) and b"\n\n" not in data)


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
