"""Databricks model serving: who asks, and what Claude there wants."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs

import pytest
from pydantic import ValidationError

from parley import v1
from parley_server.config import load
from parley_server.core.errors import (
    CredentialsRejected,
    GatewayError,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    ProtocolError,
    RateLimited,
)
from parley_server.core.target import Target
from parley_server.dialects.databricks_endpoints import DatabricksEndpoints
from parley_server.providers import databricks
from parley_server.providers.base import Provider
from parley_server.providers.directory import list_models
from parley_server.providers.endpoint import ChatEndpoint, Wire
from parley_server.providers.kind import Shared
from parley_server.transports.http import HttpTransport
from tests.fakes import chat, context
from tests.providers.cards import made
from tests.upstream import Exchange, Script, Upstream, by_path, scripted

ENVIRON = {"KEY": "dapi-1", "SECRET": "s-1"}
TARGET = Target("databricks", "databricks-claude-sonnet-4-5")
WHOLE = {
    "id": "c1",
    "model": "claude",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": [
                    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm.", "signature": "sig"}]},
                    {"type": "text", "text": "hello"},
                ],
            },
            "finish_reason": "stop",
        }
    ],
}


@asynccontextmanager
async def served(script: Script, **settings: Any) -> AsyncIterator[tuple[Provider, HttpTransport, Upstream]]:
    """The card, with the script's server as the workspace."""
    async with scripted(script) as upstream:
        transport = HttpTransport()
        given = {"kind": "databricks", "host": upstream.base_url, **settings}
        checked = databricks.Databricks.model_validate(given, context={"environ": ENVIRON})
        try:
            yield databricks.card("databricks", checked, Shared(transport)), transport, upstream
        finally:
            await transport.aclose()


def answering(status: int, body: Mapping[str, Any]) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.answer(status, body, {"retry-after": "9"} if status == 429 else None)

    return script


async def ask(provider: Provider, transport: HttpTransport) -> v1.ChatResponse:
    wire = Wire(provider, TARGET, transport, connect_timeout=5)
    async with await ChatEndpoint(wire, provider.choose_chat)(chat(), context(streaming=False)) as reply:
        return await reply.response()


def encoded(request: v1.ChatRequest) -> tuple[Any, tuple[v1.Warning, ...]]:
    provider = made(databricks.KIND, "databricks", host="https://w.cloud.databricks.com")
    call = provider.choose_chat(request, TARGET).encode(request, TARGET, stream=False)
    return json.loads(call.body), call.warnings


async def test_a_personal_token() -> None:
    async with served(answering(200, WHOLE), api_key="env:KEY") as (provider, transport, upstream):
        await ask(provider, transport)
        (request,) = upstream.requests
        assert request.path == "/serving-endpoints/chat/completions"
        assert request.headers["authorization"] == "Bearer dapi-1"
        assert request.json["model"] == TARGET.model


async def test_a_service_principal() -> None:
    token = {"access_token": "oauth-1", "expires_in": 3600, "scope": "all-apis"}
    script = by_path(token=answering(200, token), completions=answering(200, WHOLE))
    async with served(script, client_id="c-1", client_secret="env:SECRET") as (provider, transport, upstream):
        for _ in range(2):
            await ask(provider, transport)
        fetched, *calls = upstream.requests
        assert fetched.path == "/oidc/v1/token"
        assert fetched.headers["authorization"] == "Basic " + base64.b64encode(b"c-1:s-1").decode()
        assert parse_qs(fetched.body.decode()) == {"grant_type": ["client_credentials"], "scope": ["all-apis"]}
        assert [call.headers["authorization"] for call in calls] == ["Bearer oauth-1"] * 2


async def test_a_service_principal_that_is_refused() -> None:
    wrong = {"error": "invalid_client", "error_description": "Client authentication failed"}
    script = by_path(token=answering(401, wrong))
    async with served(script, client_id="c-1", client_secret="env:SECRET") as (provider, transport, _):
        with pytest.raises(CredentialsRejected, match="Client authentication failed"):
            await ask(provider, transport)


async def test_reasoning_comes_in_a_block_and_goes_back_in_it() -> None:
    async with served(answering(200, WHOLE), api_key="env:KEY") as (provider, transport, _):
        response = await ask(provider, transport)
    assert [part.WhichOneof("kind") for part in response.message.parts] == ["reasoning", "text"]
    assert response.message.parts[0].reasoning.text == "Hm."
    request = chat()
    request.messages.append(response.message)
    request.messages.append(chat(text="go on").messages[0])
    body, warnings = encoded(request)
    assert body["messages"][1]["content"] == WHOLE["choices"][0]["message"]["content"]  # type: ignore[index]
    assert not warnings


def turn(*calls: str, text: str = "") -> v1.Message:
    parts = [v1.Part(text=text)] * bool(text)
    parts += [v1.Part(tool_call=v1.ToolCall(id=call, name="f", arguments_json="{}")) for call in calls]
    return v1.Message(role=v1.ROLE_ASSISTANT, parts=parts)


def results(*calls: str) -> v1.Message:
    parts = [v1.Part(tool_result=v1.ToolResult(tool_call_id=c, name="f", parts=[v1.Part(text=f"r{c}")])) for c in calls]
    return v1.Message(role=v1.ROLE_TOOL, parts=parts)


def spoken(*messages: v1.Message) -> list[tuple[str, str, list[str]]]:
    """Role, text, and IDs of calls or results of what goes out, behind the first message."""
    request = chat()
    request.messages.extend(messages)
    body, _ = encoded(request)
    return [
        (
            said["role"],
            said["content"] or "",
            [call["id"] for call in said.get("tool_calls", ())] or [said["tool_call_id"]] * ("tool_call_id" in said),
        )
        for said in body["messages"][1:]
    ]


def test_every_result_follows_the_turn_with_its_call() -> None:
    assert spoken(turn("a", "b", text="Let me see."), results("b", "a")) == [
        ("assistant", "Let me see.", ["a"]),
        ("tool", "ra", ["a"]),
        ("assistant", "", ["b"]),
        ("tool", "rb", ["b"]),
    ]
    one_by_one = [("assistant", "", ["a"]), ("tool", "ra", ["a"])]
    assert spoken(turn("a"), results("a")) == one_by_one
    assert spoken(turn("a", "b"), results("a"), results("b"), turn("a"), results("a"))[-2:] == one_by_one


def test_turns_whose_results_are_not_all_there_stay_as_they_are() -> None:
    assert spoken(turn("a", "b"), results("a")) == [("assistant", "", ["a", "b"]), ("tool", "ra", ["a"])]


def test_what_its_models_cannot_be_told() -> None:
    request = chat()
    request.messages[0].name = "anna"
    request.end_user_id = "u-1"
    request.sampling.min_p = 0.1
    request.reasoning.budget_tokens = 2048
    body, warnings = encoded(request)
    assert {warning.field for warning in warnings} == {"messages[0].name", "end_user_id", "sampling.min_p"}
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 2048}
    assert "name" not in body["messages"][0]


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, "BAD_REQUEST", InvalidRequest),
        (403, "PERMISSION_DENIED", CredentialsRejected),
        (404, "ENDPOINT_NOT_FOUND", ModelNotFound),
        (404, "RESOURCE_DOES_NOT_EXIST", ModelNotFound),
        (429, "REQUEST_LIMIT_EXCEEDED", RateLimited),
        (503, "TEMPORARILY_UNAVAILABLE", Overloaded),
    ],
)
async def test_errors(status: int, code: str, expected: type[GatewayError]) -> None:
    script = answering(status, {"error_code": code, "message": "because"})
    async with served(script, api_key="env:KEY") as (provider, transport, _):
        with pytest.raises(GatewayError) as caught:
            await ask(provider, transport)
        said = caught.value.provider_error
        assert type(caught.value) is expected
        assert said is not None
        assert (said.code, said.message, said.http_status) == (code, "because", status)
        assert caught.value.retry_after == (9 if status == 429 else None)


def test_settings() -> None:
    card = made(databricks.KIND, "databricks", host="w.cloud.databricks.com", models=["m"], base_models={"mine": "x"})
    assert card.base_url == "https://w.cloud.databricks.com/serving-endpoints"
    assert (card.known_models, card.base_models) == (("m",), {"mine": "x"})
    with pytest.raises(ValidationError, match="who asks"):
        databricks.Databricks.model_validate({"kind": "databricks", "host": "https://w", "client_id": "c"})


@pytest.mark.parametrize(
    ("environ", "host"),
    [
        ({"DATABRICKS_HOST": "w.databricks.net", "DATABRICKS_TOKEN": "t"}, "https://w.databricks.net"),
        ({"DATABRICKS_HOST": "https://w", "DATABRICKS_CLIENT_ID": "c", "DATABRICKS_CLIENT_SECRET": "s"}, "https://w"),
        ({"DATABRICKS_HOST": "https://w"}, None),
        ({"DATABRICKS_TOKEN": "t"}, None),
    ],
)
def test_what_the_environment_sets_up(environ: dict[str, str], host: str | None) -> None:
    found: Any = load("", environ, {"databricks": databricks.KIND}).providers
    assert {name: settings.host for name, settings in found.items()} == ({"databricks": host} if host else {})


def entity(**foundation: str) -> dict[str, Any]:
    return {"served_entities": [{"name": "e", "foundation_model": foundation}]}


async def test_lists_the_endpoints_that_chat_or_embed() -> None:
    rows = [
        {
            "name": "databricks-claude-sonnet-4-5",
            "task": "llm/v1/chat",
            "state": {"ready": "READY"},
            "creation_timestamp": 1700000000500,
            "config": entity(name="system.ai.claude", display_name="Claude Sonnet 4.5"),
        },
        {"name": "vectors", "task": "llm/v1/embeddings", "config": {"served_entities": [{"entity_name": "mine"}]}},
        {"name": "starting", "task": "llm/v1/chat", "state": {"ready": "NOT_READY"}},
        {"name": "churn", "config": {"served_entities": [{"entity_name": "forest"}]}},
        {"name": "old", "task": "llm/v1/completions"},
    ]
    asked = []

    async def script(exchange: Exchange) -> None:
        asked.append((exchange.request.method, exchange.request.path, exchange.request.headers["authorization"]))
        await exchange.answer(200, json.dumps({"endpoints": rows}).encode())

    async with served(script, api_key="env:KEY") as (provider, transport, _):
        models = await list_models(provider, transport)
    assert asked == [("GET", "/api/2.0/serving-endpoints", "Bearer dapi-1")]
    assert [(model.id, list(model.operations), model.display_name) for model in models] == [
        ("databricks/databricks-claude-sonnet-4-5", ["chat"], "Claude Sonnet 4.5"),
        ("databricks/vectors", ["embed"], ""),
    ]
    assert models[0].create_time.ToJsonString() == "2023-11-14T22:13:20.500Z"


def test_a_workspace_without_endpoints() -> None:
    assert DatabricksEndpoints().decode(b"{}", "databricks") == ([], "")


@pytest.mark.parametrize("body", [b"[]", b'{"endpoints":1}', b'{"endpoints":[{"task":"llm/v1/chat"}]}', b"no"])
def test_what_is_no_listing(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        DatabricksEndpoints().decode(body, "databricks")
