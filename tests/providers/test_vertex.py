"""Vertex AI: where calls go, who asks, and which dialect a model speaks."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from parley import v1
from parley_server.core.errors import ModelNotFound, RateLimited
from parley_server.core.target import Target
from parley_server.dialects.base import ChatDialect
from parley_server.dialects.gemini import GeminiChat, VertexModels
from parley_server.providers import gemini, vertex
from parley_server.providers.auth import Bearer, Header, TokenAuth, google
from parley_server.providers.base import Provider
from parley_server.settings import NO_SECRET
from tests.fakes import chat
from tests.providers.cards import made
from tests.providers.test_auth_google import CALL, service_account

TOKEN = {"token": "env:TOKEN"}
ENVIRON = {"TOKEN": "ya29.token", "KEY": "express-key", "ACCOUNT": ""}


def card(**settings: Any) -> Provider:
    """The card for settings; with a fixed token unless they say otherwise."""
    document = service_account("https://token.test").reveal()
    given = {"api_key": NO_SECRET, **settings}
    return made(vertex.KIND, "vertex", environ={**ENVIRON, "ACCOUNT": document}, **given)


def url_of(provider: Provider, model: str, *, stream: bool = False) -> str:
    """Where a chat request for a model goes."""
    target = Target("vertex", model)
    call = provider.choose_chat(v1.ChatRequest(), target)
    assert isinstance(call, vertex.Partner | GeminiChat)
    return provider.url(call.encode(chat(), target, stream=stream).path, target)


def body_of(provider: Provider, model: str, *, stream: bool = False) -> dict[str, Any]:
    """What is sent there."""
    target = Target("vertex", model)
    dialect = provider.choose_chat(v1.ChatRequest(), target)
    assert isinstance(dialect, vertex.Partner | GeminiChat)
    found: dict[str, Any] = json.loads(dialect.encode(chat(), target, stream=stream).body)
    return found


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("global", "aiplatform.googleapis.com"),
        ("europe-west4", "europe-west4-aiplatform.googleapis.com"),
        ("us", "aiplatform.us.rep.googleapis.com"),
        ("eu", "aiplatform.eu.rep.googleapis.com"),
    ],
)
def test_hosts(location: str, host: str) -> None:
    provider = card(project="p1", location=location, **TOKEN)
    assert url_of(provider, "gemini-2.5-pro") == (
        f"https://{host}/v1beta1/projects/p1/locations/{location}/publishers/google/models/gemini-2.5-pro:generateContent"
    )


PLACE = "https://aiplatform.googleapis.com/v1/projects/p1/locations/global"


@pytest.mark.parametrize(
    ("model", "stream", "path"),
    [
        ("gemini-2.5-pro", True, "/publishers/google/models/gemini-2.5-pro:streamGenerateContent?alt=sse"),
        ("endpoints/123", False, "/endpoints/123:generateContent"),
        ("claude-opus-4-5@20251101", False, "/publishers/anthropic/models/claude-opus-4-5@20251101:rawPredict"),
        ("claude-opus-4-5@20251101", True, "/publishers/anthropic/models/claude-opus-4-5@20251101:streamRawPredict"),
        ("mistral-small-2503@001", False, "/publishers/mistralai/models/mistral-small-2503@001:rawPredict"),
        ("codestral-2", True, "/publishers/mistralai/models/codestral-2:streamRawPredict"),
        ("meta/llama-3.3-70b-instruct-maas", False, "/endpoints/openapi/chat/completions"),
        ("openai/gpt-oss-120b-maas", True, "/endpoints/openapi/chat/completions"),
    ],
)
def test_paths_by_model(model: str, stream: bool, path: str) -> None:
    assert url_of(card(project="p1", api_version="v1", **TOKEN), model, stream=stream) == PLACE + path


def test_bodies_by_model() -> None:
    provider = card(project="p1", **TOKEN)
    claude = body_of(provider, "claude-opus-4-5@20251101", stream=True)
    assert "model" not in claude
    assert (claude["anthropic_version"], claude["stream"]) == ("vertex-2023-10-16", True)
    assert body_of(provider, "mistral-small-2503@001")["model"] == "mistral-small-2503"
    llama = body_of(provider, "meta/llama-3.3-70b-instruct-maas", stream=True)
    assert (llama["model"], llama["stream"]) == ("meta/llama-3.3-70b-instruct-maas", True)
    assert list(body_of(provider, "gemini-2.5-pro")) == ["contents"]


def test_answers_of_partners() -> None:
    target = Target("vertex", "mistral-small-2503@001")
    choice = {"index": 0, "message": {"role": "assistant", "content": "Bonjour."}, "finish_reason": "stop"}
    body = json.dumps({"id": "1", "model": "mistral-small-2503", "choices": [choice]}).encode()
    assert vertex.MISTRAL.decode(body, target).message.parts[0].text == "Bonjour."
    decoder, framing = vertex.CLAUDE.decoder(Target("vertex", "claude-opus-4-5")), vertex.CLAUDE.framing()
    assert decoder.feed(framing.feed(b'data: {"type":"ping"}\n\n')) == []


@pytest.mark.parametrize("dialect", [vertex.CLAUDE, vertex.MISTRAL, vertex.OPEN_MODELS])
def test_refusals_of_the_front_are_google_s(dialect: ChatDialect) -> None:
    target = Target("vertex", "m")
    body = b'[{"error":{"code":404,"message":"Publisher Model not found.","status":"NOT_FOUND"}}]'
    error = dialect.error(404, {}, body, target)
    assert type(error) is ModelNotFound
    assert error.provider_error is not None
    assert error.provider_error.message == "Publisher Model not found."
    own = b'{"type":"error","error":{"type":"rate_limit_error","message":"slow down"}}'
    assert type(vertex.CLAUDE.error(429, {}, own, target)) is RateLimited


async def test_ways_to_authenticate() -> None:
    express = card(api_key="env:KEY")
    assert await express.auth.headers(CALL) == {"x-goog-api-key": "express-key"}
    assert url_of(express, "gemini-2.5-pro").startswith(
        "https://aiplatform.googleapis.com/v1beta1/publishers/google/models/"
    )
    fixed = card(project="p1", **TOKEN)
    assert isinstance(fixed.auth, Bearer)
    assert await fixed.auth.headers(CALL) == {"authorization": "Bearer ya29.token"}
    assert isinstance(express.auth, Header)
    assert isinstance(card(project="p1").auth, TokenAuth)


def test_the_key_knows_its_project() -> None:
    provider = card(credentials="env:ACCOUNT")
    assert isinstance(provider.auth, TokenAuth)
    assert "/projects/some-project/locations/global/" in url_of(provider, "gemini-2.5-pro")
    assert "/projects/mine/" in url_of(card(credentials="env:ACCOUNT", project="mine"), "gemini-2.5-pro")
    assert "PRIVATE" not in repr(provider)


def test_variables_fill_what_is_not_configured() -> None:
    environ = {**ENVIRON, "GOOGLE_CLOUD_PROJECT": "p2", "GOOGLE_CLOUD_LOCATION": "us-east5"}
    provider = made(vertex.KIND, "vertex", environ=environ, api_key=NO_SECRET, **TOKEN)
    assert url_of(provider, "gemini-2.5-pro").startswith(
        "https://us-east5-aiplatform.googleapis.com/v1beta1/projects/p2/"
    )


def test_the_listing_is_below_no_project() -> None:
    provider = card(project="p1", api_version="v1", location="us-east5", quota_project="billed", **TOKEN)
    assert provider.models is not None
    url = provider.url(VertexModels().encode().path, Target("vertex", ""))
    assert url == "https://us-east5-aiplatform.googleapis.com/v1beta1/publishers/google/models?pageSize=100"
    assert provider.headers == {"x-goog-user-project": "billed"}
    assert provider.operations() == ["chat", "embed"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "which project"),
        ({"project": "p/../q", **TOKEN}, "project"),
        ({"location": "us east", **TOKEN}, "location"),
        ({"api_version": "v1/x", **TOKEN}, "api_version"),
        ({"project": "p1", "credentials": "env:KEY"}, "not a key of Google Cloud"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as refused:
        card(**settings)
    assert words in str(refused.value)
    assert "express-key" not in str(refused.value)


def test_tokens_need_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(google, "is_installed", lambda: False)
    with pytest.raises(ValidationError, match="install the extra `google`"):
        card(project="p1")
    card(project="p1", **TOKEN)
    card(api_key="env:KEY")


@pytest.mark.parametrize(
    ("environ", "is_usual"),
    [
        ({}, False),
        ({"GOOGLE_CLOUD_PROJECT": "p"}, False),
        ({"GOOGLE_CLOUD_PROJECT": "p", "GOOGLE_APPLICATION_CREDENTIALS": "/k.json"}, True),
        ({"GCLOUD_PROJECT": "p", "GOOGLE_GENAI_USE_VERTEXAI": "true"}, True),
        ({"GOOGLE_GENAI_USE_VERTEXAI": "true"}, False),
    ],
)
def test_when_it_is_among_the_usual_providers(environ: dict[str, str], is_usual: bool) -> None:
    assert (vertex.KIND.usually(environ) is not None) == is_usual


async def test_the_gemini_api() -> None:
    provider = made(gemini.KIND, "gemini", environ={"KEY": "k1"})
    assert await provider.auth.headers(CALL) == {"x-goog-api-key": "k1"}
    target = Target("gemini", "gemini-2.5-pro")
    assert isinstance(provider.chat, GeminiChat)
    call = provider.chat.encode(chat(), target, stream=False)
    host = "https://generativelanguage.googleapis.com/v1beta"
    assert provider.url(call.path, target) == f"{host}/models/gemini-2.5-pro:generateContent"
    for name in ("GOOGLE_API_KEY", "GEMINI_API_KEY"):
        assert gemini.KIND.usually({name: "x"}) == {}
    assert gemini.KIND.usually({}) is None
