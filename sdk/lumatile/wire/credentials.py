"""Credentials, from the environment: the token of this process, and the certificates that it trusts.

LUMATILE_TOKEN is the bearer token. Without it, LUMATILE_TOKEN_FILE names a file with the token: the first word of its
first line that is not a comment. LUMATILE_TLS_ROOTS names a PEM file of certificates to trust with grpc+tls://; by
default, those of the system are trusted.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyarrow import flight

from lumatile.errors import SinkError


def connect(url: str, generic_options: Sequence[tuple[str, Any]] = ()) -> flight.FlightClient:
    """Make a client of a server, which need not answer yet.

    Args:
        url: grpc://HOST:PORT or grpc+tls://HOST:PORT.
        generic_options: options of gRPC.

    Raises:
        SinkError: LUMATILE_TLS_ROOTS cannot be read.
    """
    options: dict[str, Any] = {"generic_options": list(generic_options)} if generic_options else {}
    roots = os.environ.get("LUMATILE_TLS_ROOTS")
    if url.startswith("grpc+tls://") and roots:
        options["tls_root_certs"] = _read("LUMATILE_TLS_ROOTS", roots)
    return flight.connect(url, **options)


def call_options(timeout: float | None = None) -> flight.FlightCallOptions:
    """Return the options of a call: its timeout in seconds, None for no timeout, and the token if there is one.

    Raises:
        SinkError: LUMATILE_TOKEN_FILE cannot be read.
    """
    token = bearer_token()
    headers = [] if token is None else [(b"authorization", b"Bearer " + token.encode())]
    return flight.FlightCallOptions(timeout=timeout, headers=headers)


def bearer_token() -> str | None:
    """Read and return the token of this process, as it is now; None: there is none. Raises SinkError."""
    if token := os.environ.get("LUMATILE_TOKEN"):
        return token.strip()
    if path := os.environ.get("LUMATILE_TOKEN_FILE"):
        lines = _read("LUMATILE_TOKEN_FILE", path).decode(errors="replace").splitlines()
        words = [line.split()[0] for line in lines if line.strip() and not line.strip().startswith("#")]
        if not words:
            raise SinkError(f"LUMATILE_TOKEN_FILE must name a file with a token, and {path} has none")
        return words[0]
    return None


def _read(variable: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as e:
        raise SinkError(f"{variable} must name a file that can be read: {e}") from e
