"""Credentials are references; the credential itself is in no message, repr, dump or log, wherever it was written."""

from __future__ import annotations

import io
import logging
import traceback
from pathlib import Path

import pytest
import structlog

from parley_server.config import Config, load
from parley_server.config_sources import ConfigError
from parley_server.providers.openai import OpenAI

KEY = "sk-proj-0123456789abcdefXYZ"


def spoken(error: BaseException) -> str:
    """All that could be shown of an exception, the ones behind it included."""
    texts = ["".join(traceback.format_exception(error))]
    while error is not None:
        texts += [str(error), repr(error), repr(vars(error))]
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return "".join(texts)


def key_of(config: Config) -> str:
    openai = config.providers["openai"]
    assert isinstance(openai, OpenAI)
    return openai.api_key.reveal()


def test_references_to_variables_and_files(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(f"{KEY}\n")
    assert key_of(load("providers: {openai: {api_key: env:MY_KEY}}", {"MY_KEY": KEY})) == KEY
    assert key_of(load(f"providers: {{openai: {{api_key: 'file:{path}'}}}}", {})) == KEY
    assert key_of(load("", {"OPENAI_API_KEY": f" {KEY}\n"})) == KEY
    override = {"PARLEY_PROVIDERS__OPENAI__API_KEY": "env:OTHER", "OTHER": KEY, "OPENAI_API_KEY": "old"}
    assert key_of(load("", override)) == KEY


def test_nothing_shows_the_credential_of_a_loaded_configuration() -> None:
    config = load("", {"OPENAI_API_KEY": KEY})
    stream = io.StringIO()
    log = structlog.wrap_logger(structlog.PrintLogger(stream))
    log.info("config", config=config, dump=config.model_dump(), providers=config.providers)
    handler = logging.StreamHandler(stream)
    logger = logging.getLogger("tests.config")
    logger.addHandler(handler)
    logger.warning("%s %r %s", config, config, config.providers["openai"])
    logger.removeHandler(handler)
    shown = [
        repr(config),
        str(config),
        f"{config.providers['openai']}",
        repr(config.model_dump()),
        repr(config.model_dump(mode="python")),
        stream.getvalue(),
        repr(dict(config.providers)),
    ]
    assert all(KEY not in text for text in shown)
    assert all("Secret(…)" in text for text in shown)
    with pytest.raises(Exception, match="serialize") as caught:
        config.model_dump_json()
    assert KEY not in spoken(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        f"providers: {{openai: {{api_key: {KEY}}}}}",
        f"providers: {{openai: {{api_key: [{KEY}]}}}}",
        f"providers: {{openai: {{apikey: {KEY}}}}}",
        f"providers: {{openai: {KEY}}}",
        f"providers: {{local: {{api_key: {KEY}}}}}",
        f"providers: {{openai: {{kind: openai, api_key: {{value: {KEY}}}}}}}",
        f"providers: {{openai: {{api_key: env:A, headers: {{Authorization: Bearer {KEY}}}}}}}",
        f"providers: {{openai: {{api_key: env:A, headers: {{x: [{KEY}]}}}}}}",
        f"providers: {{openai: {{api_key: env:A, headers: {{'x y': {KEY}}}}}}}",
        f"providers: {{openai: {{api_key: env:A, base_url: 'https://user:{KEY}@h/v1'}}}}",
        f"providers: {{openai: {{api_key: env:A, base_url: 'https://h/v1?key={KEY}'}}}}",
        f"providers:\n  openai:\n    api_key: {KEY}\n   broken: yaml\n",
        f"providers: {{openai: {{api_key: '{KEY}",
        f"log: {{level: {KEY}}}",
        f"- {KEY}",
    ],
)
def test_a_literal_credential_is_refused_and_never_echoed(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(text, {"A": "a"})
    assert KEY not in spoken(caught.value)


@pytest.mark.parametrize("value", [KEY, f"'{KEY}", f"[{KEY}]", f"{{a: {KEY}}}"])
def test_a_literal_credential_in_a_variable_is_not_echoed(value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load("", {"PARLEY_PROVIDERS__OPENAI__API_KEY": value})
    assert "PARLEY_PROVIDERS__OPENAI__API_KEY" in str(caught.value)
    assert KEY not in spoken(caught.value)


def test_what_is_missing_is_said_plainly(tmp_path: Path) -> None:
    for reference, said in (
        ("env:NOT_THERE", "the environment variable NOT_THERE is not set"),
        ("env:BLANK", "the environment variable BLANK is not set"),
        (f"file:{tmp_path}/none", f"cannot read the secret file {tmp_path}/none: No such file or directory"),
        (f"file:{tmp_path}", f"cannot read the secret file {tmp_path}: Is a directory"),
    ):
        with pytest.raises(ConfigError) as caught:
            load(f"providers: {{openai: {{api_key: '{reference}'}}}}", {"BLANK": " "})
        assert caught.value.problems == [f"providers.openai.api_key: {said}"]


@pytest.mark.parametrize(("content", "why"), [(b"", "empty"), (b" \n", "empty"), (b"\xff\xfe", "not text")])
def test_files_without_a_credential(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(ConfigError, match=why):
        load(f"providers: {{openai: {{api_key: 'file:{tmp_path}/key'}}}}", {})


@pytest.mark.parametrize("key", [f"{KEY}\nx: y", f"{KEY}é", f"{KEY}\x00", f"{KEY}\x7f"])
def test_credentials_that_no_header_can_carry(key: str) -> None:
    with pytest.raises(ConfigError, match=r"^providers\.openai\.api_key: .*header") as caught:
        load("providers: {openai: {api_key: env:MY_KEY}}", {"MY_KEY": key})
    assert KEY not in spoken(caught.value)
    assert "MY_KEY" in str(caught.value)
