"""Server-sent events as Google sends them: an error may come as bare JSON between them, without `data:`."""

from __future__ import annotations

import orjson

from parley_server.core.errors import ProtocolError
from parley_server.dialects.framing.sse import MOST_BYTES, SSE

_LARGEST_ERROR = 64 * 1024  # bytes; what is larger is looked at only at the end
_FIELDS = (b"data:", b":", b"event:", b"id:", b"retry:")


class GoogleSSE(SSE):
    """bytes → payloads. JSON that is no event counts as one once it is whole; a list, once the stream has ended."""

    def __init__(self) -> None:
        super().__init__()
        self._stray: list[bytes] = []
        self._stray_size = 0

    def finish(self) -> list[bytes]:
        """The payload of a last event without its blank line, and what stood outside of events, if it is JSON."""
        payloads = super().finish()
        stray = b"\n".join(self._stray)
        return [*payloads, stray] if _is_json(stray) else payloads

    def _lines(self, lines: list[bytes], payloads: list[bytes]) -> None:
        super()._lines(lines, payloads)
        for line in lines:
            if line and not line.startswith(_FIELDS):
                self._keep_stray(line, payloads)

    def _keep_stray(self, line: bytes, payloads: list[bytes]) -> None:
        self._stray.append(line)
        self._stray_size += len(line)
        if self._stray_size > MOST_BYTES:
            raise ProtocolError(f"the provider sent more than {MOST_BYTES} bytes outside of events")
        ends = line.endswith(b"}") and (len(self._stray) == 1 or line == b"}")
        if ends and self._stray[0].startswith(b"{") and self._stray_size < _LARGEST_ERROR:
            stray = b"\n".join(self._stray)
            if _is_json(stray):
                payloads.append(stray)
                self._stray, self._stray_size = [], 0


def _is_json(text: bytes) -> bool:
    if not text.startswith((b"{", b"[")):
        return False
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True
