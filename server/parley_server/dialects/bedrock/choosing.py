"""Which of its two APIs a Claude model on Bedrock is asked by: Converse, unless only the Messages API can say it.

| what a request holds                                  | Converse            | Messages API        |
|-------------------------------------------------------|---------------------|---------------------|
| a tool of Anthropic's own (its JSON has a `type`)     | functions only      | as it is            |
| `tool_choice.mode` NONE, with tools                   | no such choice      | `none`              |
| `tool_choice.parallel_tool_calls` false               | no such switch      | `disable_parallel…` |
| a block that the Messages API gave (it has a `type`)  | other blocks        | as it is            |
| text with citations that the Messages API gave        | other citations     | as they are         |
| options of the Messages API (`anthropic_beta`, …)     | other places        | as they are         |

Everything else Converse says as well, cache lifetimes and citations included; media by https URL neither of them takes
on Bedrock. A conversation that holds blocks of Converse stays with Converse, since the Messages API has no word for
these. Reasoning and its signatures go either way: both APIs keep them in the same form.
"""

from __future__ import annotations

import orjson

from parley import v1
from parley_server.core.target import Target
from parley_server.dialects.bedrock.blocks import is_block

_OPTIONS = frozenset(
    ("anthropic_beta", "anthropic_version", "thinking", "output_config", "context_management", "mcp_servers")
)
"""Of the Messages API, and unknown to Converse."""


def needs_messages(request: v1.ChatRequest, target: Target) -> bool:
    """Whether only the Messages API can say `request`, which is for a Claude model. Pure."""
    asked = _tools_need(request, target) or _options_need(request, target)
    for message in request.messages:
        for part in message.parts:
            if part.HasField("provider_part") and part.provider_part.provider == target.provider:
                if is_block(_object(part.provider_part.json.encode())):
                    return False
                asked = True
            elif part.HasField("text") and part.replay_state.provider == target.provider:
                asked = asked or "citations" in _object(part.replay_state.data)
    return asked


def _tools_need(request: v1.ChatRequest, target: Target) -> bool:
    choice = request.tool_choice
    if request.tools and choice.mode == v1.ToolChoice.MODE_NONE:
        return True
    if request.tools and choice.HasField("parallel_tool_calls") and not choice.parallel_tool_calls:
        return True
    own = (tool.provider_tool for tool in request.tools if tool.provider_tool.provider == target.provider)
    return any("type" in _object(tool.json.encode()) for tool in own)


def _options_need(request: v1.ChatRequest, target: Target) -> bool:
    options = request.provider_options_json.get(target.provider, "")
    return bool(options) and not _OPTIONS.isdisjoint(_object(options.encode()))


def _object(text: bytes) -> dict[str, object]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}
