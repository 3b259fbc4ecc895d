"""Media by URI: who can fetch what."""

from __future__ import annotations

import json

import pytest

from parley import v1
from parley_server.core.errors import UnsupportedParameter
from parley_server.core.target import Target
from parley_server.dialects.anthropic import AnthropicMessages
from parley_server.dialects.base import ChatDialect
from parley_server.dialects.bedrock import BedrockConverse
from parley_server.dialects.cohere import CohereChat
from parley_server.dialects.gemini import GeminiChat
from parley_server.dialects.gemini.hosting import GEMINI, VERTEX
from parley_server.dialects.openai_chat import OpenAIChat
from parley_server.dialects.openai_responses import OpenAIResponses

DIALECTS: dict[str, tuple[ChatDialect, set[str]]] = {
    "openai_chat": (OpenAIChat(), {"https"}),
    "openai_responses": (OpenAIResponses(), {"https"}),
    "anthropic": (AnthropicMessages(), {"https"}),
    "cohere": (CohereChat(), {"https"}),
    "gemini": (GeminiChat(GEMINI), {"https"}),
    "vertex": (GeminiChat(VERTEX), {"https", "gs"}),
    "bedrock": (BedrockConverse(), {"s3"}),
}


@pytest.mark.parametrize("scheme", ["https", "gs", "s3"])
@pytest.mark.parametrize("name", DIALECTS)
def test_what_a_provider_cannot_fetch_is_refused_before_it_is_asked(name: str, scheme: str) -> None:
    dialect, fetches = DIALECTS[name]
    uri = f"{scheme}://bucket.example/a.png"
    image = v1.ImagePart(source=v1.MediaSource(uri=uri, mime_type="image/png"))
    message = v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text="What is this?"), v1.Part(image=image)])
    request = v1.ChatRequest(model="m", messages=[message])
    target = Target(name, "gpt-4o")
    if scheme in fetches:
        assert uri in json.dumps(json.loads(dialect.encode(request, target, stream=False).body))
        return
    with pytest.raises(UnsupportedParameter) as caught:
        dialect.encode(request, target, stream=False)
    assert [violation.field for violation in caught.value.violations] == ["messages[0].parts[1].image.source.uri"]
