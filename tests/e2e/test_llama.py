"""The gateway in front of llama.cpp's server: over OpenAI's API (`llama/tiny`) and over Anthropic's (`claude/tiny`)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from parley import v1
from tests.e2e import behaviours
from tests.e2e.upstreams import LlamaServer, llama_server
from tests.gateway.process import Gateway, ask, config, gateway, stream

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]
MODELS = ["llama/tiny", "claude/tiny"]
KEY = "key-of-the-locked-server"
CONTEXT = 4096
# llama.cpp looks once a second whether the caller of a unary request is still there; a stream ends with the next token.
IDLE_AFTER_STREAM, IDLE_AFTER_UNARY = 0.5, 2.5


@dataclass
class Scene:
    """A gateway in front of three servers: open to all; with one slot; with a key, and thinking before it speaks."""

    server: Gateway
    open: LlamaServer
    locked: LlamaServer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    folder = tmp_path_factory.mktemp("gateway")
    with (
        llama_server(tiny_model, context_tokens=CONTEXT) as free,
        llama_server(tiny_model, slots=1, context_tokens=CONTEXT) as single,
        llama_server(tiny_model, api_key=KEY, thinking_tokens=6, context_tokens=CONTEXT, embeddings=False) as locked,
    ):
        providers = {
            name: {"kind": kind, "base_url": f"{upstream.base_url}/v1", "api_key": f"env:{key}"}
            for name, kind, upstream, key in (
                ("llama", "openai-compatible", free, "NO_MATTER"),
                ("claude", "anthropic", free, "NO_MATTER"),
                ("single", "openai-compatible", single, "NO_MATTER"),
                ("thinker", "openai-compatible", locked, "RIGHT"),
                ("thinking-claude", "anthropic", locked, "RIGHT"),
                ("stranger", "openai-compatible", locked, "WRONG"),
                ("claude-stranger", "anthropic", locked, "WRONG"),
            )
        }
        environ = {"NO_MATTER": "any", "RIGHT": KEY, "WRONG": "another-key"}
        async with gateway(config(providers=providers), folder, environ) as server:
            yield Scene(server, free, locked)
            assert not [line for line in server.log if line.get("level") == "error"], server.log[-10:]


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("model", MODELS)
async def test_chat_and_stream_say_the_same(scene: Scene, model: str) -> None:
    await behaviours.chat_and_stream_say_the_same(scene.server, model)


@pytest.mark.parametrize("model", MODELS)
async def test_stop_words_stop(scene: Scene, model: str) -> None:
    await behaviours.stop_words_stop(scene.server, model)


@pytest.mark.parametrize("model", MODELS)
async def test_a_conversation_goes_on(scene: Scene, model: str) -> None:
    await behaviours.a_conversation_goes_on(scene.server, model)


async def test_answers_follow_a_schema(scene: Scene) -> None:
    await behaviours.answers_follow_a_schema(scene.server, "llama/tiny")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("streaming", [False, True], ids=["unary", "stream"])
async def test_tools_are_called_and_their_results_heard(scene: Scene, model: str, streaming: bool) -> None:
    await behaviours.tools_are_called_and_their_results_heard(scene.server, model, streaming=streaming)


async def test_embeddings_are_vectors_of_length_one(scene: Scene) -> None:
    # With one slot: in several at once, llama.cpp itself gives some inputs of a batch other vectors than it does alone.
    await behaviours.embeddings_are_vectors_of_length_one(scene.server, "single/tiny")


@pytest.mark.parametrize("model", MODELS)
async def test_too_long_a_prompt_is_refused(scene: Scene, model: str) -> None:
    await behaviours.too_long_a_prompt_is_refused(scene.server, model, tokens=CONTEXT)


async def test_models_are_listed(scene: Scene) -> None:
    listed: dict[str, v1.Model] = {}
    deadline = time.monotonic() + 5
    while not {"llama/tiny", "thinker/tiny", "claude/tiny"} <= listed.keys():
        assert time.monotonic() < deadline, list(listed)
        response = await scene.server.stub.ListModels(v1.ListModelsRequest())
        listed = {model.id: model for model in response.models}
        await asyncio.sleep(0.02)
    assert "chat" in listed["llama/tiny"].operations
    assert "stranger/tiny" not in listed


@pytest.mark.parametrize("model", ["stranger/tiny", "claude-stranger/tiny"])
async def test_a_wrong_key_is_the_operators_business(scene: Scene, model: str) -> None:
    code, info = await behaviours.refusal(scene.server.stub.Chat(ask(model)))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert info.reason == "PROVIDER_CREDENTIALS_REJECTED"
    assert "another-key" not in repr(info)


@pytest.mark.parametrize("model", ["thinker/tiny", "thinking-claude/tiny"])
async def test_thoughts_come_first_and_apart(scene: Scene, model: str) -> None:
    request = ask(model, "Hello", sampling=behaviours.steadily(24))
    whole = await scene.server.stub.Chat(request)
    assert [part.WhichOneof("kind") for part in whole.message.parts] == ["reasoning", "text"]
    thought = whole.message.parts[0].reasoning.text
    assert thought
    arrived, events = await behaviours.folded(scene.server, request)
    assert arrived.message.parts[0].reasoning.text == thought
    assert behaviours.text(arrived) == behaviours.text(whole)
    deltas = [str(event.part_delta.WhichOneof("delta")) for event in events if event.HasField("part_delta")]
    assert set(deltas) == {"reasoning", "text"}
    assert deltas == sorted(deltas), "reasoning before text"
    request.messages.append(whole.message)  # with the thoughts, as the API wants it
    request.messages.append(v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text="Go on")]))
    assert behaviours.text(await scene.server.stub.Chat(request))


@pytest.mark.parametrize("model", MODELS)
async def test_a_cancelled_stream_frees_the_server(scene: Scene, model: str) -> None:
    for _ in range(3):
        call = scene.server.stub.StreamChat(stream(model, "Hello", sampling=behaviours.steadily(3500)))
        seen = 0
        async for event in call:
            seen += event.HasField("part_delta")
            if seen == 3:
                break
        assert scene.open.generating() == 1
        call.cancel()
        await asyncio.to_thread(scene.open.wait_until_idle, IDLE_AFTER_STREAM)


@pytest.mark.parametrize("model", MODELS)
async def test_a_cancelled_call_frees_the_server(scene: Scene, model: str) -> None:
    call = scene.server.stub.Chat(ask(model, "Hello", sampling=behaviours.steadily(3500)))
    waiting = asyncio.ensure_future(call)
    await until(lambda: scene.open.generating() == 1)
    call.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await asyncio.to_thread(scene.open.wait_until_idle, IDLE_AFTER_UNARY)


async def test_the_deadline_frees_the_server(scene: Scene) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in scene.server.stub.StreamChat(
            stream("llama/tiny", "Hello", sampling=behaviours.steadily(3500)), timeout=0.15
        ):
            pass
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await asyncio.to_thread(scene.open.wait_until_idle, IDLE_AFTER_STREAM)


async def test_more_callers_than_slots_all_get_their_answer(scene: Scene) -> None:
    async def one(number: int) -> str:
        model = MODELS[number % 2]
        request = ask(model, f"Question {number // 2}", sampling=behaviours.steadily(60))
        return behaviours.text((await behaviours.folded(scene.server, request))[0])

    answers = await asyncio.gather(*(one(number) for number in range(24)))
    assert all(answers)
    assert answers[0::2] == answers[1::2], "both APIs give the same answer to the same question"
