"""Which of OpenAI's two chat APIs a request goes to, where a provider has both.

Chat completions, unless something needs the Responses API or gets more from it. Pure, and read from the request alone,
so that the same request always goes the same way.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Literal

import orjson

from parley import v1
from parley_server.core.target import Target
from parley_server.dialects.base import ChatDialect
from parley_server.dialects.openai_families import plain_name, reasons
from parley_server.dialects.openai_responses import answers

Api = Literal["auto", "chat", "responses"]

# From OpenAI's model pages, November 2026.
_ONLY_RESPONSES = re.compile(r"gpt-\d(\.\d+)?-pro|o\d-pro|computer-use|.*codex|.*deep-research")
_ONLY_CHAT = re.compile(r"gpt-4o(-mini)?-(audio|search)|gpt-audio|gpt-5-search|chatgpt-4o-audio")
_TOOLS_OR_REASONING = re.compile(r"gpt-5\.([4-9]|\d\d)|gpt-[6-9]")
"""Chat completions answer 400 if these are given functions while they reason."""
_CHAT_TOOLS = {"function": "function", "custom": "custom"}
"""Types of tools that chat completions know; what they are stands in a field of the same name."""
_ITEM = re.compile(r".+_call(_output)?|mcp_.+|input_(image|file)|compaction|item_reference|tool_search_.+")
"""Types of provider parts that only the Responses API knows."""


def by_request(
    chat: ChatDialect, responses: ChatDialect, api: Api = "auto"
) -> Callable[[v1.ChatRequest, Target], ChatDialect]:
    """What `Provider.chat_for` wants: one of two dialects by `needs_responses`, or always the same one by `api`."""
    match api:
        case "chat":
            return lambda _request, _target: chat
        case "responses":
            return lambda _request, _target: responses
        case "auto":
            return lambda request, target: responses if needs_responses(request, target) else chat


def needs_responses(request: v1.ChatRequest, target: Target) -> bool:
    """Whether chat completions would refuse `request`, or answer it with less than the Responses API.

    Audio is only there in chat completions, which therefore win wherever there is any.
    """
    only = _only(target.known_as)
    if only:
        return only == "responses"
    asked = bool(request.tools) and _tools_need(request, target)
    asked = asked or (request.HasField("reasoning") and _is_to_be_shown(request.reasoning, target))
    for message in request.messages:
        for part in message.parts:
            match part.WhichOneof("kind"):
                case "audio":
                    return False
                case "text":  # nearly always
                    pass
                case "document":
                    asked = asked or part.document.source.WhichOneof("source") == "uri"
                case "provider_part":
                    block = part.provider_part
                    ours = block.provider == target.provider
                    asked = asked or (ours and _ITEM.fullmatch(block.type) is not None)
            if not asked and part.HasField("replay_state"):
                asked = part.replay_state.provider == target.provider and answers.minted(part.replay_state)
    return asked


@functools.lru_cache(maxsize=1024)
def _only(model: str) -> Literal["", "chat", "responses"]:
    """The one API that has `model`; empty: both have."""
    name = plain_name(model)
    if _ONLY_CHAT.match(name):
        return "chat"
    return "responses" if _ONLY_RESPONSES.match(name) else ""


def _tools_need(request: v1.ChatRequest, target: Target) -> bool:
    if any(_is_new(tool.provider_tool, target) for tool in request.tools if tool.HasField("provider_tool")):
        return True
    model = target.known_as
    if not _TOOLS_OR_REASONING.match(plain_name(model)) or not any(tool.HasField("function") for tool in request.tools):
        return False
    effort = request.reasoning.effort
    return reasons(model, v1.ReasoningEffort.Name(effort).removeprefix("REASONING_EFFORT_").lower() if effort else "")


def _is_new(tool: v1.ProviderTool, target: Target) -> bool:
    """Whether a tool of the provider is none that chat completions know."""
    if tool.provider != target.provider:
        return False
    try:
        said = orjson.loads(tool.json)
    except orjson.JSONDecodeError:
        return False
    kind = said.get("type") if isinstance(said, dict) else None
    return isinstance(kind, str) and _CHAT_TOOLS.get(kind, "") not in said


def _is_to_be_shown(reasoning: v1.ReasoningOptions, target: Target) -> bool:
    """Whether there will be reasoning and the caller wants to see it: chat completions never show any."""
    wanted = reasoning.visibility in (v1.ReasoningOptions.VISIBILITY_SUMMARY, v1.ReasoningOptions.VISIBILITY_FULL)
    return wanted and reasoning.effort != v1.REASONING_EFFORT_NONE and reasons(target.known_as, "high")
