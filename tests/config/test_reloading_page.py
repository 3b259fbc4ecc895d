"""The page on reloading: its configuration loads, its table is what the code says, its commands are there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from parley.channel import service_config
from parley_server.config import load
from parley_server.config_revision import NEEDS_RESTART

PAGE = (Path(__file__).parents[2] / "docs" / "reloading.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
YAML = [code for language, code in BLOCKS if language == "yaml"]


@pytest.mark.parametrize("text", YAML)
def test_the_configuration_loads(text: str, tmp_path: Path) -> None:
    for name, content in {"/run/secrets/openai": "sk-1", "/etc/parley/models.yaml": "providers: {}"}.items():
        file = tmp_path / Path(name).name
        file.write_text(content)
        text = text.replace(name, str(file))
    files: set[Path] = set()
    load(text, {}, files=files)
    assert files == set(tmp_path.iterdir()) if "providers" in text else not files


def test_what_it_calls_the_usual_values_are_those() -> None:
    config = load("", {})
    assert (config.reload.interval, config.server.max_connection_age) == (2, 1800)


def test_the_table_names_what_needs_a_restart() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", PAGE.partition("<!-- needs a restart -->")[2], re.MULTILINE)
    named = [f"{section}.{name}" for section, names in rows for name in re.findall(r"`(\w+)`", names)]
    assert named == list(NEEDS_RESTART)


def test_the_client_settings_are_those_of_the_sdk() -> None:
    [text] = [code for language, code in BLOCKS if language == "json"]
    ours = service_config()
    assert json.loads(text) == {name: ours[name] for name in ("loadBalancingConfig", "healthCheckConfig")}
