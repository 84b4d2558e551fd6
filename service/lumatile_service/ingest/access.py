"""Access to the servers of a service: tokens and TLS."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from lumatile.errors import InvalidValueError
from lumatile_service.endpoint import Endpoint
from lumatile_service.ingest.tokens import TokenCheck, TokenFile, token_middleware


class ServerOptions(TypedDict, total=False):
    """The keyword arguments of pyarrow's FlightServerBase that say who may call."""

    middleware: dict[str, TokenCheck]
    tls_certificates: list[tuple[bytes, bytes]]
    """(PEM certificate chain, PEM private key)."""


@dataclass(frozen=True, kw_only=True)
class Access:
    """The files that say who may call; every node of the service has them at these paths.

    Raises InvalidValueError where one cannot be read.
    """

    token_file: str | None = None
    """The file of bearer tokens, as in tokens.py; None: everyone who can reach the service may use it."""
    tls_cert: str | None = None
    """PEM certificate chain; None: no TLS."""
    tls_key: str | None = None
    """The PEM private key of the certificate."""

    def __post_init__(self) -> None:
        """Check every rule once, here."""
        if (self.tls_cert is None) != (self.tls_key is None):
            raise InvalidValueError("TLS needs a certificate and its key: give both --tls-cert and --tls-key")
        self.server_options()

    def check_listening(self, endpoint: Endpoint) -> None:
        """Raise InvalidValueError where a server without tokens would be open to other machines."""
        if self.token_file is None and not endpoint.is_loopback:
            raise InvalidValueError(
                f"without tokens the service listens on loopback only, not at {endpoint.host}: everyone who can reach "
                "it could write; give --token-file"
            )

    def url(self, endpoint: Endpoint) -> str:
        """Return the URL of a server at `endpoint`: grpc://HOST:PORT, or grpc+tls://HOST:PORT with TLS."""
        return endpoint.url if self.tls_cert is None else endpoint.url.replace("grpc://", "grpc+tls://", 1)

    def server_options(self) -> ServerOptions:
        """Return the options of a server with this access. Raises InvalidValueError where a file cannot be read."""
        tokens = None if self.token_file is None else TokenFile(Path(self.token_file))
        options: ServerOptions = {"middleware": token_middleware(tokens)}
        if self.tls_cert is not None and self.tls_key is not None:
            options["tls_certificates"] = [(_read("--tls-cert", self.tls_cert), _read("--tls-key", self.tls_key))]
        return options


def _read(option: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as e:
        raise InvalidValueError(f"{option} must be a file that can be read: {e}") from e
