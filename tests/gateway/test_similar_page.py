"""What docs/similar-questions.md shows works as it stands there, and its numbers are those that are measured."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from parley_server.config import load
from parley_server.config_semantic import Semantic
from parley_server.embedders import installed
from parley_server.embedders.minilm import MiniLM
from parley_server.embedders.model import ModelEmbedder
from parley_server.embedders.ngrams import HashedNgrams
from tests.gateway.process import ask, config, gateway
from tests.gateway.test_readme import run
from tests.gateway.test_similar import WISH, until_known
from tests.questions.judged import judged
from tests.questions.pairs import pairs

PAGE = (Path(__file__).parents[2] / "docs" / "similar-questions.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_its_configuration_loads() -> None:
    [block] = blocks("yaml")
    settings = load(block, {"OPENAI_API_KEY": "sk-nobody"})
    policies = settings.cache.policies({name: route.cache for name, route in settings.routes.items()})
    assert settings.cache.semantic.enabled
    assert policies.usual.similar
    assert (policies.of("faq").min_similarity, policies.of("support").similar) == (0.9, False)


def test_what_it_says_is_to_be_installed_is_what_the_gateway_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed.importlib.util, "find_spec", lambda _: None)  # type: ignore[attr-defined]
    commands = [line for line in PAGE.splitlines() if line.startswith("pip install")]
    assert installed.missing("minilm").endswith(" and ".join(commands))


def test_the_thresholds_of_the_settings_are_those_of_the_embedders() -> None:
    described = Semantic.model_fields["threshold"].description or ""
    thresholds = f"minilm {MiniLM.threshold}, ngrams {HashedNgrams.threshold}, other models {ModelEmbedder.threshold}"
    assert thresholds in described
    assert f"| minilm | {MiniLM.threshold} |" in PAGE
    assert f"| ngrams | {HashedNgrams.threshold} |" in PAGE


async def test_its_table_is_what_is_measured() -> None:
    same = sum(pair.is_same for pair in pairs("judging"))
    assert f"{same} that ask the same and {len(pairs('judging')) - same} that only look like it" in PAGE
    embedder = HashedNgrams()
    said = await judged(pairs("judging"), embedder, embedder.threshold, words=True)
    without = await judged(pairs("judging"), embedder, embedder.threshold, words=False)
    row = f"| ngrams | {embedder.threshold} | {said.precision:.2f} | {said.recall:.2f} | {without.precision:.2f} |"
    assert row in PAGE


async def test_its_example_runs(tmp_path: Path) -> None:
    [code] = blocks("python")
    settings = config(cache={"semantic": {"enabled": True, "timeout": 20}})
    first = "How do I turn on notifications?"
    async with gateway(settings, tmp_path, module="tests.gateway.inspected") as server:
        await server.stub.Chat(ask("mock/echo", first, response_cache=WISH))
        await until_known(server)  # longer than the second that the page waits, perhaps
        (tmp_path / "example.py").write_text(code.replace("parley.Client()", f"parley.Client({server.address!r})"))
        printed = await run(sys.executable, "example.py", cwd=tmp_path)
        text, similarity = printed.rstrip("\n").rsplit(" ", 1)
        assert text.endswith(first)
        assert 0.8 <= float(similarity) < 1
