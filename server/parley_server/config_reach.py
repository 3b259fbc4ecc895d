"""Who can reach the ports: TLS of the data port, and what an address beyond this machine needs."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator

from parley_server.settings import Section, note_file


@dataclass(frozen=True, slots=True)
class Pem:
    """A PEM file as it was when it was read."""

    path: str
    data: bytes = field(repr=False)


def _pem(value: object, info: ValidationInfo) -> Pem:
    if isinstance(value, Pem):
        return value
    if not isinstance(value, str) or "\n" in value:  # nothing of it is repeated: it may be the key itself
        raise ValueError("write the path of a PEM file")
    path = Path(value.removeprefix("file:"))
    note_file(info, path)
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read {path}: {getattr(error, 'strerror', 'it is no path')}") from None
    if b"-----BEGIN " not in data:
        raise ValueError(f"{path} is not a PEM file")
    return Pem(str(path), data)


PemFile = Annotated[Pem, BeforeValidator(_pem)]
"""Path of a PEM file, with or without `file:` before it."""


class Tls(Section):
    """Certificates of the data port. The files are read again whenever they change."""

    cert: PemFile = Field(description="PEM file: the certificate, and then those between it and the authority.")
    key: PemFile = Field(description="PEM file: its private key, not encrypted.")
    client_ca: PemFile | None = Field(
        None, description="PEM file: the authorities of clients. With it only clients with a certificate connect."
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.cert.path, self.key.path, password=_no_password)
        except ssl.SSLError as error:
            reason = str(error.reason or "they are damaged").replace("_", " ").lower()
            raise ValueError(f"{self.cert.path} and {self.key.path} cannot be used together: {reason}") from None
        except (OSError, ValueError) as error:
            raise ValueError(f"{self.cert.path} and {self.key.path} cannot be used together: {error}") from None
        if self.client_ca is not None:
            try:
                context.load_verify_locations(cadata=self.client_ca.data.decode("ascii", "replace"))
            except ssl.SSLError:
                raise ValueError(f"{self.client_ca.path} holds no certificate that can be read") from None
        return self

    def pem(self) -> tuple[bytes, bytes, bytes | None]:
        """Certificate, private key, and the authorities of clients, if any."""
        return self.cert.data, self.key.data, None if self.client_ca is None else self.client_ca.data


def _no_password() -> str:
    raise ValueError("the private key is encrypted")


def lacks_of(*, tls: Tls | None, callers: bool) -> list[str]:
    """What the data port lacks to be reachable from other machines."""
    lacks = []
    if not callers and (tls is None or tls.client_ca is None):
        lacks.append("nothing authenticates callers (`callers`, or server.tls.client_ca)")
    if tls is None:
        lacks.append("what is said travels in clear (server.tls)")
    return lacks


def check_reach(address: str, lacks: list[str], *, section: str = "server") -> None:
    """Raises ValueError if other machines reach `address` of `section` and it lacks anything."""
    host = address.rpartition(":")[0]
    if lacks and not _is_loopback(host):
        raise ValueError(
            f"{host} is reachable from other machines, and {', and '.join(lacks)}; listen on 127.0.0.1, or set "
            f"{section}.insecure: true behind something that sees to it"
        )


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
