"""What goes into a conversation: messages by author, and parts for what is not plain text.

messages = [system("Be brief."), user("What is on this picture?", image("cat.png"))]
"""

from __future__ import annotations

import mimetypes
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Literal, Protocol

from parley import v1

Piece = str | v1.Part
"""A string is a text part."""

Source = str | Path | bytes
"""Where media comes from: a path, the raw bytes, or an https:// URL that the provider fetches."""

Detail = Literal["low", "medium", "high", "original"]


class Call(Protocol):
    """What a tool result refers to: `reply.tool_calls` has them, and `v1.ToolCall` is one."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...


def message(role: v1.Role.ValueType, *pieces: Piece, name: str = "") -> v1.Message:
    """A message of `role`. `name` tells participants apart where several speak in one role."""
    return v1.Message(role=role, parts=[part(piece) for piece in pieces], name=name)


def part(piece: Piece) -> v1.Part:
    """`piece` as a part."""
    match piece:
        case str():
            return v1.Part(text=piece)
        case v1.Part():
            return piece
        case _:
            raise TypeError(f"a message is made of strings and parts, not of {type(piece).__name__}")


def system(*pieces: Piece, name: str = "") -> v1.Message:
    """Instructions of whoever operates the application."""
    return message(v1.ROLE_SYSTEM, *pieces, name=name)


def developer(*pieces: Piece, name: str = "") -> v1.Message:
    """Instructions of the developer; system instructions where the provider has no such role."""
    return message(v1.ROLE_DEVELOPER, *pieces, name=name)


def user(*pieces: Piece, name: str = "") -> v1.Message:
    """What the end user says: text, images, documents, audio."""
    return message(v1.ROLE_USER, *pieces, name=name)


def assistant(*pieces: Piece, name: str = "") -> v1.Message:
    """What the model said. For a turn that a model really gave, append `reply.message`: it keeps what replay needs."""
    return message(v1.ROLE_ASSISTANT, *pieces, name=name)


def tool_result(call: Call | str, *pieces: Piece, is_error: bool = False) -> v1.Message:
    """The result of a tool call, which is given as such or by its ID. `is_error`: the tool failed, and says how."""
    match call:
        case str():
            result = v1.ToolResult(tool_call_id=call)
        case _:
            result = v1.ToolResult(tool_call_id=call.id, name=call.name)
    result.parts.extend(part(piece) for piece in pieces)
    result.is_error = is_error
    return v1.Message(role=v1.ROLE_TOOL, parts=[v1.Part(tool_result=result)])


def image(source: Source, *, detail: Detail | None = None, mime_type: str = "") -> v1.Part:
    """An image. `detail`: how closely the model should look."""
    level = v1.ImageDetail.Value(f"IMAGE_DETAIL_{detail.upper()}") if detail else v1.IMAGE_DETAIL_UNSPECIFIED
    return v1.Part(image=v1.ImagePart(source=media(source, mime_type), detail=level))


def audio(source: Source, *, mime_type: str = "") -> v1.Part:
    """A recording."""
    return v1.Part(audio=v1.AudioPart(source=media(source, mime_type)))


def document(
    source: Source, *, title: str = "", context: str = "", citations: bool | None = None, mime_type: str = ""
) -> v1.Part:
    """A document, such as a PDF or a text. `title` is the file's name if empty; `context` is told but not citable."""
    where = media(source, mime_type)
    if not title and where.WhichOneof("source") == "data" and not isinstance(source, bytes):
        title = Path(source).name
    return v1.Part(
        document=v1.DocumentPart(source=where, title=title, context=context, citations_enabled=citations),
    )


def cached(piece: Piece, *, ttl: timedelta | None = None) -> v1.Part:
    """`piece`, marked as the end of a prompt prefix that the provider may keep for `ttl`; its own default if None."""
    marked = v1.Part()
    marked.CopyFrom(part(piece))
    marked.cache_breakpoint.SetInParent()
    if ttl is not None:
        marked.cache_breakpoint.ttl.FromTimedelta(ttl)
    return marked


def media(source: Source, mime_type: str = "") -> v1.MediaSource:
    """`source` as the API wants it. Reads files. Raises ValueError where the media type cannot be told."""
    match source:
        case str() if source.startswith("data:"):
            raise ValueError("data: URIs are not accepted; pass the bytes")
        case str() if "://" in source:
            return v1.MediaSource(uri=source, mime_type=mime_type)
        case str() | Path():
            data = Path(source).read_bytes()
            mime_type = mime_type or _sniff(data) or mimetypes.guess_type(source)[0] or ""
        case _:
            data = source
            mime_type = mime_type or _sniff(data)
    if not mime_type:
        raise ValueError("what kind of media is this? Pass mime_type=, such as 'image/png'")
    return v1.MediaSource(data=data, mime_type=mime_type)


_SIGNATURES: Iterable[tuple[int, bytes, str]] = (  # offset, bytes there, media type
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF8", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (0, b"%PDF-", "application/pdf"),
    (8, b"WAVE", "audio/wav"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"\xff\xfb", "audio/mpeg"),
    (0, b"fLaC", "audio/flac"),
    (0, b"OggS", "audio/ogg"),
)


def _sniff(data: bytes) -> str:
    """The media type by the first bytes, or ""."""
    return next((kind for at, mark, kind in _SIGNATURES if data[at : at + len(mark)] == mark), "")
