"""moto's S3 server on a loopback port, and a proxy before it that counts, fails, waits and loses answers."""

import contextlib
import http.client
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.support.ports import free_port

DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


class S3Server:
    """moto in a process of its own."""

    def __init__(self):
        self.port = free_port()
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.05)
        raise TimeoutError("moto does not listen")

    def ask(self, method, path):
        """An answer's text."""
        url = f"http://127.0.0.1:{self.port}/{path}"
        with urllib.request.urlopen(urllib.request.Request(url, method=method)) as answer:
            return answer.read().decode()

    def create_bucket(self, name):
        self.ask("PUT", name)

    def keys(self, bucket):
        """All objects, by name; fewer than a thousand."""
        return re.findall("<Key>([^<]*)</Key>", self.ask("GET", f"{bucket}?list-type=2"))

    def uploads(self, bucket):
        """Keys of the multipart uploads that are not finished."""
        return re.findall("<Key>([^<]*)</Key>", self.ask("GET", f"{bucket}?uploads"))

    def close(self):
        self._process.terminate()
        self._process.wait()


class Proxy(ThreadingHTTPServer):
    """Before an S3Server. A rule takes (method, path) and says what happens: see `_Handler.answer`."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, upstream):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.rules = []
        self.seen = []
        """(method, path, status, bytes of the answer)"""
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address):
        """Clients that go away are part of the test."""

    def close(self):
        self.shutdown()
        self.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self):
        """Ask the server, and pass on what it says; a rule gives a status instead, "lose" (the server has done it, and
        nobody is told) or seconds to wait."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        for rule in self.server.rules:
            said = rule(self.command, self.path)
            if isinstance(said, int):
                return self._send(said, {}, DENIED if said == 403 else b"")
            if isinstance(said, float):
                time.sleep(said)
            if said == "lose":
                self._ask(body)
                self.close_connection = True
                self.server.seen.append((self.command, self.path, 0, 0))
                return self.connection.close()
        return self._send(*self._ask(body))

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer  # noqa: N815 - their names in http.server

    def _ask(self, body):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.upstream.port, timeout=60)
        try:
            connection.request(self.command, self.path, body, dict(self.headers))
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def _send(self, status, headers, body):
        self.server.seen.append((self.command, self.path, status, len(body)))
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                self.send_header(name, value)
        if self.command == "HEAD" or status in (204, 304):
            self.send_header("Content-Length", headers.get("Content-Length", "0")) if self.command == "HEAD" else None
            self.end_headers()
        else:
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
