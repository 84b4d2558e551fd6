"""The service over HTTP: metrics for Prometheus at /metrics, and its health at /healthz."""

from __future__ import annotations

import logging
import math
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIEnvironment

from lumatile_service.endpoint import Endpoint
from lumatile_service.metrics.prometheus import metrics_app

log = logging.getLogger(__name__)

CACHE_SECONDS = 1.0
"""The shortest time between two questions to the actors, however many requests come."""

REQUEST_SECONDS = 10.0
"""A client that sends nothing for this long is disconnected."""

Statuses = Callable[[], Sequence[Mapping[str, Any]]]
"""Returns the status of each actor."""


class HttpServer:
    """An HTTP server that answers all clients, from construction to `close`; outside `watching` it has no actors."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Listen at `endpoint`, port 0 for any (see `url`). Raises OSError where that cannot be done."""
        self._lock = threading.Lock()
        """Held while the actors are asked; guards the fields below."""
        self._ask: Statuses = tuple
        self._answers: Sequence[Mapping[str, Any]] = ()
        self._asked = -math.inf
        """The time of the last question, on the monotonic clock."""
        self._metrics = metrics_app(self._statuses)
        self._server = _ThreadingServer(endpoint, self._answer)
        self.url = f"http://{Endpoint(host=endpoint.host, port=self._server.server_port)}/metrics"
        """The URL of the metrics."""
        self._thread = threading.Thread(target=self._server.serve_forever, name="lumatile-http", daemon=True)
        self._thread.start()

    @contextmanager
    def watching(self, statuses: Statuses) -> Iterator[None]:
        """Serve what `statuses` returns within the block; it is not called afterwards."""
        self._watch(statuses)
        try:
            yield
        finally:
            self._watch(tuple)

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _watch(self, statuses: Statuses) -> None:
        with self._lock:
            self._ask, self._asked = statuses, -math.inf

    def _statuses(self) -> Sequence[Mapping[str, Any]]:
        with self._lock:
            if time.monotonic() - self._asked >= CACHE_SECONDS:
                self._answers, self._asked = self._ask(), time.monotonic()
            return self._answers

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            return self._metrics(environ, start_response)
        if path != "/healthz":
            return _text(start_response, "404 Not Found", "there is /metrics and /healthz")
        if environ["REQUEST_METHOD"] != "GET":
            return _text(start_response, "405 Method Not Allowed", "use GET", ("Allow", "GET"))
        if any("error" not in status for status in self._statuses()):
            return _text(start_response, "200 OK", "ok")
        return _text(start_response, "503 Service Unavailable", "no actor answers")


def _text(start_response: StartResponse, status: str, text: str, *headers: tuple[str, str]) -> Iterable[bytes]:
    start_response(status, [("Content-Type", "text/plain; charset=utf-8"), *headers])
    return [text.encode()]


class _RequestHandler(WSGIRequestHandler):
    timeout = REQUEST_SECONDS

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name it has there
        log.debug(format, *args)


class _ThreadingServer(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
    allow_reuse_port = False

    def __init__(self, endpoint: Endpoint, application: Callable[..., Iterable[bytes]]) -> None:
        """Listen at `endpoint`. Raises OSError where that cannot be done."""
        where = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)[0]
        self.address_family = where[0]
        super().__init__((endpoint.host, endpoint.port), _RequestHandler)
        self.set_app(application)

    def server_bind(self) -> None:
        """Bind, without the name look-up of WSGIServer, which may take long."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment] # of AF_INET, AF_INET6
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Log that a client has disconnected or sends nothing."""
        log.debug("a request ended early: %s", sys.exception())
