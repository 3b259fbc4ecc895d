"""Credentials."""

from __future__ import annotations

import json
import traceback

from parley_server.core.secret import Secret

KEY = "sk-proj-0123456789abcdefXYZ"


def test_reveal_is_the_one_way_to_it() -> None:
    secret = Secret(KEY)
    assert secret.reveal() == KEY
    shown = [f"{secret}", f"{secret!r}", str([secret]), json.dumps({"key": secret}, default=str), repr({"key": secret})]
    assert shown == ["Secret(…)", "Secret(…)", "[Secret(…)]", '{"key": "Secret(\\u2026)"}', "{'key': Secret(…)}"]


def test_white_space_around_it_is_no_part_of_it() -> None:
    assert Secret(f"  {KEY}\r\n").reveal() == KEY


def test_an_empty_one_is_false_and_says_so() -> None:
    assert not Secret(" \n")
    assert Secret(KEY)
    assert repr(Secret("")) == "Secret(empty)"


def test_equality_and_hash_go_by_content() -> None:
    assert Secret(KEY) == Secret(f"{KEY}\n")
    assert len({Secret(KEY), Secret(KEY), Secret("other")}) == 2
    assert Secret(KEY) != KEY


def test_tracebacks_with_values_of_variables_do_not_show_it() -> None:
    def fails(secret: Secret) -> None:
        raise RuntimeError(f"with {secret}")

    try:
        fails(Secret(KEY))
    except RuntimeError as error:
        shown = traceback.TracebackException.from_exception(error, capture_locals=True)
        assert KEY not in "".join(line for line in shown.format() if "KEY" not in line)
        assert "secret = Secret(…)" in "".join(shown.format())
