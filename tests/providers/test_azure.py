"""Azure: where calls go, who they say they are from, and what deployments are."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs

import pytest
from pydantic import ValidationError

from parley import v1
from parley_server.catalog import Catalog
from parley_server.config import load
from parley_server.core.errors import (
    CredentialsRejected,
    GatewayError,
    ModelNotFound,
    OperationUnsupported,
    PromptBlocked,
    RateLimited,
    UnsupportedParameter,
)
from parley_server.core.reply import Reply
from parley_server.core.target import Target
from parley_server.providers import azure
from parley_server.providers.auth import entra
from parley_server.providers.base import Provider
from parley_server.providers.directory import Directory
from parley_server.providers.endpoint import ChatEndpoint, EmbedEndpoint, Wire
from parley_server.providers.kind import Kind, Shared
from parley_server.providers.registry import Registry
from parley_server.transports.http import HttpTransport
from tests.fakes import chat, context
from tests.providers.cards import Unreachable, made
from tests.upstream import Exchange, Script, Upstream, by_path, scripted

ENVIRON = {"KEY": "k-123", "SECRET": "s-456", "TOKEN": "t-789"}
TARGET = Target("azure", "prod", base_model="gpt-5-mini")


@asynccontextmanager
async def served(
    kind: Kind, script: Script, **settings: Any
) -> AsyncIterator[tuple[Provider, HttpTransport, Upstream]]:
    """The card of `kind` with the script's server as its endpoint, token servers included."""
    async with scripted(script) as upstream:
        transport = HttpTransport()
        given = {"kind": kind.name, "endpoint": upstream.base_url, "authority": upstream.base_url, **settings}
        checked = kind.settings.model_validate(given, context={"environ": ENVIRON})
        try:
            yield kind.card("azure", checked, Shared(transport)), transport, upstream
        finally:
            await transport.aclose()


async def ask(
    provider: Provider, transport: HttpTransport, target: Target = TARGET, *, streaming: bool = False, **fields: Any
) -> v1.ChatResponse:
    wire = Wire(provider, target, transport, connect_timeout=5)
    request = chat("azure/prod")
    request.MergeFrom(v1.ChatRequest(**fields))
    reply: Reply[v1.ChatResponse] = await ChatEndpoint(wire, provider.choose_chat)(
        request, context(streaming=streaming)
    )
    async with reply:
        return await reply.response()


def answering(status: int, body: Mapping[str, Any], **headers: str) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.answer(status, body, {name.replace("_", "-"): value for name, value in headers.items()})

    return script


WHOLE = {
    "id": "c1",
    "model": "gpt-5-mini-2025-08-07",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "hello"},
            "finish_reason": "stop",
            "content_filter_results": {"hate": {"filtered": False, "severity": "safe"}},
        }
    ],
    "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {}}],
}
TOKEN = {"token_type": "Bearer", "expires_in": 3599, "access_token": "entra-1"}


# ----------------------------------------------------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    ("kind", "settings", "path", "url"),
    [
        (
            azure.KIND,
            {"resource": "lab"},
            "/chat/completions",
            "https://lab.openai.azure.com/openai/v1/chat/completions",
        ),
        (azure.KIND, {"resource": "lab"}, "/responses", "https://lab.openai.azure.com/openai/v1/responses"),
        (
            azure.KIND,
            {"resource": "lab", "api_version": "preview"},
            "/embeddings",
            "https://lab.openai.azure.com/openai/v1/embeddings?api-version=preview",
        ),
        (
            azure.KIND,
            {"endpoint": "https://lab.openai.azure.com/openai/v1/", "api_version": "2024-10-21"},
            "/chat/completions",
            "https://lab.openai.azure.com/openai/deployments/my%20model/chat/completions?api-version=2024-10-21",
        ),
        (
            azure.KIND,
            {"endpoint": "https://lab.openai.azure.com/", "api_version": "2024-10-21"},
            "/embeddings",
            "https://lab.openai.azure.com/openai/deployments/my%20model/embeddings?api-version=2024-10-21",
        ),
        (
            azure.KIND,
            {"endpoint": "https://lab.openai.azure.com/", "api_version": "2025-04-01-preview"},
            "/responses",
            "https://lab.openai.azure.com/openai/responses?api-version=2025-04-01-preview",
        ),
        (azure.FOUNDRY, {"resource": "lab"}, "/embeddings", "https://lab.services.ai.azure.com/openai/v1/embeddings"),
        (
            azure.FOUNDRY,
            {"endpoint": "https://lab.services.ai.azure.com/models", "api_version": "2024-05-01-preview"},
            "/chat/completions",
            "https://lab.services.ai.azure.com/models/chat/completions?api-version=2024-05-01-preview",
        ),
        (azure.CLAUDE, {"resource": "lab"}, "/messages", "https://lab.services.ai.azure.com/anthropic/v1/messages"),
        (
            azure.CLAUDE,
            {"endpoint": "https://lab.services.ai.azure.com/anthropic"},
            "/messages",
            "https://lab.services.ai.azure.com/anthropic/v1/messages",
        ),
    ],
)
def test_where_calls_go(kind: Kind, settings: dict[str, Any], path: str, url: str) -> None:
    assert made(kind, "azure", **settings).url(path, Target("azure", "my model")) == url


# ---------------------------------------------------------------------------------------------------------- who asks


@pytest.mark.parametrize(
    ("kind", "settings", "header", "value"),
    [
        (azure.KIND, {"api_key": "env:KEY"}, "api-key", "k-123"),
        (azure.FOUNDRY, {"api_key": "env:KEY"}, "api-key", "k-123"),
        (azure.CLAUDE, {"api_key": "env:KEY"}, "x-api-key", "k-123"),
        (azure.KIND, {"token": "env:TOKEN"}, "authorization", "Bearer t-789"),
        (azure.KIND, {"token": "env:TOKEN", "api_key": "env:KEY"}, "api-key", "k-123"),
    ],
)
async def test_keys_and_tokens(kind: Kind, settings: dict[str, Any], header: str, value: str) -> None:
    script = answering(404, {"error": {"code": "DeploymentNotFound", "message": "no such deployment"}})
    async with served(kind, script, **settings) as (provider, transport, upstream):
        with pytest.raises(ModelNotFound):
            await ask(provider, transport)
        sent = {name: upstream.requests[0].headers.get(name) for name in ("api-key", "x-api-key", "authorization")}
        assert {name: said for name, said in sent.items() if said} == {header: value}


CLIENT = {"tenant_id": "t-1", "client_id": "c-1", "client_secret": "env:SECRET"}


async def test_client_credentials() -> None:
    script = by_path(token=answering(200, TOKEN), completions=answering(200, WHOLE))
    async with served(azure.KIND, script, **CLIENT) as (provider, transport, upstream):
        for _ in range(2):
            await ask(provider, transport)
        token, *calls = upstream.requests
        assert token.path == "/t-1/oauth2/v2.0/token"
        assert parse_qs(token.body.decode()) == {
            "grant_type": ["client_credentials"],
            "client_id": ["c-1"],
            "client_secret": ["s-456"],
            "scope": ["https://cognitiveservices.azure.com/.default"],
        }
        assert [call.headers["authorization"] for call in calls] == ["Bearer entra-1"] * 2


async def test_client_credentials_that_are_refused() -> None:
    wrong = {"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret s-456 provided."}
    async with served(azure.CLAUDE, by_path(token=answering(401, wrong)), **CLIENT) as (provider, transport, upstream):
        with pytest.raises(CredentialsRejected, match="AADSTS7000215") as caught:
            await ask(provider, transport)
        assert "s-456" not in f"{caught.value.message} {caught.value.provider_error}"
        assert parse_qs(upstream.requests[0].body.decode())["scope"] == ["https://ai.azure.com/.default"]


async def test_identity_by_azure_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("azure.identity", reason="needs the extra `azure`")
    for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_CLIENT_SECRET", "AZURE_TOKEN_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    managed = {"access_token": "managed-1", "expires_on": "4102444800", "resource": "r", "token_type": "Bearer"}
    script = by_path(msi=answering(200, managed), completions=answering(200, WHOLE))
    async with served(azure.KIND, script, identity=True) as (provider, transport, upstream):
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{upstream.base_url}/msi")  # as on App Service
        monkeypatch.setenv("IDENTITY_HEADER", "h")
        await ask(provider, transport)
        assert upstream.requests[-1].headers["authorization"] == "Bearer managed-1"


def test_identity_without_its_package_is_an_error_of_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entra, "has_identity", lambda: False)
    with pytest.raises(ValidationError, match="install the extra `azure`"):
        made(azure.KIND, "azure", resource="lab", api_key="env:KEY", identity=True)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"api_key": "env:KEY"}, "endpoint or resource"),
        ({"resource": "lab"}, "who asks"),
        ({"resource": "lab", "client_id": "c", "tenant_id": "t"}, "who asks"),
        ({"resource": "lab.openai.azure.com", "api_key": "env:KEY"}, "resource"),
        ({"endpoint": "lab.openai.azure.com", "api_key": "env:KEY"}, "base URL"),
    ],
)
def test_settings_that_are_not_enough(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        azure.AzureOpenAI.model_validate({"kind": "azure", **settings}, context={"environ": ENVIRON})


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({"AZURE_OPENAI_ENDPOINT": "https://lab.openai.azure.com", "AZURE_OPENAI_API_KEY": "k"}, {"azure"}),
        ({"AZURE_OPENAI_ENDPOINT": "https://lab.openai.azure.com", "AZURE_OPENAI_AD_TOKEN": "k"}, {"azure"}),
        ({"AZURE_OPENAI_API_KEY": "k"}, set()),
        ({"AZURE_OPENAI_ENDPOINT": "https://lab.openai.azure.com"}, set()),
        ({"ANTHROPIC_FOUNDRY_RESOURCE": "lab", "ANTHROPIC_FOUNDRY_API_KEY": "k"}, {"azure-anthropic"}),
        ({"AZURE_INFERENCE_ENDPOINT": "https://l.services.ai.azure.com", "AZURE_AI_API_KEY": "k"}, {"azure-ai"}),
        ({"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c", "AZURE_CLIENT_SECRET": "s"}, set()),
        (
            {
                "AZURE_OPENAI_ENDPOINT": "https://lab.openai.azure.com",
                "AZURE_TENANT_ID": "t",
                "AZURE_CLIENT_ID": "c",
                "AZURE_CLIENT_SECRET": "s",
            },
            {"azure"},
        ),
    ],
)
def test_what_the_environment_sets_up(environ: dict[str, str], names: set[str]) -> None:
    found = load("", environ, {kind.name: kind for kind in azure.KINDS}).providers
    assert set(found) == names


# --------------------------------------------------------------------------------------------------------- deployments


class Recorded(Directory):
    """A directory over one provider and the real catalogue."""

    def __init__(self, provider: Provider) -> None:
        super().__init__({provider.name: provider}, Catalog.load(), Unreachable(), on_change=lambda: None)


def test_deployments_are_known_by_what_they_are() -> None:
    provider = made(azure.KIND, "azure", resource="lab", deployments={"prod": "gpt-5-mini"}, models=["spare"])
    directory = Recorded(provider)
    assert directory.ids() == ["azure/prod", "azure/spare"]  # and nothing of what is not deployed
    listed = directory.get("azure/prod")
    assert listed is not None
    assert (listed.id, listed.provider_model) == ("azure/prod", "prod")
    assert listed.pricing.input_nano_usd > 0
    _, target = Registry({"azure": provider}, directory).resolve("azure/prod", "chat")
    assert (target.model, target.base_model, target.known_as) == ("prod", "gpt-5-mini", "gpt-5-mini")
    _, spare = Registry({"azure": provider}, directory).resolve("azure/spare", "chat")
    assert (spare.base_model, spare.known_as) == ("", "spare")


def test_rules_for_families_go_by_the_base_model() -> None:
    provider = made(azure.KIND, "azure", resource="lab")
    request = chat("azure/prod")
    request.sampling.temperature = 0.5
    request.sampling.max_output_tokens = 100
    for target, kept in (
        (TARGET, False),
        (Target("azure", "prod"), True),
        (Target("azure", "gpt-5", base_model="gpt-4o"), True),
    ):
        call = provider.choose_chat(request, target).encode(request, target, stream=False)
        said = json.loads(call.body)
        assert ("temperature" in said) is kept
        assert [warning.field for warning in call.warnings] == [] if kept else ["sampling.temperature"]
        assert (said["model"], said["max_completion_tokens"]) == (target.model, 100)


def test_claude_goes_by_the_base_model_too() -> None:
    provider = made(azure.CLAUDE, "azure", resource="lab", deployments={"prod": "claude-haiku-4-5"})
    request = chat("azure/prod")
    request.reasoning.budget_tokens = 2048
    request.sampling.max_output_tokens = 4096
    target = Target("azure", "prod", base_model="claude-haiku-4-5")
    said = json.loads(provider.choose_chat(request, target).encode(request, target, stream=False).body)
    assert (said["model"], said["thinking"]["budget_tokens"]) == ("prod", 2048)
    assert provider.embed is None


@pytest.mark.parametrize(
    ("kind", "target", "field"),
    [
        (azure.KIND, Target("azure", "prod"), "max_completion_tokens"),
        (azure.KIND, Target("azure", "gpt-4o"), "max_completion_tokens"),
        (azure.KIND, Target("azure", "prod", base_model="o4-mini"), "max_completion_tokens"),
        (azure.KIND, Target("azure", "prod", base_model="mistral-large-2411"), "max_tokens"),
        (azure.KIND, Target("azure", "DeepSeek-R1-0528"), "max_tokens"),
        (azure.FOUNDRY, Target("azure", "prod"), "max_tokens"),
        (azure.FOUNDRY, Target("azure", "grok-4-1-fast"), "max_tokens"),
        (azure.FOUNDRY, Target("azure", "prod", base_model="gpt-5-nano"), "max_completion_tokens"),
    ],
)
def test_models_of_other_vendors_have_another_field_for_the_output_limit(
    kind: Kind, target: Target, field: str
) -> None:
    request = chat("azure/prod")
    request.sampling.max_output_tokens = 100
    dialect = made(kind, "azure", resource="lab").choose_chat(request, target)
    said = json.loads(dialect.encode(request, target, stream=False).body)
    assert [name for name in said if "tokens" in name] == [field]


def with_document(mime_type: str = "application/pdf") -> v1.ChatRequest:
    request = chat("azure/prod")
    source = v1.MediaSource(data=b"%PDF-", mime_type=mime_type)
    request.messages[0].parts.add(document=v1.DocumentPart(source=source))
    return request


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (azure.KIND, {"api": "chat"}),
        (azure.KIND, {"api_version": "2024-10-21"}),
        (azure.FOUNDRY, {"api_version": "2024-05-01-preview"}),
    ],
)
def test_documents_are_not_for_chat_completions(kind: Kind, settings: dict[str, Any]) -> None:
    provider = made(kind, "azure", resource="lab", **settings)
    with pytest.raises(UnsupportedParameter):
        provider.choose_chat(with_document(), TARGET).encode(with_document(), TARGET, stream=False)


@pytest.mark.parametrize(
    ("settings", "request_", "target", "path"),
    [
        ({}, chat(), TARGET, "/chat/completions"),
        ({}, with_document("text/plain"), TARGET, "/chat/completions"),
        ({}, with_document(), TARGET, "/responses"),
        ({}, chat(), Target("azure", "prod", base_model="gpt-5.1-codex-mini"), "/responses"),
        ({"api_version": "2025-04-01-preview"}, with_document(), TARGET, "/responses"),
        ({"api": "responses"}, chat(), TARGET, "/responses"),
        ({"api": "chat"}, chat(), Target("azure", "codex-mini"), "/chat/completions"),
        ({"api_version": "2024-10-21", "api": "responses"}, chat(), TARGET, "/chat/completions"),
        ({"api": "responses"}, chat(), Target("azure", "grok-4"), "/chat/completions"),
    ],
)
def test_which_api_openai_models_are_asked_in(
    settings: dict[str, Any], request_: v1.ChatRequest, target: Target, path: str
) -> None:
    provider = made(azure.KIND, "azure", resource="lab", **settings)
    assert provider.choose_chat(request_, target).encode(request_, target, stream=False).path == path


# ------------------------------------------------------------------------------------------------------------- answers


def event(**fields: Any) -> bytes:
    return b"data: " + json.dumps({"id": "", "model": "", "choices": [], **fields}).encode() + b"\n\n"


async def test_a_stream_begins_with_what_the_filter_says() -> None:
    filtered = {"hate": {"filtered": False, "severity": "safe"}}
    offsets = {"check_offset": 0, "start_offset": 0, "end_offset": 5}

    def delta(content: dict[str, Any], **more: Any) -> bytes:
        choice = {"index": 0, "delta": content, "finish_reason": None, **more}
        return event(id="c1", model="gpt-5-mini-2025-08-07", choices=[choice])

    async def script(exchange: Exchange) -> None:
        await exchange.stream(
            event(prompt_filter_results=[{"prompt_index": 0, "content_filter_results": filtered}]),
            delta({"role": "assistant", "content": ""}),
            delta({"content": "hel"}, content_filter_results=filtered),
            delta({"content": "lo"}),
            event(choices=[{"index": 0, "finish_reason": None, "content_filter_offsets": offsets}]),
            delta({}, finish_reason="content_filter", content_filter_results={"hate": {"filtered": True}}),
            event(id="c1", usage={"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}),
            b"data: [DONE]\n\n",
        )

    async with served(azure.KIND, script, api_key="env:KEY") as (provider, transport, upstream):
        response = await ask(provider, transport, streaming=True)
        assert response.message.parts[0].text == "hello"
        assert response.finish_reason == v1.FINISH_REASON_CONTENT_FILTER
        assert (response.route.model, response.usage.total_tokens) == ("gpt-5-mini-2025-08-07", 5)
        assert upstream.requests[0].json["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (404, {"error": {"code": "DeploymentNotFound", "message": "It does not exist."}}, ModelNotFound),
        (404, {"error": {"code": "404", "message": "Resource not found"}}, ModelNotFound),
        (
            401,
            {"error": {"code": "401", "message": "Access denied due to invalid subscription key"}},
            CredentialsRejected,
        ),
        (401, {"statusCode": 401, "message": "Unauthorized"}, CredentialsRejected),
        (401, {"error": {"code": "PermissionDenied", "message": "lacks the data action"}}, CredentialsRejected),
        (400, {"error": {"code": "OperationNotSupported", "message": "does not work"}}, OperationUnsupported),
        (429, {"error": {"code": "429", "message": "exceeded token rate limit"}}, RateLimited),
    ],
)
async def test_errors(status: int, body: dict[str, Any], expected: type[GatewayError]) -> None:
    async with served(azure.KIND, answering(status, body, apim_request_id="a-1"), api_key="env:KEY") as scene:
        with pytest.raises(GatewayError) as caught:
            await ask(scene[0], scene[1])
        assert type(caught.value) is expected
        assert caught.value.provider_error is not None
        assert caught.value.provider_error.request_id == "a-1"


async def test_a_blocked_prompt_says_by_which_category() -> None:
    results = {"hate": {"filtered": False, "severity": "safe"}, "jailbreak": {"filtered": True, "detected": True}}
    for inner in ("innererror", "inner_error"):
        error = {
            "code": "content_filter",
            "message": "The response was filtered",
            "param": "prompt",
            inner: {"code": "ResponsibleAIPolicyViolation", "content_filter_result": results},
        }
        async with served(azure.KIND, answering(400, {"error": error}), api_key="env:KEY") as scene:
            with pytest.raises(PromptBlocked) as caught:
                await ask(scene[0], scene[1])
            assert caught.value.facts["categories"] == "jailbreak"


async def test_provisioned_throughput_says_when_to_come_back() -> None:
    body = {"error": {"code": "429", "message": "at capacity"}}
    script = answering(429, body, retry_after="1", retry_after_ms="350")
    async with served(azure.KIND, script, api_key="env:KEY") as (provider, transport, _):
        with pytest.raises(RateLimited) as caught:
            await ask(provider, transport)
        assert caught.value.retry_after == 0.35


async def test_embeddings() -> None:
    rows = {"data": [{"index": 0, "embedding": [0.5]}], "model": "e", "usage": {"prompt_tokens": 1, "total_tokens": 1}}
    settings = {"api_key": "env:KEY", "api_version": "2024-10-21"}
    async with served(azure.KIND, answering(200, rows), **settings) as (provider, transport, upstream):
        assert provider.embed is not None
        request = v1.EmbedRequest(model="azure/prod", inputs=[v1.EmbedInput(text="a")])
        wire = Wire(provider, TARGET, transport, connect_timeout=5)
        async with await EmbedEndpoint(wire, provider.embed)(request, context("embed", streaming=False)) as reply:
            assert list((await reply.response()).embeddings[0].floats.values) == [0.5]
        assert upstream.requests[0].path == "/openai/deployments/prod/embeddings?api-version=2024-10-21"
