"""Helpers for messages and parts."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

import parley
from parley import v1

PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)


@pytest.mark.parametrize(
    ("make", "role"),
    [
        (parley.system, v1.ROLE_SYSTEM),
        (parley.developer, v1.ROLE_DEVELOPER),
        (parley.user, v1.ROLE_USER),
        (parley.assistant, v1.ROLE_ASSISTANT),
    ],
)
def test_messages_by_author(make: Any, role: v1.Role.ValueType) -> None:
    made = make("look", parley.image(PNG), name="ada")
    assert (made.role, made.name) == (role, "ada")
    assert [part.WhichOneof("kind") for part in made.parts] == ["text", "image"]


@pytest.mark.parametrize(
    ("data", "mime_type"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
        (b"%PDF-1.7", "application/pdf"),
        (b"RIFF\0\0\0\0WAVEfmt ", "audio/wav"),
        (b"ID3\x04", "audio/mpeg"),
        (b"fLaC", "audio/flac"),
        (b"OggS", "audio/ogg"),
    ],
)
def test_bytes_tell_what_they_are(data: bytes, mime_type: str) -> None:
    assert parley.image(data).image.source == v1.MediaSource(data=data, mime_type=mime_type)


def test_bytes_that_do_not_tell_need_a_word() -> None:
    with pytest.raises(ValueError, match="mime_type"):
        parley.image(b"????")
    assert parley.audio(b"????", mime_type="audio/x").audio.source.mime_type == "audio/x"


@pytest.mark.parametrize("kind", [str, Path])
def test_files_are_read(tmp_path: Path, kind: type[str | Path]) -> None:
    picture = tmp_path / "cat.jpg"
    picture.write_bytes(PNG)  # misnamed: the content counts
    assert parley.image(kind(picture)).image.source == v1.MediaSource(data=PNG, mime_type="image/png")
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    document = parley.document(kind(text), context="c", citations=True).document
    assert document.source == v1.MediaSource(data=b"hello", mime_type="text/plain")
    assert (document.title, document.context, document.citations_enabled) == ("notes.txt", "c", True)
    assert parley.document(kind(text), title="Mine").document.title == "Mine"


def test_urls_are_left_to_the_provider() -> None:
    part = parley.document("https://example.com/a.pdf")
    assert part.document.source == v1.MediaSource(uri="https://example.com/a.pdf")
    assert part.document.title == ""
    assert not part.document.HasField("citations_enabled")


def test_data_uris_are_refused_before_the_server_does() -> None:
    with pytest.raises(ValueError, match="data: URIs"):
        parley.image("data:image/png;base64,AAAA")


def test_a_missing_file_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        parley.image(tmp_path / "nothing.png")


def test_image_detail() -> None:
    assert parley.image(PNG, detail="original").image.detail == v1.IMAGE_DETAIL_ORIGINAL
    with pytest.raises(ValueError, match="IMAGE_DETAIL_BLURRY"):
        parley.image(PNG, detail=cast(Any, "blurry"))


def test_tool_results_refer_to_calls_and_to_ids() -> None:
    call = parley.ToolCall("call_1", "weather", "{}")
    made = parley.tool_result(call, "sunny", parley.image(PNG), is_error=True)
    assert made.role == v1.ROLE_TOOL
    result = made.parts[0].tool_result
    assert (result.tool_call_id, result.name, result.is_error) == ("call_1", "weather", True)
    assert [part.WhichOneof("kind") for part in result.parts] == ["text", "image"]
    assert parley.tool_result("call_2", "x").parts[0].tool_result.tool_call_id == "call_2"
    raw = v1.ToolCall(id="call_3", name="f")
    assert parley.tool_result(raw, "x").parts[0].tool_result.name == "f"


def test_cached_marks_a_copy() -> None:
    part = parley.image(PNG)
    marked = parley.cached(part, ttl=timedelta(hours=1))
    assert marked.cache_breakpoint.ttl.ToSeconds() == 3600
    assert not part.HasField("cache_breakpoint")
    assert parley.cached("x").HasField("cache_breakpoint")
    assert not parley.cached("x").cache_breakpoint.HasField("ttl")


def test_what_is_no_part_is_refused() -> None:
    with pytest.raises(TypeError, match="not of int"):
        parley.user(cast(Any, 5))
