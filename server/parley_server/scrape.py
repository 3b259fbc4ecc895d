"""Where Prometheus finds the metrics: HTTP on a port and a thread of their own.

The admin port speaks gRPC, which no scraper does; see decisions/0035. It answers while the event loop is blocked, with
what is counted; only what would have to be looked up there is left out.
"""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Iterable
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import structlog
from prometheus_client import CollectorRegistry, make_wsgi_app

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

PATH = "/metrics"
_MOST = 8  # scrapes at a time; further connections are closed
_SLOW = 10.0  # seconds that a client may be silent

log = structlog.get_logger("parley.metrics")


class ScrapeServer:
    """Serves `registry` at PATH. Takes its port at once; raises OSError if it cannot be had."""

    def __init__(self, registry: CollectorRegistry, address: str) -> None:
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        family = _Server6 if ":" in host else _Server
        self._server = family((host, int(port)), _Handler)
        self._server.set_app(_app(registry))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="metrics", daemon=True)

    @property
    def port(self) -> int:
        """Which one it was."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering. Returns once the port is closed."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


class _Server(ThreadingMixIn, WSGIServer):
    """Several at a time, so that a scraper that hangs keeps no other one waiting; but not many."""

    daemon_threads = True
    block_on_close = False
    address_family = socket.AF_INET

    def __init__(self, *args: Any) -> None:
        self._free = threading.BoundedSemaphore(_MOST)
        super().__init__(*args)

    def server_bind(self) -> None:
        """As HTTPServer does, without asking DNS what the host is called."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Somebody hung up, or was silent for too long."""
        log.debug("scrape_failed", reason=repr(sys.exception()))


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = _SLOW

    def log_message(self, format: str, *args: Any) -> None:
        """Scrapes are no events."""


def _app(registry: CollectorRegistry) -> WSGIApplication:
    metrics: Callable[..., Iterable[bytes]] = make_wsgi_app(registry)
    lock = threading.Lock()  # the registry's collector mixes up two scrapes at a time

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] != PATH:
            return _plain(start_response, "404 Not Found", f"metrics are at {PATH}\n")
        if environ["REQUEST_METHOD"] != "GET":
            return _plain(start_response, "405 Method Not Allowed", "GET is what there is\n")
        try:
            with lock:
                return metrics(environ, start_response)
        except Exception:
            log.exception("bug")
            return _plain(start_response, "500 Internal Server Error", "the log says why\n")

    return app


def _plain(start_response: StartResponse, status: str, text: str) -> Iterable[bytes]:
    body = text.encode()
    start_response(status, [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))])
    return [body]
