"""Who may know whom, where the import contracts cannot tell."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from parley_server.providers.kinds import known

SERVER = Path(__file__).resolve().parent.parent / "server" / "parley_server"
PREFIXES_OF_KEYS = SERVER / "core" / "scrub.py"
"""Lists what credentials begin with, to hide them."""
WORDS = {"together", "writer", "mock"}
"""Names of kinds that are words of ours too, and the one that is part of every gateway."""


@pytest.mark.parametrize("room", ["core", "pipeline", "api"])
def test_no_provider_is_known_by_name_outside_its_own_room(room: str) -> None:
    names = "|".join(sorted(map(re.escape, known().keys() - WORDS)))
    named = re.compile(rf"(?<![\w-])(?:{names}|claude|gpt|llama)(?![\w-])", re.IGNORECASE)
    files = [path for path in (SERVER / room).rglob("*.py") if path != PREFIXES_OF_KEYS]
    assert files
    found = {
        f"{path.relative_to(SERVER)}:{number}": line.strip()
        for path in files
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if named.search(line)
    }
    assert not found


def test_decisions_are_numbered_once() -> None:
    records = sorted(path for path in (SERVER / "decisions").glob("0*.md"))
    numbers = [path.name[:4] for path in records]
    assert numbers == [f"{number:04}" for number in range(1, len(records) + 1)]
    assert [path.name for path in records if not path.read_text("utf-8").startswith(f"# {path.name[:4]}: ")] == []
