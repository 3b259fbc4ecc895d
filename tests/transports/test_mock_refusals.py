"""What mock models refuse: requests, in OpenAI's words, and settings that make no sense."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from parley_server.transports.mock import MockModel
from tests.transports.mock_exchange import (
    CLOCK,
    ask,
    chat_body,
    mock,
    named,
)


class TestRefusedRequests:
    @pytest.mark.parametrize(
        ("body", "status", "code", "param"),
        [
            (b"{", 400, None, None),
            (b"[]", 400, None, None),
            ({"messages": []}, 400, "missing_required_parameter", "model"),
            ({"model": "m"}, 400, "missing_required_parameter", "messages"),
            ({"model": "m", "messages": []}, 400, "empty_array", "messages"),
            ({"model": "m", "messages": [{"role": "robot", "content": "x"}]}, 400, "invalid_value", "messages[0].role"),
            (
                {"model": "m", "messages": [{"role": "user", "content": None}]},
                400,
                "invalid_value",
                "messages[0].content",
            ),
            (
                {"model": "m", "messages": [{"role": "user", "content": [{}]}]},
                400,
                "invalid_value",
                "messages[0].content",
            ),
            ({"model": "m", "messages": ["x"]}, 400, "invalid_value", "messages[0].role"),
            (chat_body(model="gone"), 404, "model_not_found", None),
            (chat_body(temperature=3), 400, "invalid_value", "temperature"),
            (chat_body(max_tokens=0), 400, "invalid_value", "max_tokens"),
            (chat_body(top_logprobs=21), 400, "invalid_value", "top_logprobs"),
            (chat_body(stop=["a"] * 17), 400, "invalid_value", "stop"),
            (chat_body(stream_options={}), 400, None, "stream_options"),
            (chat_body(tool_choice="required"), 400, None, "tool_choice"),
            (chat_body(tools=[CLOCK], tool_choice=named("weather")), 400, None, "tool_choice"),
            (chat_body(tools=[{"type": "function"}]), 400, "invalid_value", "tools"),
            (chat_body(parallel_tool_calls=True), 400, None, "parallel_tool_calls"),
            (chat_body(response_format={"type": "xml"}), 400, "invalid_value", "response_format"),
            (chat_body([{"role": "tool", "tool_call_id": "c", "content": "x"}]), 400, None, "messages[0].role"),
        ],
    )
    async def test_with_openais_words(self, body: Any, status: int, code: str | None, param: str | None) -> None:
        said, answer = await ask(mock(), "/chat/completions", body)
        assert (said, answer["error"]["code"], answer["error"]["param"]) == (status, code, param)
        assert set(answer["error"]) == {"message", "type", "param", "code"}
        assert answer["error"]["type"] == "invalid_request_error"

    async def test_every_call_must_be_answered(self) -> None:
        call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        history: list[dict[str, Any]] = [
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "user", "content": "y"},
        ]
        status, answer = await ask(mock(), "/chat/completions", chat_body(history))
        assert status == 400
        assert "c1" in answer["error"]["message"]

    @given(
        st.recursive(
            st.none() | st.integers() | st.text(),
            lambda inner: (
                st.lists(inner)
                | st.dictionaries(
                    st.sampled_from(
                        ["role", "content", "type", "text", "tool_calls", "id", "function", "name", "arguments"]
                    ),
                    inner,
                )
            ),
            max_leaves=12,
        )
    )
    async def test_any_json_gets_an_answer(self, anything: Any) -> None:
        for field in ("messages", "tools", "tool_choice", "stop", "response_format", "stream_options", "input"):
            for path in ("/chat/completions", "/embeddings"):
                status, _ = await ask(mock(), path, {**chat_body(), field: anything})
                assert status in (200, 400)

    async def test_unknown_paths(self) -> None:
        assert (await ask(mock(), "/nowhere"))[0] == 404
        assert (await ask(mock(), "/models/gone"))[0] == 404
        assert (await ask(mock(), "/models/m"))[1]["id"] == "m"


class TestSettings:
    @pytest.mark.parametrize(
        "settings",
        [
            {"unknown": 1},
            {"cut_after": 1, "stall_after": 1},
            {"cut_after": -1},
            {"size": 10, "endless": True},
            {"chunking": 0},
            {"chunking": "letters"},
            {"replies": [{"reply": "no pattern"}]},
            {"replies": [{"pattern": "("}]},
            {"errors": [{"status": 200}]},
            {"errors": [{"status": 500, "cut_after": 1}]},
            {"errors": [{"retry_after": 1}]},
        ],
    )
    def test_nonsense_is_refused(self, settings: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            MockModel.model_validate(settings)

    def test_every_setting_is_documented(self) -> None:
        assert [name for name, field in MockModel.model_fields.items() if not field.description] == []
