"""The gateway in front of Ollama, over its own API. Skipped, with the reason, where its program is not installed."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from parley import v1
from tests.e2e import behaviours
from tests.e2e.upstreams import Upstream, find_ollama, ollama_server
from tests.gateway.process import Gateway, ask, config, gateway, stream

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]
MODEL = "ollama/tiny"
CONTEXT = 4096
FREED_WITHIN = 2.0


@dataclass
class Scene:
    """A gateway in front of Ollama."""

    server: Gateway
    ollama: Upstream

    def answered(self) -> int:
        """How many chats are over: Ollama logs each when it ends, however it does."""
        return len(re.findall(r'POST\s+"/api/chat"', self.ollama.log.read_text(errors="replace")))

    async def freed(self, before: int) -> float:
        """Seconds until Ollama has given up one more chat."""
        start = time.monotonic()
        while self.answered() <= before:
            assert time.monotonic() - start < FREED_WITHIN, self.ollama.log_tail()
            await asyncio.sleep(0.01)
        return time.monotonic() - start


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    program = find_ollama()
    if program is None:
        pytest.skip("the program ollama is not on the search path")
    with ollama_server(tiny_model, program=program, context_tokens=CONTEXT) as ollama:
        providers = {"ollama": {"base_url": ollama.base_url, "only_if_reachable": True}}
        async with gateway(config(providers=providers), tmp_path_factory.mktemp("gateway")) as server:
            yield Scene(server, ollama)
            assert not [line for line in server.log if line.get("level") == "error"], server.log[-10:]


async def test_models_are_listed(scene: Scene) -> None:
    models: list[v1.Model] = []
    deadline = time.monotonic() + 5
    while not models:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
        models = list((await scene.server.stub.ListModels(v1.ListModelsRequest(provider="ollama"))).models)
    [model] = models
    assert model.id == "ollama/tiny:latest"
    assert model.state == v1.Model.STATE_ACTIVE
    assert "chat" in model.operations


async def test_chat_and_stream_say_the_same(scene: Scene) -> None:
    await behaviours.chat_and_stream_say_the_same(scene.server, MODEL)


async def test_stop_words_stop(scene: Scene) -> None:
    await behaviours.stop_words_stop(scene.server, MODEL)


async def test_a_conversation_goes_on(scene: Scene) -> None:
    await behaviours.a_conversation_goes_on(scene.server, MODEL)


async def test_answers_follow_a_schema(scene: Scene) -> None:
    await behaviours.answers_follow_a_schema(scene.server, MODEL)


async def test_embeddings_are_vectors_of_length_one(scene: Scene) -> None:
    await behaviours.embeddings_are_vectors_of_length_one(scene.server, MODEL)


async def test_what_the_model_cannot_do_is_refused_by_field(scene: Scene) -> None:
    # The template of this model has no place for tools and thoughts, and Ollama says so.
    code, info = await behaviours.refusal(scene.server.stub.Chat(ask(MODEL, tools=[behaviours.WEATHER])))
    assert (code, info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "UNSUPPORTED_PARAMETER")
    thinking = v1.ReasoningOptions(effort=v1.REASONING_EFFORT_HIGH)
    code, info = await behaviours.refusal(scene.server.stub.StreamChat(stream(MODEL, reasoning=thinking)))
    assert (code, info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "UNSUPPORTED_PARAMETER")


async def test_too_long_a_prompt_is_refused_where_it_may_not_be_cut(scene: Scene) -> None:
    whole = {"ollama": '{"truncate": false}'}  # by default Ollama drops the oldest messages in silence
    request = ask(MODEL, "la la " * CONTEXT, provider_options_json=whole)
    code, info = await behaviours.refusal(scene.server.stub.Chat(request))
    assert (code, info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "CONTEXT_LENGTH_EXCEEDED")


async def test_an_unknown_model_is_not_found(scene: Scene) -> None:
    code, info = await behaviours.refusal(scene.server.stub.Chat(ask("ollama/nobody")))
    assert (code, info.reason) == (grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND")


@pytest.mark.parametrize("streaming", [True, False], ids=["stream", "unary"])
async def test_a_cancelled_call_frees_the_server(scene: Scene, streaming: bool) -> None:
    before = scene.answered()
    sampling = behaviours.steadily(100_000)
    if streaming:
        call = scene.server.stub.StreamChat(stream(MODEL, "Hello", sampling=sampling))
        async for event in call:
            if event.HasField("part_delta"):
                break
    else:
        call = scene.server.stub.Chat(ask(MODEL, "Hello", sampling=sampling))
        waiting = asyncio.ensure_future(call)
        await asyncio.sleep(0.3)
    assert scene.answered() == before
    call.cancel()
    if not streaming:
        await asyncio.gather(waiting, return_exceptions=True)
    await scene.freed(before)


async def test_the_deadline_frees_the_server(scene: Scene) -> None:
    before = scene.answered()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in scene.server.stub.StreamChat(
            stream(MODEL, "Hello", sampling=behaviours.steadily(100_000)), timeout=0.3
        ):
            pass
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await scene.freed(before)
