"""Cache breakpoints in the words of the Messages API."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from parley import v1
from tests.dialects.anthropic_ask import (
    SYSTEM,
    USER,
    body_of,
    call_of,
    function,
    request,
    turn,
    warned,
)


class TestCaching:
    @staticmethod
    def marked(text: str, seconds: int | None = None) -> v1.Part:
        ttl = None if seconds is None else Duration(seconds=seconds)
        return v1.Part(text=text, cache_breakpoint=v1.CacheBreakpoint(ttl=ttl))

    @staticmethod
    def marks(body: dict[str, Any]) -> list[str]:
        """Where the marks are and how long they last, in the order of the prefix."""
        blocks = [*body.get("tools", ()), *body.get("system", ())]
        blocks += [block for said in body["messages"] for block in said["content"]]
        return [
            f"{block.get('text') or block.get('name') or block['type']}:{block['cache_control'].get('ttl', '')}"
            for block in blocks
            if "cache_control" in block
        ]

    def test_breakpoints_on_tools_instructions_parts_and_results(self) -> None:
        tool = function("f")
        tool.cache_breakpoint.SetInParent()
        result = v1.ToolResult(tool_call_id="a", parts=[self.marked("inner", 3600)])
        asked = request(
            turn(SYSTEM, self.marked("sys", 3600)),
            turn(USER, self.marked("hi", 300), v1.Part(tool_result=result)),
            tools=[tool],
        )
        body = body_of(asked)
        assert self.marks(body) == ["f:1h", "sys:1h", "hi:5m"]
        assert body["messages"][0]["content"][0]["content"][0]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
        assert warned(asked) == [("prompt_cache", "CLAMPED")], "the tool's must live as long as what follows"

    @pytest.mark.parametrize(
        ("seconds", "word", "exact"),
        [(1, "5m", False), (300, "5m", True), (301, "1h", False), (3600, "1h", True), (7200, "1h", False)],
    )
    def test_lifetimes_are_rounded_up_to_what_there_is(self, seconds: int, word: str, exact: bool) -> None:
        asked = request(turn(USER, self.marked("hi", seconds)))
        assert self.marks(body_of(asked)) == [f"hi:{word}"]
        clamped = [("messages[0].parts[0].cache_breakpoint.ttl", "CLAMPED")]
        assert warned(asked) == ([] if exact else clamped)

    def test_the_requests_lifetime_is_that_of_breakpoints_without_their_own(self) -> None:
        options = v1.PromptCacheOptions(ttl=Duration(seconds=3000))
        asked = request(turn(USER, self.marked("a"), self.marked("b")), prompt_cache=options)
        assert self.marks(body_of(asked)) == ["a:1h", "b:1h"]
        assert warned(asked) == [("prompt_cache.ttl", "CLAMPED")]

    def test_the_oldest_of_too_many_go(self) -> None:
        asked = request(turn(SYSTEM, self.marked("s")), turn(USER, *(self.marked(str(n)) for n in range(5))))
        assert self.marks(body_of(asked)) == ["1:", "2:", "3:", "4:"]
        assert warned(asked) == [("prompt_cache", "CACHE_BREAKPOINTS_DROPPED")]

    def test_the_automatic_one_counts(self) -> None:
        options = v1.PromptCacheOptions(mode=v1.PromptCacheOptions.MODE_AUTO, ttl=Duration(seconds=300))
        body = body_of(request(turn(USER, *(self.marked(str(n)) for n in range(4))), prompt_cache=options))
        assert body["cache_control"] == {"type": "ephemeral", "ttl": "5m"}
        assert self.marks(body) == ["1:5m", "2:5m", "3:5m"]

    def test_off_means_none(self) -> None:
        tool = function("f")
        tool.cache_breakpoint.SetInParent()
        options = v1.PromptCacheOptions(mode=v1.PromptCacheOptions.MODE_OFF, ttl=Duration(seconds=7))
        asked = request(turn(USER, self.marked("hi", 7)), tools=[tool], prompt_cache=options)
        assert b"cache_control" not in call_of(asked).body
        assert warned(asked) == []

    def test_a_breakpoint_on_a_blank_part_ends_the_prefix_before_it(self) -> None:
        assert self.marks(body_of(request(turn(USER, "hi", self.marked(""))))) == ["hi:"]
        asked = request(turn(USER, self.marked(""), "hi"))
        assert self.marks(body_of(asked)) == []
        assert warned(asked) == [("messages[0].parts[0].cache_breakpoint", "UNSUPPORTED_PARAMETER")]
