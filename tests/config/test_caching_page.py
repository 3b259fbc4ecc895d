"""docs/caching.md: its configuration loads, its program runs, and what it names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from parley import v1
from parley.admin import v1 as admin
from parley.testing import Gateway
from parley_server import semconv
from parley_server.config import Config, load
from parley_server.core import errors

PAGE = (Path(__file__).parents[2] / "docs" / "caching.md").read_text("utf-8")
YAML = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
ENVIRON = {"KEY": "k", "CACHE_KEY": "ab" * 32, "CACHE_KEY_BEFORE": "A" * 43 + "=", "CACHE_SECRET": "secret"}


@pytest.mark.parametrize("block", YAML)
def test_the_examples_load(block: str) -> None:
    given = yaml.safe_load(block)
    config = load(yaml.safe_dump({"providers": {"openai": {"api_key": "env:KEY"}}, **given}), ENVIRON)
    assert given.keys() <= config.model_fields_set


def test_the_program_does_what_it_says(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    [program] = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    with Gateway() as server:
        monkeypatch.setenv("PARLEY_ADDRESS", server.address)
        exec(program, {})
    assert capsys.readouterr().out.split() == [str(v1.CacheInfo.STATUS_MISS), str(v1.CacheInfo.STATUS_HIT), "0"]


def test_settings_that_are_named_are_there() -> None:
    fields = {
        "response_cache": v1.ResponseCacheOptions.DESCRIPTOR.fields_by_name,
        "cache": {**v1.CacheInfo.DESCRIPTOR.fields_by_name, **type(Config().cache).model_fields},
        "redis": type(Config().redis).model_fields,
    }
    named = re.findall(r"`(response_cache|cache|redis)\.(\w+)", PAGE)
    assert len(named) >= 12
    for section, name in named:
        assert name in fields[section], f"{section}.{name}"


def test_words_that_are_named_are_there() -> None:
    reasons = {kind.reason for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "reason")}
    words = reasons | {*v1.ResponseCacheOptions.Mode.keys(), *v1.CacheInfo.Status.keys(), *v1.Usage.Source.keys()}
    for word in re.findall(r"`([A-Z]+(?:_[A-Z]+)+)`", PAGE):
        assert word in words | {"STALE_ANSWER"}, word
    assert {semconv.PARLEY_CACHE, semconv.PARLEY_CACHE_KEY} <= set(re.findall(r"`(parley\.cache[.\w]*)`", PAGE))


def test_every_condition_of_a_purge_is_named() -> None:
    for name in admin.PurgeCacheRequest.DESCRIPTOR.fields_by_name:
        assert name in PAGE
    for request in re.findall(r"-d '(\{.*?\})'", PAGE):
        assert set(yaml.safe_load(request)) <= set(admin.PurgeCacheRequest.DESCRIPTOR.fields_by_name)


def test_keys_that_are_none_are_told_by_their_place() -> None:
    with pytest.raises(Exception, match=r"cache\.keys: key 1 is not 32 bytes") as refused:
        load(yaml.safe_dump({"cache": {"keys": ["env:CACHE_KEY", "env:CACHE_SECRET"]}}), ENVIRON)
    assert "secret" not in str(refused.value).replace("CACHE_SECRET", "")
