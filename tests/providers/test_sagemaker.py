"""SageMaker: where endpoints are, what they speak, and what is listed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from parley import v1
from parley_server.core.target import Target
from parley_server.providers import sagemaker
from parley_server.providers.auth.aws import AwsAuth
from parley_server.providers.base import Provider
from parley_server.providers.kind import Shared
from tests.providers.cards import Unreachable

ENVIRON = {"AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "s"}


def card(**given: Any) -> Provider:
    settings = sagemaker.SageMaker.model_validate({"kind": "sagemaker", **given}, context={"environ": ENVIRON})
    return sagemaker.card("sagemaker", settings, Shared(Unreachable()))


def test_the_runtime_of_the_region_and_what_is_configured_there() -> None:
    provider = card(models=["chat-1"], embeddings={"vectors-1": "tei"}, base_models={"chat-1": "llama-3"})
    assert provider.base_url == "https://runtime.sagemaker.eu-west-1.amazonaws.com"
    assert provider.known_models == ("chat-1", "vectors-1")
    assert provider.base_models == {"chat-1": "llama-3"}
    assert provider.operations() == ["chat", "embed"]
    assert isinstance(provider.auth, AwsAuth)
    assert card(base_url="https://vpce-1.example.com").base_url == "https://vpce-1.example.com"


@pytest.mark.parametrize(("endpoint", "body"), [("a", {"inputs": ["hi"]}), ("b", {"input": ["hi"]})])
def test_embeddings_in_the_words_of_the_container(endpoint: str, body: dict[str, Any]) -> None:
    embed = card(embeddings={"a": "tei"}).embed
    assert embed is not None
    target = Target("sagemaker", endpoint)
    call = embed.encode(v1.EmbedRequest(inputs=[v1.EmbedInput(text="hi")]), target)
    assert call.path == f"/endpoints/{endpoint}/invocations"
    sent = json.loads(call.body)
    assert sent.items() >= body.items()
    assert "model" not in sent
    answered = b"[[1.0, 2.0]]" if endpoint == "a" else b'{"data":[{"index":0,"embedding":[1.0,2.0]}]}'
    response = embed.decode(answered, target, v1.EMBEDDING_ENCODING_FLOAT)
    assert list(response.embeddings[0].floats.values) == [1.0, 2.0]
    assert embed.batch_limit(target) == (32 if endpoint == "a" else embed.batch_limit(Target("sagemaker", "c")))


def test_a_container_of_another_kind_is_refused() -> None:
    with pytest.raises(ValidationError):
        card(embeddings={"a": "word2vec"})


def test_it_is_never_there_unless_it_is_configured() -> None:
    assert sagemaker.KIND.usually({**ENVIRON, "AWS_SESSION_TOKEN": "t"}) is None
