"""TLS to Redis: with a server that speaks it, where there is one, and through a proxy that ends it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog
import trustme

from parley_server import shelves
from parley_server.config import load
from tests.stores.proxy import Proxy
from tests.stores.requests import Outcomes, request
from tests.stores.servers import REDIS, VALKEY, Server, free_port


class Certificates:
    """Files of one authority: its own, a server's and a client's."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.server = self.authority.issue_cert("127.0.0.1", "localhost")
        client = self.authority.issue_cert("gateway")
        self.ca, self.cert, self.key = folder / "ca.pem", folder / "client.pem", folder / "client.key"
        self.server_cert, self.server_key = folder / "server.pem", folder / "server.key"
        self.authority.cert_pem.write_to_path(self.ca)
        for certificate, cert, key in ((client, self.cert, self.key), (self.server, self.server_cert, self.server_key)):
            certificate.private_key_pem.write_to_path(key)
            for number, blob in enumerate(certificate.cert_chain_pems):
                blob.write_to_path(cert, append=number > 0)

    def context(self, *, mutual: bool) -> ssl.SSLContext:
        """What a server needs."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server.configure_cert(context)
        if mutual:
            context.verify_mode = ssl.CERT_REQUIRED
            self.authority.configure_trust(context)
        return context

    def settings(self, *, mutual: bool) -> str:
        pair = f", cert_file: {self.cert}, key_file: {self.key}" if mutual else ""
        return f"tls: {{ca_file: {self.ca}{pair}}}"


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


@asynccontextmanager
async def stores(redis: str) -> AsyncIterator[shelves.Stores]:
    made = shelves.build(load(f"redis: {{{redis}, connect_timeout: 5, timeout: 5, slow: 5}}", {}))
    try:
        await made.start()
        yield made
    finally:
        await made.aclose()


async def works(made: shelves.Stores) -> None:
    """Values and messages pass."""
    outcomes = Outcomes()
    assert await request(made.keyvalue("cache"), outcomes)
    listener = made.messages("cache").listen("news")
    assert await asyncio.wait_for(anext(listener), 10) is None
    await made.messages("cache").publish("news", b"1")
    assert await asyncio.wait_for(anext(listener), 10) == b"1"
    await listener.aclose()  # type: ignore[attr-defined]


@pytest.mark.parametrize("mutual", [False, True], ids=["server_only", "mutual"])
async def test_through_a_proxy(valkey: Server, certificates: Certificates, mutual: bool) -> None:
    async with Proxy(valkey.port, certificates.context(mutual=mutual)) as proxy:
        text = f"url: 'rediss://127.0.0.1:{proxy.port}', {certificates.settings(mutual=mutual)}"
        async with stores(text) as made:
            await works(made)


@pytest.mark.skipif(REDIS is None, reason="no redis-server on the PATH (Debian: apt install redis-server)")
async def test_to_a_server_that_speaks_it(certificates: Certificates) -> None:
    tls_port = free_port()
    options = [f"tls-port {tls_port}", f"tls-cert-file {certificates.server_cert}"]
    options += [f"tls-key-file {certificates.server_key}", f"tls-ca-cert-file {certificates.ca}"]
    server = Server(str(REDIS), [*options, "requirepass secret"]).start()
    try:
        for mutual, works_so in ((True, True), (False, False)):  # Redis asks for a client's certificate
            text = f"url: 'rediss://127.0.0.1:{tls_port}/1', {certificates.settings(mutual=mutual)}"
            made = shelves.build(load(f"redis: {{{text}, password: env:P, connect_timeout: 5}}", {"P": "secret"}))
            await made.start()
            assert bool(made.health.degraded) is not works_so
            if works_so:
                await works(made)
            await made.aclose()
    finally:
        server.close()


@pytest.mark.parametrize(
    ("host", "extra", "said"),
    [
        ("127.0.0.1", "", "a certificate that is not trusted; see redis.tls"),
        ("127.0.0.2", "tls: {ca_file: CA}", "a certificate that is not trusted; see redis.tls"),
    ],
    ids=["unknown_authority", "other_name"],
)
async def test_servers_that_are_not_trusted(
    valkey: Server, certificates: Certificates, host: str, extra: str, said: str
) -> None:
    async with Proxy(valkey.port, certificates.context(mutual=False), host=host) as proxy:
        text = f"url: 'rediss://{host}:{proxy.port}'" + (f", {extra}" if extra else "")
        with structlog.testing.capture_logs() as log:
            async with stores(text.replace("CA", str(certificates.ca))) as made:
                assert "cache" in made.health.degraded
        assert said in log[0]["reason"]
        text += ", tls: {verify: false}" if not extra else ""
        text = text.replace("ca_file: CA", "verify: false")
        async with stores(text) as made:
            await works(made)


async def test_a_server_without_tls_is_told_from_one_with(valkey: Server) -> None:
    with structlog.testing.capture_logs() as log:
        made = shelves.build(load(f"redis: {{url: 'rediss://127.0.0.1:{valkey.port}', tls: {{verify: false}}}}", {}))
        await made.start()
        assert "cache" in made.health.degraded
        await made.aclose()
    assert "cannot be reached: no connection with TLS within 0.25 s" in log[0]["reason"]


async def test_a_wrong_password_is_told() -> None:
    server = Server(VALKEY, ["requirepass secret"]).start()
    try:
        for password, said in (
            ("", "wants a password (redis.username, redis.password)"),
            (", password: env:P", "does not know the user or the password"),
        ):
            made = shelves.build(load(f"redis: {{url: '{server.url}'{password}}}", {"P": "wrong-one"}))
            with structlog.testing.capture_logs() as log:
                await made.start()
            assert said in log[0]["reason"]
            assert "wrong-one" not in str(log)
            await made.aclose()
    finally:
        server.close()
