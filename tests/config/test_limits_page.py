"""docs/limits.md: its configuration loads, and every setting and reason that it names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import trustme
import yaml

from parley_server.config import load
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
    words = reasons | {"PARLEY_TOKEN", "TLS", "KEY"}
    named = re.findall(r"`([A-Z]+(?:_[A-Z]+)*)`", PAGE)
    assert named
    assert set(named) <= words
