"""Routes in the configuration: what they become, and what is wrong with those that cannot be. The page on routing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
import yaml
from google.protobuf.json_format import Parse
from typer.testing import CliRunner

from parley import v1
from parley_server.api import validate
from parley_server.cli import app
from parley_server.config import load
from parley_server.config_routes import FallbackOn, StrategyName
from parley_server.core.routes import CONTENT_BLOCKED, INVALID_REQUEST
from parley_server.pipeline.hedge import HedgePolicy
from parley_server.routing import hedges
from tests.config.problems import problems

PAGE = (Path(__file__).parents[2] / "docs" / "routing.md").read_text("utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
YAML = [code for language, code in BLOCKS if language == "yaml"]
PROVIDERS: dict[str, dict[str, str]] = {
    "openai": {"api_key": "env:KEY"},
    "anthropic": {"api_key": "env:KEY"},
    "gemini": {"api_key": "env:KEY"},
    "azure": {"api_key": "env:KEY", "resource": "lab"},
}


@pytest.mark.parametrize("block", YAML)
def test_the_examples_of_the_page_load(block: str) -> None:
    given = yaml.safe_load(block)
    named = {name: {**PROVIDERS.get(name, {}), **own} for name, own in given.pop("providers", {}).items()}
    config = load(yaml.safe_dump({**given, "providers": PROVIDERS | named}), {"KEY": "k"})
    assert config.routes


def test_the_page_shows_what_the_examples_say() -> None:
    assert len(YAML) == 5
    [request] = [code for language, code in BLOCKS if language == "json"]
    parsed = Parse(request, v1.ChatRequest())
    assert validate.chat(parsed) == []
    assert parsed.routing.max_cost_nano_usd == 20_000_000
    for name in get_args(StrategyName):
        assert f"| `{name}` | `STRATEGY_{name.upper()}` |" in PAGE
    for name in get_args(FallbackOn):
        assert f"`fallback_on: [{name}]`" in PAGE


def test_names_are_those_that_the_router_knows() -> None:
    assert set(get_args(FallbackOn)) == {CONTENT_BLOCKED, INVALID_REQUEST}
    known = {name.removeprefix("STRATEGY_").lower() for name in v1.RoutingOptions.Strategy.keys()}  # noqa: SIM118
    assert set(get_args(StrategyName)) == known - {"unspecified"}


def routes(text: str) -> str:
    return f"providers: {{mock: {{}}}}\nroutes:\n{text}"


def test_overrides_are_spelt_as_in_the_api() -> None:
    spelt = "{reasoning: {effort: low, visibility: full}, sampling: {top_k: 3}}"
    text = f"  r: {{targets: [{{model: mock/a, overrides: {spelt}}}]}}"
    overrides = load(routes(text), {}).routes["r"].targets[0].overrides.value()
    assert overrides is not None
    assert overrides.sampling == v1.SamplingOptions(top_k=3)
    assert overrides.reasoning == v1.ReasoningOptions(
        effort=v1.REASONING_EFFORT_LOW, visibility=v1.ReasoningOptions.VISIBILITY_FULL
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("  a/b: {targets: [{model: mock/x}]}", "routes.a/b: a name has 1 to 63 lower-case letters"),
        ("  r: {targets: []}", "routes.r.targets: a route has 1 to 32 targets, not 0"),
        ("  r: {}", "routes.r.targets: Field required"),
        ("  r: {targets: [{model: mok/x}]}", "no provider mok is configured; did you mean mock/x?"),
        ("  r: {targets: [{model: echo}]}", "routes.r.targets.0.model: is neither provider/model nor a route"),
        ("  r: {targets: [{model: mock/}]}", "routes.r.targets.0.model: is neither provider/model nor a route"),
        ("  r: {targets: [{model: rest}]}\n  rust: {targets: [{model: mock/x}]}", "did you mean rust?"),
        ("  r: {targets: [{model: mock/x, weight: -1}]}", "routes.r.targets.0.weight: "),
        ("  r: {targets: [{model: mock/x}], strategy: random}", "routes.r.strategy: Input should be 'ordered', "),
        ("  r: {targets: [{model: mock/x}], fallback_on: [all]}", "routes.r.fallback_on.0: "),
        ("  r: {targets: [{model: mock/x, wieght: 2}]}", "targets.0.wieght: unknown key; did you mean weight?"),
        (
            "  r: {targets: [{model: mock/x, overrides: {sampling: {temprature: 1}}}]}",
            "routes.r.targets.0.overrides.sampling: unknown key temprature; did you mean temperature?",
        ),
        (
            "  r: {targets: [{model: mock/x, overrides: {sampling: {temperature: 3}}}]}",
            "routes.r.targets.0.overrides.sampling: sampling.temperature is 3; 0 to 2 are allowed",
        ),
        (
            "  r: {targets: [{model: mock/x, overrides: {sampling: {temperature: hot}}}]}",
            "routes.r.targets.0.overrides.sampling: ",
        ),
        (
            "  r: {targets: [{model: mock/x, overrides: {reasoning: {effort: tiny}}}]}",
            "overrides.reasoning: effort: 'tiny' is none of none, minimal, low, medium, high, xhigh, max",
        ),
        (
            "  r: {targets: [{model: mock/x, overrides: {reasoning: [low]}}]}",
            "routes.r.targets.0.overrides.reasoning: should be a mapping of settings",
        ),
        ("  r: {targets: [{model: r}]}", "routes.r: leads back to itself: r -> r"),
        (
            "  c: {targets: [{model: mock/x}, {model: b}]}\n  b: {targets: [{model: a}]}\n  a: {targets: [{model: c}]}",
            "routes.a: leads back to itself: a -> c -> b -> a",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(text: str, problem: str) -> None:
    [said] = problems(routes(text))
    assert problem in said


def test_routes_that_stand_for_too_many_targets_are_refused() -> None:
    lines = ["  r0: {targets: [{model: mock/x}, {model: mock/y}]}"]
    lines += [f"  r{n}: {{targets: [{{model: r{n - 1}}}, {{model: r{n - 1}}}]}}" for n in range(1, 30)]
    found = problems(routes("\n".join(lines)))
    assert found[0] == "routes.r6: stands for 128 targets in all; at most 64 are allowed"


def test_check_tells_of_bad_routes_and_names_good_ones(tmp_path: Path) -> None:
    path = tmp_path / "parley.yaml"
    path.write_text(routes("  r: {targets: [{model: r}]}\n  s: {targets: [{model: gone/x}]}"))
    result = CliRunner().invoke(app, ["check", "-c", str(path)])
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        f"{path}: routes.s.targets.0.model: no provider gone is configured",
        f"{path}: routes.r: leads back to itself: r -> r",
    ]
    path.write_text(routes("  b: {targets: [{model: a}]}\n  a: {targets: [{model: mock/x}]}"))
    result = CliRunner().invoke(app, ["check", "-c", str(path)])
    assert result.stdout.endswith("; providers: mock; routes: a, b\n")
    listed = CliRunner().invoke(app, ["models", "-c", str(path)])
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["model", "a", "b"]


def test_a_route_is_raced_as_it_says_and_else_as_all_are() -> None:
    config = load(
        """
providers: {mock: {}}
hedging: {delay: 2, percentile: 90, budget: 7}
routes:
  plain: {targets: [{model: mock/x}]}
  raced: {targets: [{model: mock/x}, {model: mock/y}], hedging: {whole_delay: 4}}
  apart: {targets: [{model: mock/x}, {model: mock/y}], hedging: {percentile: 99, budget: 1}}
  never: {targets: [{model: mock/x}, {model: mock/y}], hedging: {enabled: false}}
""",
        {},
    )
    everywhere, own = hedges(config.hedging, config.routes)
    assert not everywhere.enabled
    assert own.keys() == {"raced", "apart", "never"}
    assert own["raced"]._policy == HedgePolicy(2, 4, 90, enabled=True)
    assert own["apart"]._policy == HedgePolicy(2, 10, 99, enabled=True)
    assert not own["never"].enabled
    assert own["raced"]._allowance is everywhere._allowance
    assert own["apart"]._allowance is not everywhere._allowance
    taken = [own["apart"]._allowance.take() for _ in range(3)]
    assert taken == [True, False, False]


@pytest.mark.parametrize("percentile", ["20", "99.9", "p95"])
def test_percentiles_that_nobody_can_know(percentile: str) -> None:
    found = problems(f"hedging: {{percentile: {percentile}}}")
    assert len(found) == 1
    assert found[0].startswith("hedging.percentile: ")
