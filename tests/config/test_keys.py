"""What a provider can be told of its keys, its limits and its retries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import pytest
import yaml

from parley_server.config import Retry, load
from parley_server.config_sources import ConfigError
from parley_server.pipeline.retry import CLASSES, RetryPolicy
from parley_server.providers.auth import Bearer, Header, Keyring
from parley_server.providers.kind import Shared
from parley_server.providers.kinds import known
from parley_server.settings import KeyedSettings, Trouble
from parley_server.transports.http import HttpTransport

ENVIRON = {"A": "key-a", "B": "key-b", "OPENAI_API_KEY": "usual"}


def provider(environ: Mapping[str, str] = ENVIRON, **settings: Any) -> Any:
    return load(yaml.safe_dump({"providers": {"acme": settings}}), environ).providers["acme"]


def keys(**settings: Any) -> list[str]:
    found = provider(**settings)
    assert isinstance(found, KeyedSettings)
    return [key.reveal() for key in found.keys]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"kind": "openai"}, ["usual"]),
        ({"kind": "openai", "api_key": "env:A"}, ["key-a"]),
        ({"kind": "openai", "api_keys": ["env:A", "env:B"]}, ["key-a", "key-b"]),
        ({"kind": "openai", "api_keys": ["env:A", "env:A"]}, ["key-a"]),
        ({"kind": "openai", "api_key": "env:B", "api_keys": ["env:A", "env:B"]}, ["key-b", "key-a"]),
        ({"kind": "groq", "api_keys": ["env:A", "env:B"]}, ["key-a", "key-b"]),
        ({"kind": "ollama"}, [""]),
    ],
)
def test_keys(settings: dict[str, Any], expected: list[str]) -> None:
    assert keys(**settings) == expected


def test_keys_from_files_and_variables_of_the_gateway(tmp_path: Any) -> None:
    (tmp_path / "x").write_text("key-x\n")
    assert keys(kind="anthropic", api_keys=["env:A", f"file:{tmp_path / 'x'}"]) == ["key-a", "key-x"]
    given = load(
        "providers: {openai: {}}", {**ENVIRON, "PARLEY_PROVIDERS__OPENAI__API_KEYS": "[env:A, env:B]"}
    ).providers["openai"]
    assert isinstance(given, KeyedSettings)
    assert [key.reveal() for key in given.keys] == ["key-a", "key-b"]


def test_no_key_is_shown_and_none_is_taken_that_is_no_reference() -> None:
    assert "key-a" not in repr(provider(kind="openai", api_keys=["env:A", "env:B"]))
    with pytest.raises(ConfigError) as wrong:
        provider(kind="openai", api_keys=["env:A", "sk-written-out-0123456789"])
    assert "sk-written" not in str(wrong.value)
    assert "acme.api_keys.1: write a reference" in str(wrong.value)
    with pytest.raises(ConfigError, match="the environment variable MISSING is not set"):
        provider(kind="openai", api_keys=["env:MISSING"])


@pytest.mark.parametrize(
    ("kind", "more", "alone"),
    [
        ("openai", {}, Bearer),
        ("anthropic", {}, Header),
        ("gemini", {}, Header),
        ("cohere", {}, Bearer),
        ("mistral", {}, Bearer),
        ("openai-compatible", {"base_url": "http://127.0.0.1:1/v1"}, Bearer),
        ("ollama", {}, Bearer),
        ("tei", {"base_url": "http://127.0.0.1:1"}, Bearer),
        ("azure", {"resource": "lab"}, Header),
        ("databricks", {"host": "https://lab.example"}, Bearer),
    ],
)
async def test_kinds_that_take_several_keys(kind: str, more: dict[str, Any], alone: type[Any]) -> None:
    wire = HttpTransport()
    try:
        for several in (False, True):
            settings = provider(kind=kind, api_keys=["env:A", "env:B"][: 1 + several], **more)
            auth = known()[kind].card("acme", settings, Shared(wire)).auth
            assert isinstance(auth, Keyring if several else alone)
            if isinstance(auth, Keyring):
                assert [type(key.auth) for key in auth.keys] == [alone, alone]
    finally:
        await wire.aclose()


def test_where_a_key_means_more_than_a_key_there_is_one() -> None:
    for kind in ("replicate", "sagemaker", "bedrock"):
        with pytest.raises(ConfigError, match=r"acme\.api_keys: unknown key"):
            provider(kind=kind, api_key="env:A", api_keys=["env:B"], region="us-east-1")


def test_limits() -> None:
    limits = provider(
        kind="mock",
        limits={"requests_per_minute": 500, "models": {"large": {"tokens_per_minute": 30_000}}, "window": "bucket"},
    ).limits
    assert (limits.requests_per_minute, limits.tokens_per_minute, limits.window) == (500, None, "bucket")
    assert limits.models["large"].tokens_per_minute == 30_000
    assert provider(kind="mock").limits is None
    with pytest.raises(ConfigError, match=r"acme\.limits\.request_per_minute: unknown key; did you mean requests_per"):
        provider(kind="mock", limits={"request_per_minute": 5})
    with pytest.raises(ConfigError, match=r"acme\.limits\.tokens_per_minute"):
        provider(kind="mock", limits={"tokens_per_minute": 0})


def test_retries() -> None:
    assert set(get_args(Trouble)) == set(CLASSES.values())
    assert set(Retry().classes) == RetryPolicy().classes
    assert set(Retry().statuses) == RetryPolicy().statuses
    own = provider(kind="mock", retry={"classes": ["overloaded"], "statuses": [409], "cap": 2}).retry
    assert own.model_dump(exclude_none=True) == {"classes": ("overloaded",), "statuses": (409,), "cap": 2}


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 422, 600])
def test_statuses_that_never_pass_by_themselves_cannot_be_tried_again(status: int) -> None:
    with pytest.raises(ConfigError, match=f"{status} is not a status of something that passes by itself"):
        provider(kind="mock", retry={"statuses": [status]})
    with pytest.raises(ConfigError, match=f"{status} is not a status"):
        load(f"retry: {{statuses: [{status}]}}", {})
    with pytest.raises(ConfigError, match="classes"):
        load("retry: {classes: [quota]}", {})
