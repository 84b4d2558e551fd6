"""How this process shows a service who it is, and knows the service: from the environment.

LUMATILE_TOKEN, or LUMATILE_TOKEN_FILE, whose first line that is no comment begins with it: the bearer token.
LUMATILE_TLS_ROOTS: a PEM file of certificates to trust with grpc+tls://; by default those of the system.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyarrow import flight

from lumatile.errors import SinkError


def connect(url: str, generic_options: Sequence[tuple[str, Any]] = ()) -> flight.FlightClient:
    """A client of the server at `url`, grpc://HOST:PORT or grpc+tls://HOST:PORT; it need not answer.

    Raises SinkError where LUMATILE_TLS_ROOTS cannot be read.
    """
    options: dict[str, Any] = {"generic_options": list(generic_options)} if generic_options else {}
    roots = os.environ.get("LUMATILE_TLS_ROOTS")
    if url.startswith("grpc+tls://") and roots:
        options["tls_root_certs"] = _read("LUMATILE_TLS_ROOTS", roots)
    return flight.connect(url, **options)


def call_options(timeout: float | None = None) -> flight.FlightCallOptions:
    """The options of a call: with the token, if there is one. `timeout`: seconds, None: none.

    Raises SinkError where LUMATILE_TOKEN_FILE cannot be read.
    """
    token = bearer_token()
    headers = [] if token is None else [(b"authorization", b"Bearer " + token.encode())]
    return flight.FlightCallOptions(timeout=timeout, headers=headers)


def bearer_token() -> str | None:
    """The token of this process; read anew each time, so that it can be changed. Raises SinkError."""
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
