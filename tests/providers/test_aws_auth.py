"""Signatures of AWS, which must be those of botocore for any request, and where the credentials come from."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock
from urllib.parse import quote

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as TheirCredentials
from hypothesis import given
from hypothesis import strategies as st

from parley_server.core.errors import CredentialsRejected
from parley_server.core.secret import Secret
from parley_server.providers.auth.aws import AwsAuth, Credentials, chain, sign
from parley_server.transports.base import Outgoing
from tests.upstream import Exchange, Upstream, scripted

KEY = Credentials("AKIDEXAMPLE", Secret("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"))
NOW = 1_800_000_000.0
URL = "https://bedrock-runtime.us-east-1.amazonaws.com/model/m/converse"

segments = st.one_of(
    st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12).map(lambda text: quote(text, safe="")),
    st.sampled_from(
        ["", ".", "..", "a b", "~", "amazon.nova-lite-v1%3A0", "us.anthropic.claude", "a:b", "%2F", "+", "é"]
    ),
    st.just(quote("arn:aws:bedrock:us-east-1:000000000000:application-inference-profile/x", safe="")),
)
paths = st.lists(segments, max_size=5).map(lambda found: "/" + "/".join(found))
words = st.text(st.characters(codec="ascii", categories=("L", "Nd")), max_size=5)
queries = st.lists(st.tuples(words, st.text(max_size=6)), max_size=4).map(
    lambda pairs: "&".join(f"{name}={quote(value, safe='')}" for name, value in pairs)
)
hosts = st.sampled_from(
    [
        "https://bedrock-runtime.us-east-1.amazonaws.com",
        "https://EXAMPLE.com:443",
        "https://vpce-1.example.com:8443",
        "http://127.0.0.1:8080",
        "http://localhost:80",
    ]
)
headers = st.dictionaries(
    st.sampled_from(["content-type", "x-amz-custom", "x-amzn-bedrock-service-tier"]),
    st.sampled_from(["application/json", "two  words", " padded "]),
)
times = st.integers(946684800, 4102444800).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
tokens = st.sampled_from(["", "FwoGZXIvYXdzE//token=="])


@given(
    st.sampled_from(["GET", "POST"]), hosts, paths, queries, headers, st.binary(max_size=50), times, tokens,
    st.sampled_from(["us-east-1", "eu-central-1"]), st.sampled_from(["bedrock", "sagemaker", "bedrock-mantle"]),
)  # fmt: skip
def test_signatures_are_those_of_botocore(
    method: str,
    host: str,
    path: str,
    query: str,
    sent: dict[str, str],
    body: bytes,
    at: datetime,
    token: str,
    region: str,
    service: str,
) -> None:
    url = host + path + (f"?{query}" if query else "")
    signed = {name: value for name, value in sent.items() if name != "x-amzn-bedrock-service-tier"}
    request = Outgoing(method, url, {**sent, "user-agent": "parley", "accept": "*/*"}, body)
    credentials = Credentials(KEY.access_key_id, KEY.secret_access_key, Secret(token))
    found = sign(request, credentials, region, service, at)
    theirs = AWSRequest(method, url, headers=signed, data=body)
    key = TheirCredentials(KEY.access_key_id, KEY.secret_access_key.reveal(), token or None)
    with mock.patch("botocore.auth.get_current_datetime", return_value=at):
        SigV4Auth(key, service, region).add_auth(theirs)
    assert found["authorization"] == theirs.headers["Authorization"]
    assert found["x-amz-date"] == theirs.headers["X-Amz-Date"]
    assert found.get("x-amz-security-token") == theirs.headers.get("X-Amz-Security-Token")


def request(url: str = URL) -> Outgoing:
    return Outgoing("POST", url, {"content-type": "application/json"}, b"{}")


def key_of(headers: Mapping[str, str]) -> str:
    """The ID of the key that signed."""
    return headers["authorization"].partition("Credential=")[2].partition("/")[0]


async def test_a_key_that_lasts_signs_and_what_was_refused_stays_refused() -> None:
    auth = AwsAuth(KEY, "us-east-1", lambda _url: "bedrock", lambda: NOW)
    headers = await auth.headers(request())
    assert key_of(headers) == KEY.access_key_id
    assert headers["x-amz-date"] == "20270115T080000Z"
    assert "/20270115/us-east-1/bedrock/aws4_request" in headers["authorization"]
    assert not auth.rejected(403)
    assert "wJalr" not in repr(auth)


async def test_the_service_goes_by_the_url() -> None:
    auth = AwsAuth(KEY, "us-east-1", lambda url: "bedrock-mantle" if "mantle" in url else "bedrock", lambda: NOW)
    assert "/bedrock-mantle/" in (await auth.headers(request("https://mantle.example/x")))["authorization"]
    assert "/bedrock/" in (await auth.headers(request()))["authorization"]


class Rotating:
    """Credentials that are others each time."""

    def __init__(self) -> None:
        self.fetched = 0
        self.now = NOW

    async def __call__(self) -> tuple[Credentials, float]:
        self.fetched += 1
        return Credentials(f"ASIA{self.fetched}", Secret("s"), Secret(f"t{self.fetched}")), self.now + 3600


async def test_credentials_that_expire_are_fetched_once_and_again_after_a_403() -> None:
    source = Rotating()
    auth = AwsAuth(source, "us-east-1", lambda _url: "bedrock", lambda: source.now)
    first = await auth.headers(request())
    assert (key_of(first), first["x-amz-security-token"]) == ("ASIA1", "t1")
    assert key_of(await auth.headers(request())) == "ASIA1"
    assert not auth.rejected(403)  # they are new: it is not their age
    source.now += 60
    assert not auth.rejected(500)
    assert auth.rejected(403)
    assert key_of(await auth.headers(request())) == "ASIA2"
    source.now += 3601
    assert key_of(await auth.headers(request())) == "ASIA3"
    assert source.fetched == 3


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment without credentials, and a folder for some."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    return tmp_path


async def test_the_chain_reads_profiles(empty: Path) -> None:
    (empty / "credentials").write_text(
        "[default]\naws_access_key_id = A1\naws_secret_access_key = s1\n"
        "[lab]\naws_access_key_id = A2\naws_secret_access_key = s2\naws_session_token = t2\n"
    )
    credentials, expires_at = await chain("", lambda: NOW)()
    assert credentials == Credentials("A1", Secret("s1"))
    assert expires_at == NOW + 900  # nobody says that they expire, but they may be others by then
    assert (await chain("lab", lambda: NOW)())[0] == Credentials("A2", Secret("s2"), Secret("t2"))
    with pytest.raises(CredentialsRejected, match="ProfileNotFound"):
        await chain("nobody", lambda: NOW)()


async def test_the_chain_finds_nothing(empty: Path) -> None:
    with pytest.raises(CredentialsRejected, match="no AWS credentials"):
        await chain("", lambda: NOW)()


@asynccontextmanager
async def container(expires: datetime) -> AsyncIterator[Upstream]:
    """What a container is told of its credentials."""

    async def script(exchange: Exchange) -> None:
        body = {"AccessKeyId": "ASIA", "SecretAccessKey": "s", "Token": "t", "Expiration": expires.isoformat()}
        await exchange.answer(200, json.dumps(body))

    async with scripted(script) as upstream:
        yield upstream


async def test_the_chain_asks_the_container(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expires = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=6)
    async with container(expires) as upstream:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{upstream.base_url}/creds")
        credentials, expires_at = await chain("")()
        assert credentials == Credentials("ASIA", Secret("s"), Secret("t"))
        assert expires_at == expires.timestamp()
        assert [asked.path for asked in upstream.requests] == ["/creds"]
