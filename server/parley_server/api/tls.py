"""Certificates of the data port, replaced while it serves: later connections are shown the new ones."""

from __future__ import annotations

import grpc


class Certificates:
    """What the port shows. `client_ca`: PEM of the authorities whose certificates clients must have, if they must."""

    def __init__(self, cert: bytes, key: bytes, client_ca: bytes | None) -> None:
        self._shown = _configuration(cert, key, client_ca)
        self._next: grpc.ServerCertificateConfiguration | None = None
        self._asks_clients = client_ca is not None

    def credentials(self) -> grpc.ServerCredentials:
        """For the port; asks here before every handshake, on a thread of gRPC's."""
        return grpc.dynamic_ssl_server_credentials(
            self._shown,
            self._fresh,  # type: ignore[arg-type]  # None: as before, which the stubs do not know
            self._asks_clients,
        )

    def replace(self, cert: bytes, key: bytes, client_ca: bytes | None) -> None:
        """Show these from now on. Whether clients need certificates stays as it was."""
        self._next = _configuration(cert, key, client_ca)

    def _fresh(self) -> grpc.ServerCertificateConfiguration | None:
        fresh, self._next = self._next, None
        return fresh


def _configuration(cert: bytes, key: bytes, client_ca: bytes | None) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(key, cert)], root_certificates=client_ca)
