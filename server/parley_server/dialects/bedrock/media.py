"""Images, audio and documents as blocks: bytes, or where they lie in S3; Bedrock fetches nothing over https."""

from __future__ import annotations

import base64
import re
from typing import Any

from parley import v1
from parley_server.core.errors import UnsupportedParameter, Violation

Block = dict[str, Any]

_IMAGES = {"image/png": "png", "image/jpeg": "jpeg", "image/jpg": "jpeg", "image/gif": "gif", "image/webp": "webp"}
_DOCUMENTS = {
    "application/pdf": "pdf",
    "text/csv": "csv",
    "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "text/html": "html",
    "text/markdown": "md",
}
_AUDIO = {
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/wave": "wav",
    "audio/aac": "aac",
    "audio/flac": "flac",
    "audio/ogg": "ogg",
    "audio/opus": "opus",
    "audio/mp4": "mp4",
    "audio/m4a": "m4a",
    "audio/x-m4a": "m4a",
    "audio/webm": "webm",
}
_BY_NAME = {"jpg": "jpeg", "htm": "html"}
"""Endings of names in S3 that are no formats."""
_EXTENSION = re.compile(r"\.([A-Za-z0-9]+)$")

_NOT_IN_NAMES = re.compile(r"[^0-9A-Za-z\s()\[\]-]+")
_LONGEST_NAME = 200


def image(part: v1.ImagePart, path: str) -> Block:
    """`{"image": …}`. Raises UnsupportedParameter for what cannot be sent."""
    form = _format(part.source, _IMAGES, "image", f"{path}.image.source")
    return {"image": {"format": form, "source": _source(part.source, f"{path}.image.source")}}


def audio(part: v1.AudioPart, path: str) -> Block:
    """`{"audio": …}`. Raises UnsupportedParameter for what cannot be sent."""
    form = _format(part.source, _AUDIO, "audio", f"{path}.audio.source")
    return {"audio": {"format": form, "source": _source(part.source, f"{path}.audio.source")}}


def document(part: v1.DocumentPart, name: str, path: str) -> Block:
    """`{"document": …}` under a name that Bedrock takes. Raises UnsupportedParameter for what cannot be sent."""
    here = f"{path}.document.source"
    mime = _mime(part.source)
    is_text = mime.startswith("text/") and mime not in _DOCUMENTS
    form = "txt" if is_text else _format(part.source, _DOCUMENTS, "document", here)
    block: Block = {"format": form, "name": name, "source": _source(part.source, here)}
    if part.context:
        block["context"] = part.context
    if part.HasField("citations_enabled"):
        block["citations"] = {"enabled": part.citations_enabled}
    return {"document": block}


class Names:
    """Names of documents: Bedrock wants one for each, all different, of letters, digits, spaces, () [] and hyphens."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def given(self, title: str) -> str:
        """The name for a document that is called `title`: as near to it as Bedrock allows; neutral without one."""
        asked = " ".join(_NOT_IN_NAMES.sub(" ", title).split())[:_LONGEST_NAME].rstrip()
        number = 1 if asked else len(self._taken) + 1
        name = asked or f"Document {number}"
        while name in self._taken:
            number += 1
            name = f"{asked[: _LONGEST_NAME - 8]} ({number})" if asked else f"Document {number}"
        self._taken.add(name)
        return name


def _mime(source: v1.MediaSource) -> str:
    return source.mime_type.partition(";")[0].strip().lower()


def _format(source: v1.MediaSource, formats: dict[str, str], what: str, path: str) -> str:
    mime = _mime(source)
    if mime in formats:
        return formats[mime]
    ending = _EXTENSION.search(source.uri) if source.WhichOneof("source") == "uri" and not mime else None
    if ending:
        form = ending[1].lower()
        form = _BY_NAME.get(form, form)
        if form in formats.values() or (what == "document" and form == "txt"):
            return form
    problem = f"Converse takes no {what} of the type {mime!r}: it knows {', '.join(sorted(set(formats.values())))}"
    raise UnsupportedParameter(problem, violations=[Violation(f"{path}.mime_type", problem, "UNSUPPORTED_MEDIA_TYPE")])


def _source(source: v1.MediaSource, path: str) -> Block:
    if source.WhichOneof("source") != "uri":
        return {"bytes": base64.b64encode(source.data).decode("ascii")}
    if source.uri.startswith("s3://"):
        return {"s3Location": {"uri": source.uri}}
    problem = "Bedrock fetches nothing over https: send the bytes"
    raise UnsupportedParameter(problem, violations=[Violation(f"{path}.uri", problem, "UNSUPPORTED_URI")])
