"""Starting or joining Ray. Ray is imported late: it reads environment variables that are set here before."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from lumatile.errors import InvalidValueError, SinkError
from lumatile_service.endpoint import Endpoint

NAMESPACE = "lumatile"
"""The Ray namespace of the actors."""

CONNECT_SECONDS = 5.0
"""The longest wait for a Ray to accept a connection."""

OBJECT_STORE_BYTES = 80_000_000
"""About the least that Ray accepts; the values for the ingest actors do not pass through its object store."""

LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""The environment that makes Ray listen only on loopback, on any system."""


@contextmanager
def ray_session(address: str | None, *, object_store_bytes: int = OBJECT_STORE_BYTES) -> Iterator[None]:
    """Connect to the Ray at `address`, "auto" or HOST:PORT, within the block; None: start a new one.

    `object_store_bytes`: the memory of the object store of a new Ray.
    Raises SinkError where there is no Ray. Only a Ray that was started here ends with the block.
    """
    if address is None:
        with _local_ray(object_store_bytes):
            yield
        return
    if "://" in address:
        raise InvalidValueError(f"a Ray's address must be 'auto' or HOST:PORT, not {address!r}")
    if address != "auto":
        endpoint = Endpoint.parse(address)
        try:  # Ray would try for minutes
            socket.create_connection((endpoint.host, endpoint.port), CONNECT_SECONDS).close()
        except OSError as e:
            raise SinkError(f"there is no Ray to join at {address}: {e.strerror or e}") from e
    import ray

    try:
        ray.init(address, namespace=NAMESPACE, logging_level="warning")
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as e:
        raise SinkError(f"there is no Ray to join at {address}: {e}") from e
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _local_ray(object_store_bytes: int) -> Iterator[None]:
    """Run a Ray for this process only, on loopback; it ends with the process."""
    os.environ.update(LOOPBACK)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if "RAY_AUTH_MODE" not in os.environ and "ray" not in sys.modules:  # it has read the variables when imported
        os.environ["RAY_AUTH_MODE"] = "token"
        if not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    import ray

    directory = tempfile.mkdtemp(prefix="lumatile-")
    try:
        ray.init(
            "local",
            namespace=NAMESPACE,
            include_dashboard=False,
            object_store_memory=object_store_bytes,
            logging_level="warning",
            _temp_dir=directory,
        )
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(directory, ignore_errors=True)
