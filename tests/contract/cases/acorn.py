"""The dialect of the example package in `tests/plugins`: what third parties write passes the same suite."""

from __future__ import annotations

from typing import Any

from parley_provider_example.dialect import Acorn
from parley_server.core.errors import GatewayError, Overloaded
from parley_server.core.target import Target
from tests.contract.case import Case, dump
from tests.contract.said import Said, Turn, pieces


class AcornCase(Case):
    """Text and nothing else."""

    name = "acorn"
    dialect = Acorn()
    target = Target("acorn", "oak")
    lacks = frozenset({"reasoning", "refusal", "tool_calls", "cache_read", "cache_write", "reasoning_tokens"})
    content_type = "application/x-ndjson"
    trailing = 1

    def body(self, said: Said) -> Any:
        return {"model": "oak-2", "says": said.text, **_end(said)}

    def events(self, said: Said) -> list[Any]:
        lines = [{"model": "oak-2", "more": piece} for piece in pieces(said.text)]
        return [*lines, {"model": "oak-2", **_end(said)}]

    def frame(self, event: Any) -> bytes:
        return dump(event) + b"\n"

    def broken(self) -> tuple[Any, type[GatewayError]]:
        return {"problem": {"kind": "busy", "words": "Come back later."}}, Overloaded

    def strangers(self) -> list[Any]:
        return [b"\n", {"model": "oak-2", "weather": "windy"}]

    def refusal(self, status: int, message: str) -> bytes:
        return dump({"problem": {"kind": "new", "words": message}})

    def garbage(self) -> bytes:
        return b"{nonsense\n"

    def endless(self) -> bytes:
        return b'{"more": "' + b"x" * (17 * 1024 * 1024)

    def provider(self, base_url: str) -> dict[str, Any]:
        return {"kind": "acorn", "base_url": base_url, "api_key": "env:CASE_KEY"}

    def turn(self, body: Any) -> Turn:
        return Turn([turn["says"] for turn in body["turns"] if turn["by"] == "acorn"][-1])

    def results(self, body: Any) -> list[tuple[str, str]]:
        return []


def _end(said: Said) -> dict[str, Any]:
    counts = {} if said.used is None else {"counts": {"heard": said.used.input, "said": said.used.output}}
    return {"ended": "limit" if said.cut else "done", **counts}


CASES = (AcornCase(),)
