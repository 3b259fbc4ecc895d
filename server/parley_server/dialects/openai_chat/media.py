"""Images, audio and documents as parts of a message."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from parley import v1
from parley_server.core.errors import UnsupportedParameter, Violation
from parley_server.core.target import Target
from parley_server.dialects.base import Wishes, web_address
from parley_server.dialects.openai_chat.quirks import Quirks

Body = dict[str, Any]

_AUDIO_FORMATS = {
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/wave": "wav",
    "audio/vnd.wave": "wav",
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
}
_DETAILS = {v1.IMAGE_DETAIL_LOW: "low", v1.IMAGE_DETAIL_HIGH: "high", v1.IMAGE_DETAIL_ORIGINAL: "original"}


class Media:
    """Says media of one request. All methods take the path of the part, and raise UnsupportedParameter."""

    def __init__(self, target: Target, quirks: Quirks, wishes: Wishes) -> None:
        self._target = target
        self._quirks = quirks
        self._wishes = wishes

    def image(self, image: v1.ImagePart, path: str) -> Body:
        """An image by address, or as a data URL."""
        url = web_address(image.source, f"{path}.image.source", self._target)
        if url.startswith("http") and not self._quirks.image_urls:
            raise unsayable(self._target, f"{path}.image.source.uri", "images go as bytes only, not by URI")
        said: Body = {"url": url or _data_url(image.source)}
        if image.detail == v1.IMAGE_DETAIL_MEDIUM:
            self._wishes.unmet(f"{path}.image.detail", "there is no medium detail; the provider chooses")
        elif image.detail:
            said["detail"] = _DETAILS[image.detail]
        return {"type": "image_url", "image_url": said}

    def audio(self, audio: v1.AudioPart, path: str) -> Body:
        """Audio, WAV or MP3 where the server wants to know the format."""
        source, how = audio.source, self._quirks.audio
        if not how:
            raise unsayable(self._target, f"{path}.audio", "it takes no audio")
        if source.WhichOneof("source") == "uri":
            if how == "object":
                raise unsayable(self._target, f"{path}.audio.source.uri", "audio goes as bytes only, not by URI")
            url = web_address(source, f"{path}.audio.source", self._target)
            return {"type": "input_audio", "input_audio": url if how == "text" else {"data": url}}
        if how == "text":
            return {"type": "input_audio", "input_audio": b64encode(source.data).decode()}
        form = _AUDIO_FORMATS.get(source.mime_type.partition(";")[0].strip().lower())
        if form is None:
            raise unsayable(self._target, f"{path}.audio.source.mime_type", "audio is WAV or MP3 here")
        data = b64encode(source.data).decode() if how == "object" else _data_url(source)
        return {"type": "input_audio", "input_audio": {"data": data, "format": form}}

    def document(self, document: v1.DocumentPart, path: str) -> Body:
        """A document; text/* as text."""
        source, how = document.source, self._quirks.documents
        if document.citations_enabled:
            self._wishes.unmet(f"{path}.document.citations_enabled", "there are no citations into documents here")
        by_address = source.WhichOneof("source") == "uri"
        if source.mime_type.startswith("text/") and not by_address:
            above = [line for line in (document.title, document.context) if line]
            return {"type": "text", "text": "\n\n".join((*above, source.data.decode("utf-8", "replace")))}
        if not how:
            raise unsayable(self._target, f"{path}.document", "it takes no documents but text")
        if by_address and how == "file":
            raise unsayable(self._target, f"{path}.document.source.uri", "documents go as bytes only, not by URI")
        if document.context:
            self._wishes.unmet(f"{path}.document.context", "there is no place for context beside a document here")
        if how == "document_url":
            url = web_address(source, f"{path}.document.source", self._target)
            said: Body = {"type": "document_url", "document_url": url or _data_url(source)}
            if document.title:
                said["document_name"] = document.title
            return said
        name = document.title or ("document.pdf" if source.mime_type == "application/pdf" else "document")
        return {"type": "file", "file": {"filename": name, "file_data": _data_url(source)}}


def unsayable(target: Target, path: str, why: str) -> UnsupportedParameter:
    """The refusal of content that cannot be sent."""
    return UnsupportedParameter(f"{target}: {why}", violations=[Violation(path, why, "UNSUPPORTED_CONTENT")])


def _data_url(source: v1.MediaSource) -> str:
    return f"data:{source.mime_type};base64,{b64encode(source.data).decode()}"
