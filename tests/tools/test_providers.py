"""The table of providers: all that are built in, in its place, and nothing else touched."""

from __future__ import annotations

import pytest

from parley_server.providers.kinds import BUILT_IN
from tests.tools.providers import BEGIN, END, README, example, rewritten, table


def test_every_kind_has_a_row_that_says_what_it_does() -> None:
    lines = table().splitlines()[2:]
    assert len(lines) == len(BUILT_IN)
    for kind in BUILT_IN:
        [row] = [line for line in lines if line.startswith(f"| `{kind.name}` | ")]
        operations, notes = row.split(" | ")[1], row.removesuffix(" |").rpartition(" | ")[2]
        assert set(operations.split(", ")) <= {"chat", "embed", "rerank"}
        assert notes
        assert example(kind).operations()


def test_only_what_is_between_the_marks_is_written() -> None:
    text = f"before\n{BEGIN}\nold\n{END}\nbehind\n"
    new = rewritten(text)
    assert new == f"before\n{BEGIN}\n{table()}\n{END}\nbehind\n"
    assert rewritten(new) == new


def test_a_readme_without_the_marks_is_an_error() -> None:
    with pytest.raises(ValueError, match="no place for the table"):
        rewritten("nothing here")
    assert BEGIN in README.read_text()
