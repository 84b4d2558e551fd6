"""One process of a service that takes values: an ingest and the server in front of it, without Ray."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from lumatile.errors import SinkError
from lumatile.storage.local_directory import LocalStore
from lumatile.storage.open_storage import open_storage
from lumatile_kernels import select_backend
from lumatile_service.endpoint import Endpoint, own_address
from lumatile_service.ingest.access import Access
from lumatile_service.ingest.flight_server import IngestServer
from lumatile_service.ingest.recordings import Ingest


class IngestNode:
    """An ingest and its server, which take values from construction on. May be used from several threads."""

    def __init__(
        self,
        name: str,
        store: str,
        *,
        host: str,
        advertise: str | None,
        ports: Sequence[int],
        access: Access = Access(),  # noqa: B008 - frozen
    ) -> None:
        """Start the server.

        `store`: a path or URL. `host`: the host to listen at; `advertise`: the host at which clients reach the node, if
        it is another. `ports`: the first free one is used; 0: any free one.
        Raises SinkError where the store cannot be written or no port is free, InvalidValueError where a file of
        `access` cannot be read.
        """
        self._name = name
        make_store(store)
        backend = select_backend("auto").name
        self._backend = backend
        asked = "cuda" if backend == "cuda" else "auto"  # by its name, numba is imported at once
        self._ingest = Ingest(store, lambda: select_backend(asked))
        self._server = _listening(host, ports, self._ingest, access)
        if advertise is None:
            advertise = own_address() if Endpoint(host=host, port=0).is_wildcard else host
        self._address = access.url(Endpoint(host=advertise, port=self._server.port))

    def address(self) -> str:
        """Return the URL at which clients reach the node: grpc:// or grpc+tls://."""
        return self._address

    def load(self) -> tuple[str, int]:
        """Return the URL at which clients reach the node, and the number of its streams."""
        return self._address, self._server.streams

    def status(self) -> dict[str, Any]:
        """Return the state of the node now, as JSON values."""
        recordings = self._ingest.recordings
        return {
            "name": self._name,
            "address": self._address,
            "pid": os.getpid(),
            "host": os.uname().nodename if hasattr(os, "uname") else None,
            "backend": self._backend,
            "recordings": len(recordings),
            "pending_values": sum(recording.pending for recording in recordings),
            "queued_bytes": sum(recording.queued_bytes for recording in recordings),
            "streams": self._server.streams,
            **self._ingest.traffic.read(),
        }

    def drain(self, timeout: float) -> None:
        """Take no new streams, make all received values durable, and stop writing. Raises FlushError."""
        deadline = time.monotonic() + timeout
        try:
            self._server.drain(timeout)
        finally:
            self._ingest.close(max(0.0, deadline - time.monotonic()))


def make_store(store: str) -> None:
    """Create the directory `store` if it is missing; for a bucket, do nothing. Raises SinkError."""
    storage = open_storage(store)
    if not isinstance(storage, LocalStore):
        return
    try:
        storage.path.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise SinkError(f"the store {storage} cannot be written: {e.strerror}") from e
    if not os.access(storage.path, os.W_OK | os.X_OK):
        raise SinkError(f"the store {storage} cannot be written: permission denied")


def _listening(host: str, ports: Sequence[int], ingest: Ingest, access: Access) -> IngestServer:
    """Return a server at the first free port. Raises SinkError where none is free."""
    options = access.server_options()
    for port in ports:
        endpoint = Endpoint(host=host, port=port)
        if endpoint.why_taken is None:
            try:
                return IngestServer(access.url(endpoint), ingest, **options)
            except (pa.ArrowException, OSError):
                continue  # another process has taken the port
    raise SinkError(f"no port of {host} is free in {ports[0]}-{ports[-1]}")
