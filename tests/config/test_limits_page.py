"""docs/limits.md: its configuration loads, and every setting and reason that it names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import trustme
import yaml

from parley_server.config import Config, load
from parley_server.config_limits import LimitSettings
from parley_server.core import errors

PAGE = (Path(__file__).parents[2] / "docs" / "limits.md").read_text("utf-8")
YAML = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
ENVIRON = {"BILLING_KEY": "b" * 20, "CRAWLER_KEY": "c" * 20}


@pytest.mark.parametrize("block", YAML)
def test_the_examples_load(block: str, tmp_path: Path) -> None:
    issued = trustme.CA().issue_cert("localhost")
    files = {
        "/run/secrets/search": b"s" * 20,
        "/etc/parley/tls.crt": issued.cert_chain_pems[0].bytes(),
        "/etc/parley/tls.key": issued.private_key_pem.bytes(),
    }
    for name, content in files.items():
        (tmp_path / Path(name).name).write_bytes(content)
        block = block.replace(name, str(tmp_path / Path(name).name))
    given = yaml.safe_load(block)
    if "server" in given:  # what the page says that it needs beside TLS
        given.setdefault("callers", {"billing": {"key": "env:BILLING_KEY"}})
    config = load(yaml.safe_dump(given), ENVIRON)
    assert given.keys() <= config.model_fields_set


def test_reasons_that_are_named_are_there() -> None:
    reasons = {kind.reason for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "reason")}
    words = reasons | {code.value for code in errors.Code} | {"PARLEY_TOKEN", "TLS", "KEY"}
    named = re.findall(r"`([A-Z]+(?:_[A-Z]+)*)`", PAGE)
    assert named
    assert set(named) <= words


def test_settings_that_are_named_are_there() -> None:
    sections = {name: getattr(Config(), name) for name in Config.model_fields}
    for section, name in re.findall(r"`(\w+)\.(\w+)", PAGE):
        if section in sections:
            assert name in type(sections[section]).model_fields, f"{section}.{name}"


def test_defaults_that_are_shown_as_such() -> None:
    assert Config().limits.expected_output == 500
    assert Config().redis.on_failure.limits == "local"
    fields = set(LimitSettings.model_fields)
    table = re.findall(r"^\| (`.+?`) \|", PAGE, re.MULTILINE)
    assert {name for row in table for name in re.findall(r"`(\w+)`", row)} == fields
