"""`parley-server models`: what is printed, without asking anybody."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from parley import v1
from parley_server.catalog.table import table
from parley_server.cli import app


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """A runner in an environment that configures nothing."""
    for name in list(os.environ):
        if name.startswith(("PARLEY_", "OTEL_", "OLLAMA_")) or name.endswith("_API_KEY"):
            monkeypatch.delenv(name)
    return CliRunner()


def test_columns() -> None:
    priced = v1.Model(
        id="p/long",
        operations=["chat"],
        state=v1.Model.STATE_DEPRECATED,
        limits=v1.ModelLimits(context_tokens=200_000),
        pricing=v1.ModelPricing(
            input_nano_usd=2_000_000_000,
            output_nano_usd=0,
            cache_read_nano_usd=37_500_000,
            unpriced_modalities=[v1.MODALITY_AUDIO],
            tiers=[
                v1.PriceTier(service_tier="flex", above_input_tokens=5),
                v1.PriceTier(service_tier="flex"),
                v1.PriceTier(above_input_tokens=1000),
            ],
        ),
    )
    priced.shutdown_time.FromDatetime(datetime(2027, 1, 14, tzinfo=UTC))
    bare = v1.Model(id="q/x", state=v1.Model.STATE_ACTIVE)
    ranks = v1.Model(id="r", operations=["rerank"], pricing=v1.ModelPricing(search_nano_usd=2_500_000))
    assert "0.0025 a search" in table([ranks])
    assert table([priced, bare]).splitlines() == [
        "model   operations  context  input $  output $  cached $  other prices         state",
        "p/long  chat         200000     2.00      0.00    0.0375  >1000,flex,no audio  deprecated until 2027-01-14",
        "q/x     -                 -        -         -         -  -                    active",
    ]


def test_models_of_the_configuration(cli: CliRunner, tmp_path: Path) -> None:
    overlay, config = tmp_path / "models.yaml", tmp_path / "parley.yaml"
    overlay.write_text('providers: {lab: {tuned: {context_tokens: 777, prices: {input: "0.125"}}}}')
    config.write_text(
        f"catalog: {{overlay: {overlay}}}\n"
        "providers: {lab: {kind: openai, api_key: env:K, models: [tuned, gpt-4o]}, anthropic: {api_key: env:K}}"
    )
    arguments = ["models", "-c", str(config)]
    lines = cli.invoke(app, arguments, env={"K": "k"}).stdout.splitlines()
    assert lines[0].startswith("model ")
    [tuned] = [line for line in lines if line.startswith("lab/tuned ")]
    assert "777" in tuned
    assert "0.125" in tuned
    ids = [line.split()[0] for line in lines[1:]]
    assert ids == sorted(ids)
    assert {"anthropic/claude-opus-5-5", "lab/gpt-4o", "lab/text-embedding-3-small"} <= set(ids)
    embed = cli.invoke(app, [*arguments, "--provider", "lab", "--operation", "embed"], env={"K": "k"}).stdout
    assert "lab/text-embedding-3-small" in embed
    assert "gpt-4o" not in embed
    assert "anthropic/" not in embed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--provider", "nobody"], "parley-server: no provider nobody; providers: mock, ollama\n"),
        (["--operation", "sing"], "parley-server: operation sing is none of chat, embed, rerank\n"),
    ],
)
def test_questions_that_make_no_sense(cli: CliRunner, arguments: list[str], said: str) -> None:
    result = cli.invoke(app, ["models", *arguments])
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", said)
