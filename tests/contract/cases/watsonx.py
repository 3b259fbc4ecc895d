"""IBM watsonx.ai: chat completions in an envelope of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from parley_server.core.errors import GatewayError, Overloaded
from parley_server.core.target import Target
from parley_server.dialects.base import ChatDialect
from parley_server.dialects.openai_chat import OpenAIChat
from parley_server.dialects.watsonx import Scope, WatsonxChat
from parley_server.providers.watsonx import QUIRKS
from tests.contract.case import dump, sse
from tests.contract.cases.openai_chat import OpenAI
from tests.contract.said import Said, Turn, turn_of
from tests.upstream import Request


class Watsonx(OpenAI):
    """Streams have a path of their own and no [DONE]; reasoning is shown and not taken back."""

    name = "watsonx"
    dialect: ChatDialect = WatsonxChat(OpenAIChat(QUIRKS), Scope("2024-10-08", "project-1"))
    target = Target("watsonx", "ibm/granite-4-h-small")
    lacks = frozenset({"end_marker"})

    def events(self, said: Said) -> list[Any]:
        return super().events(said)[:-1]

    def enough(self, said: Said) -> int:
        return len(self.events(said)) - (said.used is not None)

    def frame(self, event: Any) -> bytes:
        data = sse(event)
        return b"id: %d\nevent: message\n" % (len(data) * 7 % 200) + data

    def broken(self) -> tuple[Any, type[GatewayError]]:
        return {"errors": [{"code": "new", "message": "Try again."}], "trace": "t", "status_code": 503}, Overloaded

    def refusal(self, status: int, message: str) -> bytes:
        return dump({"errors": [{"code": "new", "message": message}], "trace": "t", "status_code": status})

    def provider(self, base_url: str) -> dict[str, Any]:
        return {"kind": "watsonx", "base_url": base_url, "token": "env:CASE_KEY", "project_id": "project-1"}

    def streams(self, request: Request) -> bool:
        return "/chat_stream?" in request.path

    def returned(self, said: Said) -> Turn:
        turn = turn_of(said)
        return replace(turn, text=turn.text + turn.refusal, refusal="", reasoning="")


CASES = (Watsonx(),)
