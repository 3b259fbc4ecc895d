"""How a connection to a Redis server is opened: TLS, log-in, database, and the primary that Sentinels name."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import Counter
from typing import Any

from redis.asyncio.connection import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.maint_notifications import MaintNotificationsConfig

from parley_server.core.secret import Secret
from parley_server.stores.redis.errors import ConnectTimeout
from parley_server.stores.settings import RedisSettings, RedisTls

Address = tuple[str, int]


class Opener:
    """Opens connections as `settings` have it. Raises OSError for certificates that cannot be read."""

    def __init__(self, settings: RedisSettings) -> None:
        self._settings = settings
        # Once for all: reading the system's list of authorities holds up everybody for a while.
        self._tls = _context(settings.tls) if settings.encrypted else None

    async def primary(self) -> Connection:
        """A connection to the only server, or to the primary of the moment."""
        settings = self._settings
        address = settings.hosts[0] if settings.kind != "sentinel" else await self._named_by_sentinels()
        return await self.to(address)

    async def to(self, address: Address) -> Connection:
        """A connection to the server at `address`, logged in."""
        settings = self._settings
        return await self._open(address, settings.username, settings.password, settings.database)

    async def _named_by_sentinels(self) -> Address:
        """The primary that most Sentinels name, as soon as it is clear: one that is cut off may name the last one."""
        hosts = self._settings.hosts
        votes: Counter[Address] = Counter()
        asking = [asyncio.create_task(self._name(host)) for host in hosts]
        try:
            for answer in asyncio.as_completed(asking):
                address = await answer
                if address is not None:
                    votes[address] += 1
                    if votes[address] > len(hosts) // 2:
                        break
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        if not votes:
            raise ConnectionError("No master found")
        return votes.most_common(1)[0][0]

    async def _name(self, sentinel: Address) -> Address | None:
        settings = self._settings
        try:
            connection = await self._open(sentinel, settings.sentinel_username, settings.sentinel_password, 0)
            try:
                async with asyncio.timeout(settings.connect_timeout):
                    await connection.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", settings.primary)
                    answer = await connection.read_response(disable_decoding=True)
            finally:
                await connection.disconnect(nowait=True)
        except (RedisError, OSError, TimeoutError):
            return None
        return (answer[0].decode(), int(answer[1])) if answer else None

    async def _open(self, address: Address, username: str | None, password: Secret, database: int) -> Connection:
        options: dict[str, Any] = {
            "host": address[0],
            "port": address[1],
            "db": database,
            "username": username,
            "password": password.reveal() or None,
            "protocol": 2,  # its answers have one shape on all servers
            "socket_timeout": None,  # whole exchanges are timed, not single reads
            "socket_connect_timeout": None,
            "retry": Retry(NoBackoff(), 0),
            "driver_info": None,
            "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        }
        if self._tls is None:
            connection = Connection(**options)
        else:
            connection = secure = SSLConnection(**options)
            secure.ssl_context.context = self._tls
        seconds = self._settings.connect_timeout
        try:
            async with asyncio.timeout(seconds):
                await connection.connect()  # type: ignore[no-untyped-call]
                await connection.send_command("CLIENT", "SETNAME", "parley", check_health=False)
                with contextlib.suppress(ResponseError):  # an ACL may forbid it; it is a help for operators only
                    await connection.read_response()
        except TimeoutError as error:
            await connection.disconnect(nowait=True)
            what = "no connection" if self._tls is None else "no connection with TLS"
            raise ConnectTimeout(f"{what} within {seconds:g} s") from error
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection


def _context(tls: RedisTls) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
        if tls.cert_file is not None:
            context.load_cert_chain(tls.cert_file, tls.key_file)
    except ssl.SSLError as error:
        raise OSError(f"the certificates of redis.tls cannot be used: {error.reason or error}") from error
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
