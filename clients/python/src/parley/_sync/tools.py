# Generated from parley/_async/tools.py by tools/generate_sync.py; do not edit.
# ruff: noqa: I001, UP028
# fmt: off
"""The conversation between a model and its tools."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from parley import v1
from parley._sync import wire
from parley.content import tool_result
from parley.errors import InvalidOutput, TurnLimitReached
from parley.reply import FinishReason, ToolCall, ToolRun
from parley.request import Prompt, TurnArguments, messages
from parley.tools import AnyTool, ToolError, as_tool, result_text

if TYPE_CHECKING:
    from parley._sync.client import Client


def run_tools(
    client: Client,
    model: str,
    prompt: Prompt,
    tools: Iterable[AnyTool | Callable[..., Any]],
    max_turns: int,
    on_call: Callable[[ToolCall], object] | None,
    given: TurnArguments,
) -> ToolRun:
    """See `Client.run_tools`."""
    known = {tool.name: tool for tool in map(as_tool, tools)}
    run = ToolRun(messages(prompt))
    for _ in range(max_turns):
        reply = client.chat(model, run.messages, tools=known.values(), **given)
        run.replies.append(reply)
        run.messages.append(reply.message)
        if calls := reply.tool_calls:
            run.messages += wire.gather([_result(call, known, on_call) for call in calls])
        elif reply.finish_reason is not FinishReason.PAUSE:  # a paused turn is sent back as it is, to go on
            return run
    raise TurnLimitReached(f"the model still calls tools after {max_turns} turns", run)


def _result(
    call: ToolCall, known: dict[str, AnyTool], on_call: Callable[[ToolCall], object] | None
) -> v1.Message:
    """What the model is told about its call. What it did wrong itself, it may correct; so may it what a tool says."""
    if on_call is not None:
        on_call(call)
    tool = known.get(call.name)
    if tool is None:
        return tool_result(call, f"there is no tool {call.name}; there are: {', '.join(known)}", is_error=True)
    try:
        value = wire.call_tool(tool, tool.arguments(call.arguments_json))
    except (InvalidOutput, ToolError) as error:
        return tool_result(call, str(error), is_error=True)
    return tool_result(call, result_text(value))
