"""docs/reliability.md: its configuration loads, and every setting, field and reason that it names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from parley import v1
from parley_server.config import Config, load
from parley_server.core import errors
from parley_server.core.verdict import OUTRUN

PAGE = (Path(__file__).parents[2] / "docs" / "reliability.md").read_text("utf-8")
YAML = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
PROVIDERS = {"openai": {"api_key": "env:KEY"}, "anthropic": {"api_key": "env:KEY"}}
ENVIRON = {"KEY": "k", "OPENAI_API_KEY": "k", "OPENAI_KEY_ONE": "k1", "OPENAI_KEY_TWO": "k2"}


@pytest.mark.parametrize("block", YAML)
def test_the_examples_load(block: str) -> None:
    given = yaml.safe_load(block)
    config = load(yaml.safe_dump({"providers": PROVIDERS, **given}), ENVIRON)
    assert given.keys() <= config.model_fields_set


def test_defaults_that_are_shown_as_such() -> None:
    shown = {name: section for block in YAML for name, section in yaml.safe_load(block).items()}
    assert set(shown) >= {"retry", "breaker", "hedging", "bulkhead", "timeouts", "resume", "idempotency", "reload"}
    for name in ("retry", "breaker"):
        defaults = getattr(Config(), name).model_dump()
        assert {key: defaults[key] for key in shown[name]} == shown[name]


def test_settings_that_are_named_are_there() -> None:
    sections = {name: getattr(Config(), name) for name in Config.model_fields}
    named = re.findall(r"`(\w+)\.(\w+)`", PAGE)
    fields = {"routing": v1.RoutingOptions.DESCRIPTOR, "route": v1.RouteInfo.DESCRIPTOR}
    fields["options"] = v1.StreamOptions.DESCRIPTOR
    assert len(named) > 20
    for section, name in named:
        if section in fields:
            assert name in fields[section].fields_by_name, f"{section}.{name}"
        else:
            assert name in type(sections[section]).model_fields, f"{section}.{name}"


def test_reasons_that_are_named_are_there() -> None:
    reasons = {kind.reason for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "reason")}
    words = reasons | {code.value for code in errors.Code} | {OUTRUN.reason} | set(v1.Usage.Source.keys())
    words |= {"NOT_SERVING", "FAIL", "RESTART", "CONTINUE", "SIGHUP", "SIGTERM", "TLS"}
    for word in re.findall(r"`([A-Z]+(?:_[A-Z]+)*)`", PAGE):
        assert word in words, word
