"""Tools and the choice among them. Converse has no choice `none`, and wants the tools of a history declared."""

from __future__ import annotations

from typing import Any

import orjson

from parley import v1
from parley_server.core.errors import InvalidRequest, Violation
from parley_server.core.target import Target
from parley_server.dialects.base import Wishes
from parley_server.dialects.bedrock.answers import json_object
from parley_server.dialects.bedrock.blocks import Conversation
from parley_server.dialects.bedrock.cachepoints import CachePoints
from parley_server.dialects.bedrock.media import Block

_NO_ARGUMENTS = {"type": "object", "properties": {}}
_ANY_ARGUMENTS = {"type": "object"}


class Tools:
    """`toolConfig` of one body; empty where there is nothing to say."""

    def __init__(
        self,
        request: v1.ChatRequest,
        target: Target,
        points: CachePoints,
        wishes: Wishes,
        notes: list[v1.Warning],
    ) -> None:
        self._wishes = wishes
        self._notes = notes
        self._choice = request.tool_choice
        self._tools: list[Block] = []
        """Tools and the cache points behind them."""
        for index, tool in enumerate(request.tools):
            path = f"tools[{index}]"
            block = self._tool(tool, target, path)
            if block is None:
                continue
            self._tools.append(block)
            if tool.HasField("cache_breakpoint"):
                point = points.point(tool.cache_breakpoint, path, tool=True)
                if point is not None:
                    self._tools.append({"cachePoint": point})

    def config(self, conversation: Conversation, *, forced_tools: bool) -> dict[str, Any]:
        """The field; `forced_tools`: whether the model can be made to call one, thinking as it will."""
        uses_tools = bool(conversation.called) or conversation.has_results
        if self._choice.mode == v1.ToolChoice.MODE_NONE:
            return self._none(conversation) if uses_tools else {}
        choice, tools = self._chosen(forced_tools)
        if not any(_name(tool) for tool in tools):
            tools = self._stand_ins(conversation) if uses_tools else []
        if self._choice.HasField("parallel_tool_calls") and not self._choice.parallel_tool_calls and tools:
            self._wishes.unmet("tool_choice.parallel_tool_calls", "Converse cannot ask for one call at a time")
        if not tools:
            return {}
        return {"tools": tools, **({"toolChoice": choice} if choice else {})}

    def _none(self, conversation: Conversation) -> dict[str, Any]:
        """The history holds calls, so Bedrock wants tools, and has no word for not calling them."""
        problem = "Converse cannot forbid calls while the conversation holds some: the model was left free"
        self._wishes.unmet("tool_choice.mode", problem)
        return {"tools": self._tools or self._stand_ins(conversation)}

    def _stand_ins(self, conversation: Conversation) -> list[Block]:
        """Declarations of the tools that the history calls, where the request declares none."""
        names = list(conversation.called) or ["tool"]
        problem = "the conversation holds calls of tools that are not declared, so stand-ins were: Bedrock wants it"
        self._notes.append(v1.Warning(code="TOOL_PLACEHOLDER", message=problem, field="tools"))
        return [{"toolSpec": {"name": name, "inputSchema": {"json": _ANY_ARGUMENTS}}} for name in names]

    def _chosen(self, forced_tools: bool) -> tuple[Block, list[Block]]:
        """`toolChoice`, empty if there is nothing to say, and the tools that may be used."""
        choice, wishes = self._choice, self._wishes
        names = set(choice.allowed_tool_names)
        allowed = [tool for tool in self._tools if not names or _name(tool) in names | {""}]
        required = choice.mode == v1.ToolChoice.MODE_REQUIRED
        if required and not any(_name(tool) for tool in allowed):
            wishes.unmet("tool_choice.mode", "there is no tool to call")
            required = False
        elif required and not forced_tools:
            problem = "this model cannot be made to call a tool here: it was left free not to"
            wishes.unmet("tool_choice.mode", problem)
            required = False
        if required and len(names) == 1:
            return {"tool": {"name": names.pop()}}, self._tools
        if len(allowed) < len(self._tools):
            problem = "Converse cannot be told which tools to allow: the others were not listed"
            note = v1.Warning(code="TOOL_NOT_LISTED", message=problem, field="tool_choice.allowed_tool_names")
            self._notes.append(note)
        return ({"any": {}} if required else {}), allowed

    def _tool(self, tool: v1.Tool, target: Target, path: str) -> Block | None:
        match tool.WhichOneof("kind"):
            case "function":
                return {"toolSpec": _function(tool.function)}
            case "provider_tool" if tool.provider_tool.provider == target.provider:
                block = json_object(tool.provider_tool.json)
                if block is None:
                    field, problem = f"{path}.provider_tool.json", "must be a JSON object"
                    raise InvalidRequest(f"{field} {problem}", violations=[Violation(field, problem, "INVALID_JSON")])
                return block
            case "provider_tool":
                whose = tool.provider_tool.provider
                self._wishes.unmet(path, f"a tool of {whose} was left out", "PROVIDER_TOOL_DROPPED")
            case kind:
                self._wishes.unmet(path, f"Converse has no {kind} tools")
        return None


def _function(function: v1.FunctionTool) -> Block:
    schema = function.parameters_json_schema
    spec: Block = {"name": function.name}
    if function.description:
        spec["description"] = function.description
    spec["inputSchema"] = {"json": orjson.Fragment(schema) if schema else _NO_ARGUMENTS}
    if function.HasField("strict"):
        spec["strict"] = function.strict
    return spec


def _name(tool: Block) -> str:
    """The name of a tool; empty for a cache point."""
    match tool:
        case {"toolSpec": {"name": str(name)}} | {"systemTool": {"name": str(name)}}:
            return name
    return "" if "cachePoint" in tool else "?"
