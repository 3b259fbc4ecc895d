"""docs/scaling.md: its configuration loads, and what it names is there. That its ACL is enough, tests/stores tries."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from parley_server.config import Config, load
from parley_server.metrics import OBSERVED
from parley_server.stores.health import PURPOSES
from parley_server.stores.settings import OnFailure

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "scaling.md").read_text("utf-8")
YAML = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
ENVIRON = {"REDIS_PASSWORD": "a", "SENTINEL_PASSWORD": "b"}


@pytest.mark.parametrize("block", YAML)
def test_the_examples_load(block: str, tmp_path: Path) -> None:
    for name in ("redis-ca.pem", "redis.pem", "redis.key"):
        (tmp_path / name).touch()
    text = block.replace("/etc/parley", str(tmp_path))
    assert yaml.safe_load(text).keys() <= load(text, ENVIRON).model_fields_set


def test_the_table_of_failures_shows_all_modes() -> None:
    [block] = [block for block in YAML if "on_failure" in block]
    shown = yaml.safe_load(block)["redis"]["on_failure"]
    assert shown == OnFailure().model_dump()
    lines = {line.split(":")[0].strip(): line for line in block.splitlines() if ":" in line}
    for name, field in OnFailure.model_fields.items():
        modes = set(field.annotation.__args__)  # type: ignore[union-attr]
        assert {mode for mode in modes if re.search(rf"\b{mode}\b", lines[name])} == modes


def test_settings_that_are_named_are_there() -> None:
    named = re.findall(r"`(redis|storage|resume|server)\.(\w+)`", PAGE)
    assert len(named) >= 10
    for section, name in named:
        assert name in type(getattr(Config(), section)).model_fields, f"{section}.{name}"
    for name, shown in re.findall(r"`redis\.(\w+)` \((\d[\d.]*)(?: s)?\)", PAGE):
        assert getattr(Config().redis, name) == float(shown)


def test_what_operators_look_at_is_there() -> None:
    assert set(re.findall(r"`stores\.(\w+)`", PAGE)) == set(PURPOSES)
    assert set(re.findall(r"`(parley\.store\.\w+)`", PAGE)) <= {row.name for row in OBSERVED}


def test_links_lead_somewhere() -> None:
    for page, anchor in re.findall(r"\]\((\w+\.md)(?:#([\w-]+))?\)", PAGE):
        titles = re.findall(r"^#+ (.+)$", (DOCS / page).read_text("utf-8"), re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
        assert not anchor or anchor in anchors, f"{page}#{anchor}"
