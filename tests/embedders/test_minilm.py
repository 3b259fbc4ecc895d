"""The small model, held against what others compute with the same weights."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parley_server.core.context import Context
from parley_server.embedders.base import CannotEmbed
from parley_server.embedders.installed import minilm_folder
from parley_server.embedders.minilm import MiniLM, load
from parley_server.embedders.worker import Worker

CTX = Context("chat", False, "request", "response")

# Cosines that sentence-transformers gives, to four places: those of its quick start, and of the model's own page.
COSINES = [
    ("The weather is lovely today.", "It's so sunny outside!", 0.6660),
    ("The weather is lovely today.", "He drove to the stadium.", 0.1046),
    ("It's so sunny outside!", "He drove to the stadium.", 0.1411),
    ("That is a happy person", "That is a happy dog", 0.6946),
    ("That is a happy person", "That is a very happy person", 0.9429),
    ("That is a happy person", "Today is a sunny day", 0.2569),
]


@pytest.fixture(scope="module")
def model() -> Any:
    folder = minilm_folder()
    assert folder is not None
    return load(folder)


@pytest.mark.parametrize(("one", "other", "cosine"), COSINES)
def test_cosines_are_those_of_the_reference(model: Any, one: str, other: str, cosine: float) -> None:
    assert model(one) @ model(other) == pytest.approx(cosine, abs=1e-4)


@pytest.mark.recordings
@pytest.mark.skipif("PARLEY_RECORDINGS" not in os.environ, reason="PARLEY_RECORDINGS names no folder")
def test_vectors_are_those_of_another_implementation(model: Any) -> None:
    found = 0
    for path in Path(os.environ["PARLEY_RECORDINGS"]).glob("ollama/embeddings--*.json"):
        recorded = json.loads(path.read_text("utf-8"))
        asked = recorded["request"]["body"]
        if asked["model"].partition(":")[0] != "all-minilm" or recorded["response"]["status"] != 200:
            continue
        texts = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
        body = json.loads(recorded["response"]["body"])
        for text, theirs in zip(texts, body["data"], strict=True):
            assert model(text) @ np.array(theirs["embedding"], np.float32) > 0.99999  # theirs has weights of 16 bits
            found += 1
    assert found


def test_what_the_model_cannot_read_has_no_vector(model: Any) -> None:
    assert model("word " * 254).shape == (384,)
    for text in ("word " * 255, "price of 🦜", "", "...\n".strip(".\n")):
        with pytest.raises(CannotEmbed):
            model(text)


def test_names_of_special_tokens_are_only_text(model: Any) -> None:
    assert model("one [SEP] two") @ model("one ( sep ) two") > 0.7
    assert model("[CLS]") @ model("cls") > 0.6


async def test_it_works_beside_the_event_loop_and_is_loaded_once() -> None:
    folder = minilm_folder()
    assert folder is not None
    embedder = MiniLM(folder)
    texts = [f"question number {number}" for number in range(20)]
    vectors = await asyncio.gather(*(embedder.embed(text, CTX) for text in texts))
    assert [int(np.argmax(np.array(vectors) @ vector)) for vector in vectors] == list(range(20))
    assert sum(thread.name.startswith("minilm") for thread in threading.enumerate()) == 1
    await embedder.aclose()
    assert not any(thread.name.startswith("minilm") for thread in threading.enumerate())


async def test_a_folder_without_the_model_says_so(tmp_path: Path) -> None:
    embedder = MiniLM(tmp_path)
    with pytest.raises(CannotEmbed, match=r"model\.safetensors"):
        await embedder.embed("text", CTX)
    (tmp_path / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    with pytest.raises(CannotEmbed, match="cannot be read"):
        await embedder.embed("text", CTX)
    await embedder.aclose()


async def test_only_so_many_wait_and_who_goes_is_not_served() -> None:
    worker, begun, go = Worker("test", 3), threading.Event(), threading.Event()
    done: list[str] = []

    def first() -> None:
        begun.set()
        go.wait(10)

    running = asyncio.create_task(worker.do(first))
    await asyncio.to_thread(begun.wait, 10)
    leaves = asyncio.create_task(worker.do(lambda: done.append("left")))
    stays = asyncio.create_task(worker.do(lambda: done.append("stayed")))
    await asyncio.sleep(0)
    with pytest.raises(CannotEmbed, match="waiting"):
        await worker.do(lambda: None)
    leaves.cancel()
    await asyncio.wait((leaves,))
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(worker.do(lambda: None), 0.05)
    assert time.monotonic() - started < 5
    go.set()
    await asyncio.gather(running, stays)
    assert done == ["stayed"]
    assert worker.waiting == 0
    await worker.aclose()
