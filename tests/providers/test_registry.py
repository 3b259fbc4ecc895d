"""Which target a model name means."""

from __future__ import annotations

import pytest

from parley import v1
from parley_server.core.context import Operation
from parley_server.core.errors import InvalidRequest, ModelNotFound, OperationUnsupported
from parley_server.providers import anthropic, openai_compatible
from parley_server.providers.base import Provider
from parley_server.providers.registry import Registry
from tests.providers.cards import made


class Known:
    """A listing that does not change."""

    def __init__(self, *models: v1.Model) -> None:
        self._models = {model.id: model for model in models}

    def get(self, model_id: str) -> v1.Model | None:
        return self._models.get(model_id)

    def ids_of(self, bare_name: str) -> list[str]:
        return sorted(i for i, model in self._models.items() if model.provider_model == bare_name)

    def ids(self) -> list[str]:
        return sorted(self._models)


def provider(name: str, *, embeddings: bool = True) -> Provider:
    return made(openai_compatible.KIND, name, base_url="http://h/v1", embeddings=embeddings)


def model(provider: str, name: str, *operations: str) -> v1.Model:
    return v1.Model(
        id=f"{provider}/{name}", provider=provider, provider_model=name, operations=operations or ["chat", "embed"]
    )


CLAUDE = made(anthropic.KIND, "claude", base_url="http://h/v1")
REGISTRY = Registry(
    {
        "vllm": provider("vllm"),
        "openai": provider("openai"),
        "chatty": provider("chatty", embeddings=False),
        "claude": CLAUDE,
    },
    Known(
        model("vllm", "meta-llama/Llama-3.3-70B"),
        model("vllm", "openai/gpt-oss"),
        model("vllm", "shared"),
        model("chatty", "shared"),
        model("openai", "gpt-5.1", "chat"),
        model("openai", "text-embedding-3-small", "embed"),
    ),
)


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("openai/gpt-5.1", "openai/gpt-5.1"),
        ("vllm/meta-llama/Llama-3.3-70B", "vllm/meta-llama/Llama-3.3-70B"),
        ("meta-llama/Llama-3.3-70B", "vllm/meta-llama/Llama-3.3-70B"),
        ("gpt-5.1", "openai/gpt-5.1"),
        ("vllm/openai/gpt-oss", "vllm/openai/gpt-oss"),
        ("openai/gpt-oss", "openai/gpt-oss"),  # the name of a provider wins over a bare name with a slash
        ("vllm/never-listed", "vllm/never-listed"),  # lists lag behind
        ("claude/x/y//z/", "claude/x/y//z/"),
    ],
)
def test_names_and_what_they_mean(name: str, target: str) -> None:
    provider, found = REGISTRY.resolve(name, "chat")
    assert str(found) == target
    assert provider.name == found.provider
    assert f"{found.provider}/{found.model}" == target


def test_the_target_has_the_card_of_a_listed_model_and_none_of_another() -> None:
    _, target = REGISTRY.resolve("gpt-5.1", "chat")
    assert target.card is not None
    assert target.card.id == "openai/gpt-5.1"
    assert REGISTRY.resolve("vllm/never-listed", "chat")[1].card is None


@pytest.mark.parametrize(
    "name", ["gpt-17", "nobody/gpt-5.1", "openai", "openai/", "/gpt-5.1", "/", "OpenAI/gpt-5.1", ""]
)
def test_names_that_mean_nothing(name: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        REGISTRY.resolve(name, "chat")
    assert caught.value.facts == {"model": name}


def test_near_misses_are_named() -> None:
    with pytest.raises(ModelNotFound, match=r"did you mean openai/gpt-5\.1"):
        REGISTRY.resolve("gpt-5.2", "chat")
    with pytest.raises(ModelNotFound, match="providers: chatty, claude, openai, vllm"):
        REGISTRY.resolve("zzzzzzzzzzzz", "chat")


def test_a_bare_name_of_several_providers_is_refused_with_all_of_them() -> None:
    with pytest.raises(InvalidRequest, match="write chatty/shared or vllm/shared") as caught:
        REGISTRY.resolve("shared", "chat")
    (violation,) = caught.value.violations
    assert (violation.field, violation.reason) == ("model", "AMBIGUOUS_MODEL")


@pytest.mark.parametrize(
    ("name", "operation"),
    [
        ("claude/claude-sonnet-4-5", "embed"),  # the provider has no embeddings
        ("chatty/anything", "embed"),
        ("gpt-5.1", "embed"),  # the model has none
        ("openai/text-embedding-3-small", "chat"),
    ],
)
def test_operations_that_provider_or_model_lack(name: str, operation: Operation) -> None:
    with pytest.raises(OperationUnsupported) as caught:
        REGISTRY.resolve(name, operation)
    assert caught.value.facts["model"].endswith(name)


def test_operations_of_an_unlisted_model_are_its_providers() -> None:
    assert str(REGISTRY.resolve("vllm/new-embedder", "embed")[1]) == "vllm/new-embedder"
