"""OpenAI's chat completions and embeddings, of OpenAI and of the servers that follow it.

Each folder is held against the dialect that the gateway would use for it: the one on the provider's calling card. What
that card says of the server as data (`Quirks`) is also what is believed here of what the server knows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from parley import v1
from parley_server.core.errors import GatewayError
from parley_server.core.target import Target
from parley_server.dialects.base import ChatDialect, EmbedDialect
from parley_server.dialects.openai_chat import OpenAIChat, Quirks
from parley_server.dialects.openai_embed import EmbedQuirks, OpenAIEmbed
from parley_server.providers import azure, databricks
from parley_server.providers.base import Provider
from parley_server.providers.row_table import ROWS
from parley_server.providers.rows import Row, kind_of
from tests.conformance.adapter import Answer, ChatAdapter, EmbedAdapter, Inexpressible
from tests.conformance.importers.openai import chat_request, embed_request
from tests.conformance.openai_bodies import normal_body, refused_content
from tests.conformance.openai_reading import (
    answer_of,
    answers_in,
    cut_thought,
    failure_of,
    first,
    id_of,
    thoughts,
    usage_of,
    vector,
    whole_of,
    words,
)
from tests.conformance.recording import Recording
from tests.providers.cards import made


class _AnyId(str):
    __slots__ = ()
    """Equal to any ID: where the provider gave a call none, ours may be any."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str)

    __hash__ = str.__hash__


class OpenAIChatAdapter:
    """The chat completions of the servers in `folders`, which speak in the same way."""

    name = "openai-chat"

    def __init__(
        self,
        folders: tuple[str, ...],
        quirks: Quirks,
        dialect: Callable[[Target], ChatDialect],
        *,
        apart: Callable[[str], bool] = lambda _model: True,
        model_in_path: bool = False,
    ) -> None:
        self._folders = folders
        self._quirks = quirks
        self._choose = dialect
        self._model_in_path = model_in_path
        self._apart = apart  # whether a model is one of those that are meant

    def covers(self, recording: Recording) -> bool:
        if recording.api != "chat" or recording.provider not in self._folders:
            return False
        return self._apart(self.target(recording).model)

    def out_of_scope(self, recording: Recording) -> str:
        return "several answers of several calls in one file" if answers_in(recording) > 1 else ""

    def dialect(self, recording: Recording) -> ChatDialect:
        return self._choose(self.target(recording))

    def target(self, recording: Recording) -> Target:
        model = recording.request.get("model") if isinstance(recording.request, dict) else recording.model
        return Target(recording.provider, model or recording.model)

    # ------------------------------------------------------------------------------------------------------- answers

    def read(self, recording: Recording) -> Answer:
        whole = whole_of(recording)
        answer = answer_of(whole, self._quirks.reasoning_fields, tags=self._quirks.think_tags)
        if answer.failure is None:
            answer.facts = {
                "route.model": whole.get("model") or self.target(recording).model,
                "route.provider_response_id": whole.get("id") or "",
                "route.service_tier": whole.get("service_tier") or "",
                "route.system_fingerprint": whole.get("system_fingerprint") or "",
            }
        return answer

    # ------------------------------------------------------------------------------------------------------ requests

    def request(self, recording: Recording) -> v1.ChatRequest:
        if recording.status == 400 and (kind := refused_content(recording.request, self._quirks)):
            raise Inexpressible(f"it holds {kind}, which the server refuses, and which is not even sent to it")
        return chat_request(recording.request, self.target(recording), self._quirks)

    def normal(self, body: Any) -> Any:
        said = normal_body(body, self._quirks)
        if self._model_in_path:  # where it is in the body as well, it is ignored
            said.pop("model", None)
        return said

    def turn(self, recording: Recording) -> Any:
        return self._said(first(whole_of(recording))["message"], recorded=True)

    def turn_sent(self, body: Any) -> Any:
        said = [message for message in body["messages"] if message["role"] == "assistant"]
        return self._said(said[-1]) if said else self._said({})

    def _said(self, message: dict[str, Any], *, recorded: bool = False) -> Any:
        fields = self._quirks.reasoning_fields
        text, refusal = words(message.get("content")), message.get("refusal") or ""
        tagged = ""
        if self._quirks.think_tags and not thoughts(message, fields):
            tagged, text = cut_thought(text)
        if not self._quirks.refusal_field:  # then it goes back as text
            text, refusal = text + refusal, ""
        reasoning = "" if not self._quirks.reasoning_replay else thoughts(message, fields) or tagged
        if self._quirks.reasoning_placeholder and reasoning == " ":  # stands for reasoning that is lost
            reasoning = ""
        return {
            "text": text,
            "refusal": refusal,
            "reasoning": reasoning,
            "field": next((field for field in fields if message.get(field) and reasoning), ""),
            "details": details if isinstance(details := message.get("reasoning_details"), list) else [],
            "calls": [
                (
                    self._id(id_of(call)) if recorded else id_of(call),
                    call["function"]["name"],
                    _as_text(call["function"].get("arguments")),
                )
                for call in message.get("tool_calls") or ()
            ],
        }

    def _id(self, recorded: str) -> str:
        """What must go back: a missing ID is made up, and one that the server would refuse is replaced."""
        replaced = self._quirks.short_tool_ids and not re.fullmatch(r"[A-Za-z0-9]{9}", recorded)
        return _AnyId() if replaced or not recorded else recorded

    def failure(self, recording: Recording) -> type[GatewayError]:
        return failure_of(recording)


class OpenAIEmbedAdapter:
    """The embeddings of one server."""

    name = "openai-embed"

    def __init__(self, folder: str, quirks: EmbedQuirks, dialect: EmbedDialect) -> None:
        self._folder = folder
        self._quirks = quirks
        self._dialect = dialect

    def covers(self, recording: Recording) -> bool:
        return recording.api == "embeddings" and recording.provider == self._folder

    def out_of_scope(self, recording: Recording) -> str:
        return "" if "/usage/" not in recording.path else "not an answer of /embeddings but an account's usage report"

    def dialect(self, recording: Recording) -> EmbedDialect:
        return self._dialect

    def target(self, recording: Recording) -> Target:
        return Target(
            recording.provider, recording.request.get("model") or "" if recording.request else recording.model
        )

    def read(self, recording: Recording) -> tuple[list[list[float]], Mapping[str, int]]:
        answer = json.loads(recording.body)
        rows = sorted(answer["data"], key=lambda row: row["index"])
        usage = {n: v for n, v in usage_of(answer.get("usage") or {}).items() if n != "output_tokens"}
        if "total_tokens" in usage:
            usage.setdefault("input_tokens", usage["total_tokens"])  # Voyage tells the total, and all is input
        whole_numbers = self._quirks.base64_of == "int8"
        return [vector(row["embedding"], whole_numbers=whole_numbers) for row in rows], usage

    def request(self, recording: Recording) -> v1.EmbedRequest:
        return embed_request(recording.request, recording.provider, self._quirks)

    def normal(self, body: Any) -> Any:
        """One text is a list of one; the encoding on the wire is ours to choose."""
        said = {name: value for name, value in body.items() if value not in (None, "") and name != "encoding_format"}
        if isinstance(said["input"], str) or (said["input"] and isinstance(said["input"][0], int)):
            said["input"] = [said["input"]]
        return said

    def failure(self, recording: Recording) -> type[GatewayError]:
        return failure_of(recording)


def _as_text(arguments: Any) -> str:
    if isinstance(arguments, str):
        return arguments or "{}"
    return "{}" if arguments is None else json.dumps(arguments, separators=(",", ":"))


# ---------------------------------------------------------------------------------------------------------- who is who


@dataclass(frozen=True, slots=True)
class _Home:
    """Provider of a folder: its card, and what its card says as data."""

    card: Provider
    chat: Quirks | None = None
    embed: EmbedQuirks | None = None

    def speaks(self, target: Target) -> ChatDialect:
        return self.card.choose_chat(v1.ChatRequest(), target)


def _of_row(row: Row) -> _Home:
    settings: dict[str, Any] = {place.name: "place" for place in row.places}
    if not row.base_url:
        settings["base_url"] = "http://localhost/v1"
    return _Home(made(kind_of(row), row.name, **settings), row.chat, row.embed)


def _chat(folder: str, home: _Home) -> ChatAdapter:
    if home.chat is None:
        raise TypeError(f"{folder} has no chat completions")
    return OpenAIChatAdapter((folder,), home.chat, home.speaks)


_ROWS = {row.name: row for row in ROWS}
_LIKE_A_ROW = tuple(row.name for row in ROWS if row.chat is not None)
_LIKE_MANY = ("copilot", "perplexity", "mistralrs", "local-openai", "gemini", "bedrock", "anthropic")
"""Served by another API, or without a row of their own: as any compatible server, as one would set them up."""
_OLLAMA = replace(Quirks.compatible(), media_in_results=True)
"""Ollama's path in OpenAI's form, which the gateway would only use for a server that claims to be another."""
_AZURE: Any = {"api_key": "env:KEY", "endpoint": "https://example.openai.azure.com"}


def _by_card(folder: str, card: Provider, openai: Quirks, others: Quirks) -> tuple[ChatAdapter, ChatAdapter]:
    """Adapters for a card that speaks in two ways: which models go which way is the card's to say."""
    in_path = folder == "azure-openai"

    def speaks(target: Target) -> ChatDialect:
        return card.choose_chat(v1.ChatRequest(), target)

    def is_openai(model: str) -> bool:
        return model == "" or model.startswith(("gpt", "o1", "o3", "o4", "chatgpt"))

    return (
        OpenAIChatAdapter((folder,), openai, speaks, apart=is_openai, model_in_path=in_path),
        OpenAIChatAdapter((folder,), others, speaks, apart=lambda model: not is_openai(model), model_in_path=in_path),
    )


def _azure(kind: str) -> Provider:
    return made(next(one for one in azure.KINDS if one.name == kind), kind, **_AZURE)


def _adapters() -> tuple[ChatAdapter | EmbedAdapter, ...]:
    openai_embed, compatible = EmbedQuirks(), Quirks.compatible()
    return (
        OpenAIChatAdapter(("openai",), Quirks.openai(), partial(_always, OpenAIChat(Quirks.openai()))),
        OpenAIChatAdapter(_LIKE_MANY, compatible, partial(_always, OpenAIChat(compatible))),
        OpenAIChatAdapter(("ollama",), _OLLAMA, partial(_always, OpenAIChat(_OLLAMA))),
        *(_chat(name, _of_row(_ROWS[name])) for name in _LIKE_A_ROW),
        OpenAIChatAdapter(("databricks",), databricks.QUIRKS, partial(_always, OpenAIChat(databricks.QUIRKS))),
        *_by_card("azure-openai", _azure("azure"), azure.OPENAI_MODELS, azure.OTHER_MODELS),
        *_by_card("azure-ai", _azure("azure-ai"), azure.OPENAI_MODELS, azure.OTHER_MODELS),
        *(
            OpenAIEmbedAdapter(name, openai_embed, OpenAIEmbed(openai_embed))
            for name in ("openai", "copilot", "ollama", "azure-openai", "azure-ai")
        ),
        *(OpenAIEmbedAdapter(row.name, row.embed, OpenAIEmbed(row.embed)) for row in ROWS if row.embed is not None),
    )


def _always(dialect: ChatDialect, _target: Target) -> ChatDialect:
    return dialect


ADAPTERS = _adapters()
