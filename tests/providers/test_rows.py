"""The table of providers that follow OpenAI: each row makes settings, a kind and a calling card."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest
from pydantic import ValidationError

from parley import v1
from parley_server.config import load
from parley_server.config_sources import ConfigError
from parley_server.core.target import Target
from parley_server.dialects.openai_chat import OpenAIChat, Quirks
from parley_server.dialects.openai_chat.quirks import EFFORTS
from parley_server.dialects.openai_embed import EmbedQuirks
from parley_server.dialects.openai_responses import OpenAIResponses
from parley_server.providers import openai_compatible
from parley_server.providers.base import Provider
from parley_server.providers.kinds import BUILT_IN
from parley_server.providers.row_table import ROWS
from parley_server.providers.rows import Place, Row, kind_of, settings_of
from parley_server.transports.base import Outgoing
from tests.providers.cards import made

PLACES = {"account_id": "abc123", "account": "org-name"}
BY_NAME = {row.name: row for row in ROWS}
each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


def given(row: Row) -> dict[str, Any]:
    """Settings that have no default."""
    settings = {place.name: PLACES[place.name] for place in row.places}
    return settings if row.base_url else settings | {"base_url": "https://own.example/v1"}


def card(name: str, **settings: Any) -> Provider:
    row = BY_NAME[name]
    return made(kind_of(row), name, **{**given(row), **settings})


def variables(row: Row) -> dict[str, str]:
    """An environment in which the row is set up."""
    environ = {place.variables[0]: PLACES[place.name] for place in row.places}
    if row.key_variables:
        environ[row.key_variables[0]] = "k-1"
    if not row.base_url:
        environ[row.url_variables[0]] = "https://own.example/v1"
    return environ


def test_names_are_unique_and_those_of_kinds() -> None:
    kinds = [kind.name for kind in BUILT_IN]
    assert len(kinds) == len(set(kinds))
    assert {row.name for row in ROWS} < set(kinds)


def test_nobody_shares_a_key() -> None:
    seen: dict[str, str] = {}
    for row in ROWS:
        for name in row.key_variables:
            assert seen.setdefault(name, row.name) == row.name


@each_row
def test_a_row_makes_a_card(row: Row) -> None:
    provider = card(row.name)
    assert (provider.name, provider.catalog) == (row.name, row.name)
    url = urlsplit(provider.base_url)
    assert url.scheme in ("http", "https")
    assert url.hostname
    assert not any(character in provider.base_url for character in "{}?#")
    assert not provider.base_url.endswith("/")
    assert row.key_needed is (url.scheme == "https")  # what people run themselves is without both, by default
    expected = [
        operation
        for operation, there in (
            ("chat", row.chat or row.responses),
            ("embed", row.embed),
            ("rerank", row.rerank),
        )
        if there is not None
    ]
    assert provider.operations() == expected != []
    assert all(name == name.lower() for name in provider.headers)
    if row.models_path:
        assert provider.models is not None
    else:
        assert provider.known_models or row.name in ("cloudflare", "snowflake")  # the catalogue knows theirs


@each_row
def test_the_key_goes_as_a_bearer(row: Row) -> None:
    provider = card(row.name)
    headers = asyncio.run(provider.auth.headers(Outgoing("POST", provider.base_url, {}, b"")))
    assert headers == {"authorization": "Bearer k"}


@each_row
def test_without_a_key(row: Row) -> None:
    settings = settings_of(row)
    said = {"kind": row.name, **given(row)}
    if row.key_needed:
        with pytest.raises(ValidationError, match="api_key"):
            settings.model_validate(said, context={"environ": {}})
        return
    provider = kind_of(row).card(row.name, settings.model_validate(said, context={"environ": {}}), None)  # type: ignore[arg-type]
    assert asyncio.run(provider.auth.headers(Outgoing("POST", provider.base_url, {}, b""))) == {}


@each_row
def test_usual_variables_are_all_it_takes(row: Row) -> None:
    environ = variables(row)
    config = load("", environ)
    assert row.name in config.providers
    assert row.name not in load("", {}).providers
    for missing in environ:
        rest = {name: value for name, value in environ.items() if name != missing}
        assert row.name not in load("", rest).providers
    for url in row.url_variables:
        named = load("", environ | {url: "http://elsewhere/v1/"}).providers[row.name]
        assert vars(named)["base_url"] == "http://elsewhere/v1"


@each_row
def test_every_other_variable_of_the_key_does_too(row: Row) -> None:
    first, *others = row.key_variables
    for name in others:
        environ = variables(row)
        environ[name] = environ.pop(first)
        assert row.name in load("", environ).providers


@each_row
def test_a_row_is_encoded_and_located(row: Row) -> None:
    provider = card(row.name)
    target = Target(row.name, "some-model")
    if provider.chat is not None:
        request = v1.ChatRequest(messages=[v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text="hi")])])
        call = provider.choose_chat(request, target).encode(request, target, stream=True)
        path = row.chat_path if row.chat is not None else "/responses"
        assert provider.url(call.path, target) == provider.base_url + path
        assert call.warnings == ()
    if provider.embed is not None:
        embed = provider.embed.encode(v1.EmbedRequest(inputs=[v1.EmbedInput(text="hi")]), target)
        assert provider.url(embed.path, target) == provider.base_url + row.embed_path
    if provider.rerank is not None:
        rerank = provider.rerank.encode(v1.RerankRequest(query="q", documents=["d"]), target)
        assert provider.url(rerank.path, target) == provider.base_url + row.rerank_path


@each_row
def test_levels_of_effort_are_levels_and_in_order(row: Row) -> None:
    if row.chat is None:
        return
    for levels in (row.chat.efforts, *(variant.efforts or () for variant in row.chat.variants)):
        assert list(levels) == sorted(levels, key=EFFORTS.index)


def test_places_stand_in_the_url() -> None:
    assert card("cloudflare").base_url == "https://api.cloudflare.com/client/v4/accounts/abc123/ai/v1"
    assert card("snowflake").base_url == "https://org-name.snowflakecomputing.com/api/v2/cortex/v1"


@pytest.mark.parametrize("place", ["", "a/b", "a b", "../x", "{x}", "a?b"])
def test_places_are_bare_names(place: str) -> None:
    with pytest.raises(ValidationError, match="account_id"):
        card("cloudflare", account_id=place)


def test_some_quirks_can_be_said_otherwise_and_the_others_stay() -> None:
    row = BY_NAME["mistral"]
    text = "providers: {mistral: {api_key: env:K, quirks: {short_tool_ids: false, efforts: [none, low, high]}}}"
    quirks = vars(load(text, {"K": "k"}).providers["mistral"])["quirks"]
    assert row.chat is not None
    assert quirks == replace(row.chat, short_tool_ids=False, efforts=("none", "low", "high"))


def test_quirks_that_there_are_not_are_named() -> None:
    with pytest.raises(ConfigError, match=r"providers\.groq\.quirks\.seed_feld: unknown key; did you mean seed_field"):
        load("providers: {groq: {api_key: env:K, quirks: {seed_feld: x}}}", {"K": "k"})
    with pytest.raises(ConfigError, match=r"providers\.groq\.quirks\.audio"):
        load("providers: {groq: {api_key: env:K, quirks: {audio: loud}}}", {"K": "k"})


def test_headers_and_models_of_the_configuration_add_to_those_of_the_row() -> None:
    provider = card("github", headers={"X-Team": "a"}, models=["mine"])
    assert provider.headers == {"x-github-api-version": "2022-11-28", "x-team": "a"}
    assert provider.known_models == ("mine",)
    assert card("zai", models=["mine"]).known_models[:2] == ("mine", "glm-5.3")


def test_embeddings_can_be_left_out() -> None:
    assert card("vllm", embeddings=False).operations() == ["chat", "rerank"]
    with pytest.raises(ValidationError, match="embeddings"):
        card("cerebras", embeddings=True)


def test_one_of_two_apis_for_chat() -> None:
    assert isinstance(card("xai").chat, OpenAIChat)
    assert isinstance(card("xai", api="responses").chat, OpenAIResponses)
    assert isinstance(card("perplexity").chat, OpenAIResponses)
    with pytest.raises(ValidationError, match="api"):
        card("perplexity", api="responses")


@pytest.mark.parametrize(
    ("name", "semconv"),
    [
        ("groq", "groq"),
        ("deepseek", "deepseek"),
        ("mistral", "mistral_ai"),
        ("xai", "x_ai"),
        ("perplexity", "perplexity"),
        ("together", ""),
    ],
)
def test_names_for_telemetry(name: str, semconv: str) -> None:
    assert card(name).semconv_name == semconv


def test_the_row_without_defaults() -> None:
    kind = openai_compatible.KIND
    assert kind.usually({"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "http://h"}) is None
    with pytest.raises(ValidationError, match="base_url"):
        made(kind, "lab")
    provider = made(kind, "lab", base_url="http://h/v1/")
    assert (provider.name, provider.base_url, provider.operations()) == ("lab", "http://h/v1", ["chat", "embed"])


def test_a_row_of_ones_own_takes_a_row_and_nothing_else() -> None:
    row = Row(
        "acme",
        "Acme.",
        "https://{region}.acme.example/v1",
        ("ACME_KEY",),
        places=(Place("region", "Region.", ("ACME_REGION",)),),
        chat=Quirks(seed_field="random_seed"),
        chat_path="/talk",
        embed=EmbedQuirks.plain(),
    )
    kind = kind_of(row)
    environ = {"ACME_KEY": "secret", "ACME_REGION": "eu-1"}
    assert kind.usually(environ) == {}
    assert kind.usually({"ACME_KEY": "secret"}) is None
    settings = load("providers: {acme: }", environ, {"acme": kind}).providers["acme"]
    assert "secret" not in repr(settings)
    assert type(settings).__doc__ == "Acme."
    provider = kind.card("acme", settings, None)  # type: ignore[arg-type]
    assert provider.url("/talk", Target("acme", "m")) == "https://eu-1.acme.example/v1/talk"


# ---------------------------------------------------------------------------------------------- what rows have to know


def said(name: str, request: v1.ChatRequest, model: str = "some-model") -> tuple[dict[str, Any], set[str]]:
    """The body that a row's dialect makes, without model and messages, and the fields that it leaves out."""
    target = Target(name, model)
    if not request.messages:
        request.messages.add(role=v1.ROLE_USER, parts=[v1.Part(text="hi")])
    call = card(name).choose_chat(request, target).encode(request, target, stream=False)
    body = json.loads(call.body)
    del body["messages"], body["model"]
    return body, {warning.field for warning in call.warnings}


def effort(level: str) -> v1.ChatRequest:
    return v1.ChatRequest(reasoning=v1.ReasoningOptions(effort=f"REASONING_EFFORT_{level.upper()}"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "model", "level", "body", "missing"),
    [
        ("deepseek", "deepseek-v4-flash", "none", {"thinking": {"type": "disabled"}}, set()),
        (
            "deepseek",
            "deepseek-v4-flash",
            "medium",
            {"thinking": {"type": "enabled"}, "reasoning_effort": "low"},
            {"reasoning.effort"},
        ),
        ("zai", "glm-5.3", "none", {"reasoning_effort": "low"}, {"reasoning.effort"}),
        ("zai", "glm-4.7", "none", {"thinking": {"type": "disabled"}}, set()),
        ("moonshot", "kimi-k3", "max", {"reasoning_effort": "max"}, set()),
        ("moonshot", "kimi-k2.6", "none", {"thinking": {"type": "disabled"}}, set()),
        ("moonshot", "kimi-k2.6", "high", {"thinking": {"type": "enabled"}}, {"reasoning.effort"}),
        ("dashscope", "qwen3-max", "none", {"enable_thinking": False}, set()),
        ("openrouter", "openai/gpt-5.1", "xhigh", {"reasoning": {"effort": "xhigh"}}, set()),
        ("xai", "grok-4.5", "none", {"reasoning_effort": "low"}, {"reasoning.effort"}),
        ("xai", "grok-4.20-reasoning", "high", {}, {"reasoning.effort"}),
        ("groq", "openai/gpt-oss-120b", "high", {"reasoning_effort": "high"}, set()),
        ("groq", "qwen/qwen3-32b", "none", {"reasoning_effort": "none"}, set()),
        ("groq", "llama-3.3-70b-versatile", "high", {}, {"reasoning.effort"}),
        ("cerebras", "gpt-oss-120b", "none", {"reasoning_effort": "low"}, {"reasoning.effort"}),
        ("mistral", "mistral-small-latest", "medium", {"reasoning_effort": "high"}, {"reasoning.effort"}),
        ("vllm", "qwen3", "none", {"chat_template_kwargs": {"enable_thinking": False}}, set()),
        ("together", "x", "none", {"reasoning": {"enabled": False}}, set()),
    ],
)
def test_efforts(name: str, model: str, level: str, body: dict[str, Any], missing: set[str]) -> None:
    assert said(name, effort(level), model) == (body, missing)


def test_models_that_only_stream() -> None:
    request = v1.ChatRequest(messages=[v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text="hi")])])
    for model, streams in (
        ("qwq-plus", True),
        ("qwen3-235b-a22b", True),
        ("qwen3-30b-a3b-thinking-2507", True),
        ("qwen3-omni-flash", True),
        ("qwen3-max", None),
        ("qwen-plus", None),
    ):
        target = Target("dashscope", model)
        chat = card("dashscope").choose_chat(request, target)
        assert chat.encode(request, target, stream=False).streams is streams


def test_what_kimi_fixes_is_not_sent() -> None:
    request = v1.ChatRequest(sampling=v1.SamplingOptions(temperature=0.2, top_p=1, max_output_tokens=9))
    assert said("moonshot", request, "kimi-k2.6") == ({"max_tokens": 9}, {"sampling.temperature"})
    assert said("moonshot", request, "moonshot-v1-8k")[0]["temperature"] == 0.2
