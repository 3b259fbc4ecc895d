"""TLS on the data port, over real sockets: with the SDK, with another certificate later, with those of clients."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

import parley
from parley import v1
from parley.v1.gateway_service_pb2_grpc import GatewayServiceStub
from tests.gateway.process import Gateway, config, gateway

KEY = "sk-parley-0123456789abcdefghi"


class Authority:
    """Issues certificates into a folder."""

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA()
        self._folder = folder
        self.pem = self._ca.cert_pem.bytes()
        (folder / "ca.pem").write_bytes(self.pem)

    def serve(self) -> dict[str, str]:
        """A new certificate for the gateway, in place of any there is."""
        issued = self._ca.issue_cert("localhost", "127.0.0.1")
        cert, key = self._folder / "cert.pem", self._folder / "key.pem"
        cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        key.write_bytes(issued.private_key_pem.bytes())
        return {"cert": str(cert), "key": str(key)}

    def client(self) -> tuple[bytes, bytes]:
        """Private key and certificate of a client."""
        issued = self._ca.issue_cert("client")
        return issued.private_key_pem.bytes(), issued.cert_chain_pems[0].bytes()


async def shown(port: int) -> str:
    """The certificate that a new connection is shown."""
    return await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port), timeout=10)


async def differs(port: int, before: str) -> bool:
    return await shown(port) != before


async def said(server: Gateway, event: str) -> bool:
    return any(line["event"] == event for line in server.log)


async def eventually(true: Callable[[], Awaitable[bool]]) -> bool:
    for _ in range(400):
        if await true():
            return True
        await asyncio.sleep(0.05)
    return False


async def info(port: int, credentials: grpc.ChannelCredentials) -> Any:
    async with grpc.aio.secure_channel(f"localhost:{port}", credentials) as channel:
        stub: Any = GatewayServiceStub(channel)
        return await stub.GetServerInfo(v1.GetServerInfoRequest(), timeout=5)


async def test_callers_with_keys_over_tls_and_a_certificate_that_is_replaced(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    settings = config(
        server={"address": "0.0.0.0:0", "tls": authority.serve()},
        callers={"billing": {"key": "env:KEY"}},
        reload={"interval": 0.1},
    )
    async with gateway(settings, tmp_path, {"KEY": KEY}) as server:
        trusts = grpc.ssl_channel_credentials(authority.pem)
        async with parley.AsyncClient(f"localhost:{server.port}", token=KEY, tls=trusts) as client:
            assert (await client.chat("mock/echo", "hi")).text == "hi"
            assert await client.health() == "serving"
            before = await shown(server.port)
            authority.serve()
            assert await eventually(lambda: differs(server.port, before))
            assert (await client.chat("mock/echo", "on the old connection")).text
        async with parley.AsyncClient(f"localhost:{server.port}", token=KEY, tls=trusts) as client:
            assert (await client.chat("mock/echo", "on a new one")).text
        (tmp_path / "key.pem").write_text("-----BEGIN PRIVATE KEY-----\nnone\n-----END PRIVATE KEY-----\n")
        assert await eventually(lambda: said(server, "config_refused"))
        async with parley.AsyncClient(f"localhost:{server.port}", token=KEY, tls=trusts) as client:
            assert (await client.chat("mock/echo", "a bad file changes nothing")).text
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        stranger = Authority(elsewhere)
        async with parley.AsyncClient(
            f"localhost:{server.port}", token=KEY, tls=grpc.ssl_channel_credentials(stranger.pem), timeout=10
        ) as client:
            with pytest.raises(parley.ConnectionFailed):
                await client.chat("mock/echo", "not to someone we do not know")
        assert not any(line["event"] == "needs_restart" for line in server.log)


async def test_only_clients_with_a_certificate_connect(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    tls = {**authority.serve(), "client_ca": str(tmp_path / "ca.pem")}
    async with gateway(config(server={"address": "0.0.0.0:0", "tls": tls}), tmp_path) as server:
        mine = grpc.ssl_channel_credentials(authority.pem, *authority.client())
        assert (await info(server.port, mine)).version
        other = tmp_path / "other"
        other.mkdir()
        for credentials in (
            grpc.ssl_channel_credentials(authority.pem),
            grpc.ssl_channel_credentials(authority.pem, *Authority(other).client()),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await info(server.port, credentials)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
