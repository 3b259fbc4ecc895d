"""The listing of an Ollama server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from parley import v1
from parley_server.core.errors import CredentialsRejected, ModelNotFound, ProtocolError
from parley_server.core.target import Target
from parley_server.dialects.base import HttpCall
from parley_server.dialects.ollama import OllamaModels
from parley_server.dialects.steps import Ask, AskAll, Heard

TAGS = HttpCall("/api/tags", method="GET", headers={})
PS = HttpCall("/api/ps", method="GET", headers={})
UNKNOWN = ModelNotFound("no such path")


def asked(*names: str) -> AskAll:
    return AskAll(
        tuple(HttpCall("/api/show", json.dumps({"model": name}, separators=(",", ":")).encode()) for name in names)
    )


def heard(said: Any) -> Heard:
    return Heard(200, {}, json.dumps(said).encode())


def driven(
    dialect: OllamaModels,
    rows: Any,
    shown: Mapping[str, Any] | None = None,
    loaded: Any = UNKNOWN,
) -> tuple[list[v1.Model], list[Any]]:
    """The models that a listing ends with, and the steps it took. `shown`: what is told of models, by name."""
    talk = dialect.converse("home")
    steps: list[Any] = [next(talk)]
    try:
        steps.append(talk.send(heard({"models": rows})))
        while True:
            step = steps[-1]
            if isinstance(step, AskAll):
                told = [(shown or {}).get(json.loads(call.body)["model"], UNKNOWN) for call in step.calls]
                came = [one if isinstance(one, Exception) else heard(one) for one in told]
                steps.append(talk.send(came))
            elif isinstance(loaded, Exception):
                steps.append(talk.throw(loaded))
            else:
                steps.append(talk.send(heard({"models": loaded})))
    except StopIteration as end:
        return end.value, steps


def listed(*rows: dict[str, Any], **how: Any) -> list[v1.Model]:
    return driven(OllamaModels(), rows, **how)[0]


def row(name: str, details: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return {"name": name, "model": name, "size": 1, "digest": "0", "details": details or {}, **fields}


def test_a_chat_model_with_all_there_is() -> None:
    details = {"family": "qwen3vl", "context_length": 262144, "embedding_length": 4096}
    able = ["completion", "vision", "tools", "thinking"]
    assert listed(row("qwen3-vl:8b", details, capabilities=able)) == [
        v1.Model(
            id="home/qwen3-vl:8b",
            provider="home",
            provider_model="qwen3-vl:8b",
            operations=["chat"],
            capabilities=["json-schema", "tools", "reasoning"],
            input_modalities=[v1.MODALITY_TEXT, v1.MODALITY_IMAGE],
            output_modalities=[v1.MODALITY_TEXT],
            limits=v1.ModelLimits(context_tokens=262144),
            state=v1.Model.STATE_ACTIVE,
        )
    ]


def test_an_embedding_model() -> None:
    details = {"family": "bert", "context_length": 512, "embedding_length": 384}
    (model,) = listed(row("all-minilm:latest", details, capabilities=["embedding"]))
    assert list(model.operations) == ["embed"]
    assert (model.limits.context_tokens, model.limits.embedding_dimensions) == (512, 384)


def test_an_old_server_tells_little() -> None:
    chat, encoder = listed(row("llama3.2:latest", {"family": "llama"}), row("nomic", {"family": "nomic-bert"}))
    assert not chat.operations
    assert not chat.capabilities
    assert not chat.input_modalities
    assert not chat.HasField("limits")
    assert list(encoder.operations) == ["embed"]


def test_an_empty_server() -> None:
    assert driven(OllamaModels(), []) == ([], [Ask(TAGS)])
    assert driven(OllamaModels(), None) == ([], [Ask(TAGS)])


SHOWN = {
    "capabilities": ["completion", "tools"],
    "model_info": {"general.architecture": "llama", "llama.context_length": 131072, "llama.embedding_length": 3072},
    "parameters": 'stop "<|eot_id|>"\nnum_ctx                        8192',
}


def test_what_the_list_leaves_out_is_asked_for_once() -> None:
    dialect = OllamaModels()
    rows = [
        row("llama3.2:latest", {"family": "llama"}, digest="a"),
        row("new", {"context_length": 5}, capabilities=["x"]),
    ]
    models, steps = driven(dialect, rows, {"llama3.2:latest": SHOWN})
    assert steps == [Ask(TAGS), asked("llama3.2:latest"), Ask(PS)]
    assert list(models[0].operations) == ["chat"]
    assert list(models[0].capabilities) == ["json-schema", "tools"]
    assert models[0].limits == v1.ModelLimits(context_tokens=131072, max_input_tokens=8192)
    again, steps = driven(dialect, rows)
    assert again == models
    assert steps == [Ask(TAGS), Ask(PS)]


def test_another_digest_is_another_model() -> None:
    dialect = OllamaModels()
    driven(dialect, [row("m", digest="a")], {"m": SHOWN})
    models, steps = driven(dialect, [row("m", digest="b")], {"m": {"capabilities": ["embedding"]}})
    assert steps[1] == asked("m")
    assert list(models[0].operations) == ["embed"]
    assert driven(dialect, [row("m", digest="a")])[1][1] == asked("m")  # what is gone is forgotten


def test_a_model_that_is_not_shown_is_listed_and_asked_about_again() -> None:
    dialect = OllamaModels()
    for _ in range(2):
        models, steps = driven(dialect, [row("m", digest="a"), row("n", digest="b")], {"n": {"model_info": 7}})
        assert [model.provider_model for model in models] == ["m", "n"]
        assert steps[1] == asked("m", "n")


def test_a_model_that_is_loaded_takes_what_it_is_loaded_with() -> None:
    rows = [row("m", digest="a"), row("n", digest="b")]
    m, n = listed(*rows, shown={"m": SHOWN, "n": SHOWN}, loaded=[{"name": "m", "context_length": 4096}, {"name": "o"}])
    assert (m.limits.context_tokens, m.limits.max_input_tokens) == (131072, 4096)
    assert n.limits.max_input_tokens == 8192


@pytest.mark.parametrize("body", [b"Ollama is running", b"{}", b'{"models":[7]}', b'{"models":[{"details":{}}]}'])
def test_nonsense(body: bytes) -> None:
    talk = OllamaModels().converse("home")
    next(talk)
    with pytest.raises(ProtocolError):
        talk.send(Heard(200, {}, body))


def test_errors() -> None:
    error = OllamaModels().error(401, {}, b'{"error":"unauthorized"}', Target("home", ""))
    assert type(error) is CredentialsRejected
