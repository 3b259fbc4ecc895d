"""Tokens of Google Cloud: a real token server on loopback, keys made for the test, google-auth as it is."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from parley_server.core.errors import CredentialsRejected, Unavailable
from parley_server.core.secret import Secret
from parley_server.providers.auth import TokenAuth, google
from parley_server.transports.base import Outgoing
from tests.upstream import Exchange, Request, Script, refusing, scripted

CALL = Outgoing("POST", "https://provider.test/v1", {}, b"{}")
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


class Clock:
    """Unix time that passes when told to."""

    def __init__(self) -> None:
        self.now = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now


def service_account(token_uri: str, **fields: Any) -> Secret:
    """The key file of a service account."""
    pem = KEY.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    document = {
        "type": "service_account",
        "project_id": "some-project",
        "private_key_id": "k1",
        "private_key": pem,
        "client_email": "robot@some-project.iam.gserviceaccount.com",
        "token_uri": token_uri,
        **fields,
    }
    return Secret(json.dumps(document, indent=2))


def issues(life: int = 3600) -> Script:
    """A token server that gives t1, t2, … for `life` seconds each."""
    count = 0

    async def script(exchange: Exchange) -> None:
        nonlocal count
        count += 1
        await exchange.answer(200, {"access_token": f"t{count}", "expires_in": life, "token_type": "Bearer"})

    return script


def refuses(status: int, body: Any) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.answer(status, body)

    return script


def claims(request: Request) -> dict[str, Any]:
    """What the assertion of a request says, once its signature has been checked."""
    (assertion,) = parse_qs(request.body.decode())["assertion"]
    signed, _, signature = assertion.rpartition(".")
    KEY.public_key().verify(_decoded(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    found: dict[str, Any] = json.loads(_decoded(signed.partition(".")[2]))
    return found


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


async def shown(auth: TokenAuth) -> str:
    return (await auth.headers(CALL))["authorization"]


async def test_a_service_account_signs_for_its_tokens() -> None:
    clock = Clock()
    async with scripted(issues()) as server:
        auth = TokenAuth(google.tokens(clock, service_account(f"{server.base_url}/token")), clock)
        assert await shown(auth) == "Bearer t1"
        assert await shown(auth) == "Bearer t1"
        (request,) = server.requests
        assert (request.method, request.path) == ("POST", "/token")
        said = claims(request)
        assert said["iss"] == "robot@some-project.iam.gserviceaccount.com"
        assert said["scope"] == google.SCOPE
        assert said["aud"] == "https://oauth2.googleapis.com/token"  # whoever gives them
        assert said["exp"] - said["iat"] <= 3600


async def test_tokens_are_renewed_by_the_gateway_s_clock() -> None:
    clock = Clock()
    async with scripted(issues(life=3600)) as server:
        auth = TokenAuth(google.tokens(clock, service_account(server.base_url)), clock)
        assert await shown(auth) == "Bearer t1"
        clock.now += 3590 + 20  # it has expired, by this clock
        assert await shown(auth) == "Bearer t2"
        assert len(server.requests) == 2


async def test_a_token_that_was_refused_is_replaced() -> None:
    clock = Clock()
    async with scripted(issues()) as server:
        auth = TokenAuth(google.tokens(clock, service_account(server.base_url)), clock)
        assert await shown(auth) == "Bearer t1"
        clock.now += 60
        assert auth.rejected(401)
        assert await shown(auth) == "Bearer t2"


async def test_a_key_that_is_refused() -> None:
    clock = Clock()
    body = {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
    async with scripted(refuses(400, body)) as server:
        auth = TokenAuth(google.tokens(clock, service_account(server.base_url)), clock)
        with pytest.raises(CredentialsRejected) as refused:
            await shown(auth)
        assert "invalid_grant" in refused.value.message
        assert "PRIVATE" not in refused.value.message


async def test_a_token_server_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("google.auth._exponential_backoff.time.sleep", lambda _seconds: None)  # between its attempts
    clock = Clock()
    async with scripted(refuses(503, {"error": "internal_failure"})) as server:
        auth = TokenAuth(google.tokens(clock, service_account(server.base_url)), clock)
        with pytest.raises(Unavailable):
            await shown(auth)
        assert len(server.requests) > 1


async def test_a_token_server_that_cannot_be_reached() -> None:
    clock = Clock()
    with refusing() as base_url:
        auth = TokenAuth(google.tokens(clock, service_account(base_url)), clock)
        with pytest.raises(Unavailable):
            await shown(auth)


async def test_workload_identity_federation(tmp_path: Path) -> None:
    clock = Clock()
    subject = tmp_path / "token"
    subject.write_text("subject-token")
    async with scripted(issues()) as server:
        document = {
            "type": "external_account",
            "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/o",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": f"{server.base_url}/v1/token",
            "credential_source": {"file": str(subject)},
        }
        auth = TokenAuth(google.tokens(clock, Secret(json.dumps(document))), clock)
        assert await shown(auth) == "Bearer t1"
        asked = parse_qs(server.requests[0].body.decode())
        assert asked["subject_token"] == ["subject-token"]
        assert asked["scope"] == [google.SCOPE]


async def test_no_credentials_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = tmp_path / "missing.json"
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(missing))
    auth = TokenAuth(google.tokens(Clock()), Clock())
    with pytest.raises(CredentialsRejected) as refused:
        await shown(auth)
    assert str(missing) not in refused.value.message


@pytest.mark.parametrize(
    "text",
    ["", "AIzaSyA0", "[]", "{}", '{"type":"impersonated_service_account"}'],
)
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(ValueError, match="not a key of Google Cloud"):
        google.key_document(text)


def test_a_key_that_runs_a_program_is_not_taken() -> None:
    document = {"type": "external_account", "credential_source": {"executable": {"command": "/bin/true"}}}
    with pytest.raises(ValueError, match="runs a program"):
        google.key_document(json.dumps(document))


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    found: Callable[[str], None] = missing
    monkeypatch.setattr("importlib.util.find_spec", found)
    assert not google.is_installed()
