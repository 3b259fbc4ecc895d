"""Which slot of a cluster a command goes to."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from parley_server.stores.redis.cluster import slot, slot_of


@given(st.text(alphabet=st.characters(codec="utf-8")) | st.text(alphabet="{}ab"))
def test_slots_are_those_of_the_library(key: str) -> None:
    assert slot(key) == slot(key.encode()) == key_slot(key.encode())


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (("GET", "a"), "a"),
        (("SET", b"a", b"value", "PX", 5), "a"),
        (("EVALSHA", "digest", 2, "{t}a", "{t}b", "x"), "t"),
        (("EVAL", "return 1", 1, "a"), "a"),
        (("XADD", "a", "*", "b", b"c"), "a"),
        (("PUBLISH", "a", b"message"), "a"),
        (("XREAD", "COUNT", 5, "STREAMS", "a", "0"), "a"),
    ],
)
def test_commands_go_to_their_keys(command: Sequence[str | bytes | int], key: str) -> None:
    assert slot_of(command) == slot(key)


@pytest.mark.parametrize("command", [("PING",), ("EVAL", "return 1", 0), ("TIME",)])
def test_what_has_no_key_goes_anywhere(command: Sequence[str | bytes | int]) -> None:
    assert slot_of(command) is None
