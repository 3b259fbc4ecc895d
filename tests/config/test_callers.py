"""The `callers` section: keys by reference or digest, none of them shown, and what is wrong told without them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from parley_server.config import Config, load
from parley_server.config_callers import known_callers
from parley_server.config_revision import digest
from parley_server.core.callers import Callers
from parley_server.core.callers import digest as key_digest
from parley_server.core.context import Context
from tests.config.problems import problems

KEY = "sk-parley-0123456789abcdefXYZ"
OTHER = "sk-parley-another-0123456789"
SHA = hashlib.sha256(KEY.encode()).hexdigest()


def callers(text: str, environ: dict[str, str] | None = None) -> Callers:
    section = load(text, environ or {}).callers
    assert section is not None
    return known_callers(section)


def who(known: Callers, key: str) -> tuple[str, str]:
    ctx = Context(operation="chat", streaming=False, request_id="r", response_id="r", key=key_digest(key))
    known.identify(ctx)
    return ctx.caller, ctx.tenant


def test_without_the_section_nobody_is_asked_who_they_are() -> None:
    assert load("", {}).callers is None
    assert load("callers:\n  # billing:\n  #   key: env:KEY\n", {}).callers is None


def test_keys_are_references_or_digests(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(f"{KEY}\n")
    for reference in ("env:K", f"'file:{path}'", f"sha256:{SHA}", f"sha256:{SHA.upper()}"):
        known = callers(f"callers: {{billing: {{key: {reference}}}}}", {"K": f" {KEY} "})
        assert who(known, KEY) == ("billing", "billing")


def test_a_caller_may_have_several_keys_and_a_tenant() -> None:
    known = callers("callers: {web: {key: env:A, keys: [env:B], tenant: shop}}", {"A": KEY, "B": OTHER})
    assert who(known, KEY) == who(known, OTHER) == ("web", "shop")


def test_variables_name_callers_too() -> None:
    known = callers("", {"PARLEY_CALLERS__BILLING__KEY": "env:K", "K": KEY})
    assert who(known, KEY) == ("billing", "billing")


def test_neither_key_nor_digest_is_shown() -> None:
    config = load("callers: {billing: {key: env:K}}", {"K": KEY})
    shown = f"{config!r} {config} {config.callers!r} {config.callers['billing']!r}"  # type: ignore[index]
    assert KEY not in shown
    assert SHA not in shown


def test_the_digest_of_a_configuration_changes_with_a_key() -> None:
    def of(key: str) -> str:
        return digest(load("callers: {billing: {key: env:K}}", {"K": key}))

    assert of(KEY) == of(f"{KEY}\n") != of(OTHER)
    assert of(KEY) != digest(Config())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("callers: {}", "callers: names nobody"),
        ("callers: {billing: {}}", "callers.billing: has no key"),
        ("callers: {billing: }", "callers.billing: should be a mapping"),
        ("callers: {billing: {keys: []}}", "callers.billing: has no key"),
        (f"callers: {{billing: {{key: {KEY}}}}}", "callers.billing.key: write a reference, env:NAME"),
        ("callers: {billing: {key: env:NONE}}", "callers.billing.key: the environment variable NONE is not set"),
        ("callers: {billing: {key: env:SHORT}}", "callers.billing.key: the key has fewer than 16 characters"),
        ("callers: {billing: {key: sha256:12}}", "callers.billing.key: sha256: is followed by 64 hexadecimal digits"),
        ("callers: {billing: {keys: [env:K, env:NONE]}}", "callers.billing.keys.1: the environment variable NONE"),
        ("callers: {Billing: {key: env:K}}", "callers.Billing: a name has 1 to 63 lower-case letters"),
        ("callers: {billing: {key: env:K, tennant: x}}", "callers.billing.tennant: unknown key; did you mean tenant?"),
        ("callers: {a: {key: env:K}, b: {key: env:K}}", "callers: a and b have the same key"),
        (f"callers: {{a: {{key: env:K}}, b: {{key: 'sha256:{SHA}'}}}}", "callers: a and b have the same key"),
    ],
)
def test_what_is_wrong_is_told_without_the_key(text: str, said: str) -> None:
    (problem,) = problems(text, {"K": KEY, "SHORT": "0123456789abcde"})
    assert problem.startswith(said)
    assert KEY not in problem
    assert "0123456789abcde" not in problem
