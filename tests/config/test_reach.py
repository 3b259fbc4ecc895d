"""What a gateway needs to be reachable from other machines, and what is wrong with certificates."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from parley_server.config import load
from parley_server.config_revision import carried
from tests.config.problems import problems

KEYS = {"K": "sk-parley-0123456789abcdefXYZ"}
CALLERS = "callers: {billing: {key: env:K}}\n"


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with cert.pem, key.pem, ca.pem, and the key of another certificate, other.pem."""
    folder = tmp_path_factory.mktemp("pem")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    mine, other = authority.issue_cert("localhost"), authority.issue_cert("localhost")
    mine.private_key_pem.write_to_path(folder / "key.pem")
    for blob in mine.cert_chain_pems:
        blob.write_to_path(folder / "cert.pem", append=True)
    other.private_key_pem.write_to_path(folder / "other.pem")
    (folder / "text.pem").write_text("no certificate")
    return folder


def server(pem: Path, *, address: str = "0.0.0.0:1", client_ca: bool = False, tls: bool = True) -> str:
    asks = f", client_ca: {pem}/ca.pem" if client_ca else ""
    said = f", tls: {{cert: {pem}/cert.pem, key: 'file:{pem}/key.pem'{asks}}}" if tls else ""
    return f"server: {{address: '{address}'{said}}}\n"


def test_callers_and_tls_together_are_enough(pem: Path) -> None:
    files: set[Path] = set()
    config = load(CALLERS + server(pem), KEYS, files=files)
    assert config.server.tls is not None
    assert files == {pem / "cert.pem", pem / "key.pem"}
    assert "PRIVATE KEY" not in repr(config)


def test_certificates_of_clients_are_enough_too(pem: Path) -> None:
    assert load(server(pem, client_ca=True), {}).server.tls is not None


@pytest.mark.parametrize(
    ("callers", "tls", "said"),
    [(False, True, "nothing authenticates callers"), (True, False, "travels in clear (server.tls)")],
)
def test_one_without_the_other_is_not(pem: Path, callers: bool, tls: bool, said: str) -> None:
    text = (CALLERS if callers else "") + server(pem, tls=tls)
    (problem,) = problems(text, KEYS)
    assert problem.startswith("server.address: 0.0.0.0 is reachable from other machines, and ")
    assert said in problem
    assert ", and what" not in problem.partition(", and ")[2], "only what is missing"
    assert load(text.replace("server: {", "server: {insecure: true, "), KEYS).server.insecure
    assert load(text.replace("0.0.0.0", "127.0.0.1"), KEYS).server.address == "127.0.0.1:1"


def test_the_variable_that_sets_the_address_is_named() -> None:
    (problem,) = problems("", {"PARLEY_SERVER__ADDRESS": "0.0.0.0:1"})
    assert problem.startswith("server.address (PARLEY_SERVER__ADDRESS): ")


@pytest.mark.parametrize(
    ("cert", "key", "said"),
    [
        ("cert.pem", "other.pem", "cannot be used together: key values mismatch"),
        ("cert.pem", "cert.pem", "cannot be used together"),
        ("none.pem", "key.pem", "server.tls.cert: cannot read"),
        ("text.pem", "key.pem", "text.pem is not a PEM file"),
    ],
)
def test_certificates_that_cannot_be_used(pem: Path, cert: str, key: str, said: str) -> None:
    (problem,) = problems(f"server: {{tls: {{cert: {pem}/{cert}, key: {pem}/{key}}}}}")
    assert said in problem
    assert problem.startswith("server.tls")


def test_a_key_in_place_of_its_path_is_not_repeated(pem: Path) -> None:
    text = (pem / "key.pem").read_text()
    indented = "".join(f"      {line}\n" for line in text.splitlines())
    (problem,) = problems(f"server:\n  tls:\n    cert: {pem}/cert.pem\n    key: |\n{indented}")
    assert problem == "server.tls.key: write the path of a PEM file"


def test_certificates_are_replaced_and_tls_itself_is_not(pem: Path, tmp_path: Path) -> None:
    address = "127.0.0.1:1"
    old = load(server(pem, address=address), {})
    moved = tmp_path / "pem"
    moved.mkdir()
    for name in ("cert.pem", "key.pem"):
        (moved / name).write_bytes((pem / name).read_bytes())
    assert carried(old, load(server(moved, address=address), {}))[1] == []
    asks = load(server(pem, address=address, client_ca=True), {})
    assert carried(old, asks)[1] == ["server.tls"]
    plain = load("server: {address: '127.0.0.1:1'}", {})
    assert carried(old, plain)[1] == carried(plain, old)[1] == ["server.tls"]
    assert carried(old, plain)[0].server.tls == old.server.tls


def test_the_admin_port_beyond_loopback_needs_a_word_of_its_own(pem: Path) -> None:
    served = CALLERS + server(pem)
    (problem,) = problems(served + "admin: {address: '[::]:1'}", KEYS)
    assert problem.startswith("admin: [::] is reachable from other machines, and nothing authenticates operators")
    assert problem.endswith("or set admin.insecure: true behind something that sees to it")
    config = load(served + "admin: {address: '[::]:1', insecure: true}", KEYS)
    assert (config.admin.insecure, config.server.insecure) == (True, False)
    (problem,) = problems("server: {address: '[::]:1'}\nadmin: {insecure: true}")
    assert problem.startswith("server.address: ")
