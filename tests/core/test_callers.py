"""Who calls is known by the digest of a key, and by nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_server.core.callers import Caller, Callers, bearer, digest
from parley_server.core.context import Context
from parley_server.core.errors import CredentialsMissing, Unauthenticated

KEYS = {"sk-one-0123456789abcdef": Caller("one", "shop"), "sk-two-0123456789abcdef": Caller("two", "two")}
CALLERS = Callers({digest(key): caller for key, caller in KEYS.items()})


def context(key: str) -> Context:
    ctx = Context(operation="chat", streaming=False, request_id="req_1", response_id="resp_1")
    ctx.key = digest(key) if key else b""
    return ctx


@pytest.mark.parametrize("key", KEYS)
def test_a_known_key_names_caller_and_tenant(key: str) -> None:
    ctx = context(key)
    CALLERS.identify(ctx)
    assert (ctx.caller, ctx.tenant) == (KEYS[key].name, KEYS[key].tenant)
    assert not ctx.key, "what was shown does not travel on"


def test_no_key_and_a_wrong_one_are_told_apart() -> None:
    with pytest.raises(CredentialsMissing):
        CALLERS.identify(context(""))
    ctx = context("sk-three-0123456789abcdef")
    with pytest.raises(Unauthenticated) as caught:
        CALLERS.identify(ctx)
    assert type(caught.value) is Unauthenticated
    assert "sk-" not in str(caught.value)
    assert not ctx.caller


@given(st.text(min_size=1, max_size=60))
def test_nothing_but_a_key_is_let_in(key: str) -> None:
    if key not in KEYS:
        with pytest.raises(Unauthenticated):
            CALLERS.identify(context(key))


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("Bearer abc", "abc"),
        ("bearer abc", "abc"),
        (" BEARER   abc ", "abc"),
        ("Basic abc", "Basic abc"),
        ("abc", "abc"),
        ("Bearer", "Bearer"),
        ("", ""),
    ],
)
def test_the_scheme_of_an_authorization_is_taken_off(value: str, key: str) -> None:
    assert bearer(value) == key


def test_who_waits_in_a_queue_is_the_caller_where_it_is_known() -> None:
    ctx = Context(operation="chat", streaming=False, request_id="r", response_id="r", peer=lambda: "ipv4:1.2.3.4:5")
    assert ctx.who() == "ipv4:1.2.3.4:5"
    ctx.caller = "one"
    assert ctx.who() == "one"
