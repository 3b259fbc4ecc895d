"""Turns with several tool calls, as several turns with one call each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Body = dict[str, Any]


def one_result_each(messages: Sequence[Body]) -> list[Body]:
    """Each turn with several calls as one turn for each call, with its result behind it; its words go with the first.

    Only where exactly these calls have their results in the tool messages that follow: nothing is made up.
    """
    split: list[Body] = []
    at = 0
    while at < len(messages):
        turn = messages[at]
        at += 1
        calls = [call for call in turn.get("tool_calls") or () if isinstance(call, dict)]
        end = at
        while end < len(messages) and messages[end]["role"] == "tool":
            end += 1
        results = {result["tool_call_id"]: result for result in messages[at:end]}
        if len(calls) < 2 or results.keys() != {call["id"] for call in calls} or end - at != len(calls):
            split.append(turn)
            continue
        for call in calls:
            split += [turn | {"tool_calls": [call]}, results[call["id"]]]
            turn = {"role": "assistant", "content": None}
        at = end
    return split
