"""Who may reach a service's servers, and how: tokens and TLS."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lumatile.errors import InvalidValueError
from lumatile_service.endpoint import Endpoint
from lumatile_service.ingest.tokens import TokenFile, token_middleware


@dataclass(frozen=True, kw_only=True)
class Access:
    """Files that every node of the service has at these paths. Raises InvalidValueError where one cannot be read."""

    token_file: str | None = None
    """See tokens.py; None: whoever reaches the service may use it."""
    tls_cert: str | None = None
    """PEM certificate chain; None: no TLS."""
    tls_key: str | None = None
    """PEM private key of it."""

    def __post_init__(self) -> None:
        """Check every rule once, here."""
        if (self.tls_cert is None) != (self.tls_key is None):
            raise InvalidValueError("TLS needs a certificate and its key: give both --tls-cert and --tls-key")
        self.server_options()

    def check_listening(self, endpoint: Endpoint) -> None:
        """Raises InvalidValueError where a server would be open to others without a token."""
        if self.token_file is None and not endpoint.is_loopback:
            raise InvalidValueError(
                f"without a token the service listens on loopback only, not at {endpoint.host}: whoever reaches it "
                "could write; give --token-file"
            )

    def url(self, endpoint: Endpoint) -> str:
        """Of a server at `endpoint`: grpc://HOST:PORT, or grpc+tls:// where there is TLS."""
        return endpoint.url if self.tls_cert is None else endpoint.url.replace("grpc://", "grpc+tls://", 1)

    def server_options(self) -> dict[str, Any]:
        """What FlightServerBase takes. Raises InvalidValueError where a file cannot be read."""
        tokens = None if self.token_file is None else TokenFile(Path(self.token_file))
        options: dict[str, Any] = {"middleware": token_middleware(tokens)}
        if self.tls_cert is not None and self.tls_key is not None:
            options["tls_certificates"] = [(_read("--tls-cert", self.tls_cert), _read("--tls-key", self.tls_key))]
        return options


def _read(option: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as e:
        raise InvalidValueError(f"{option} must be a file that can be read: {e}") from e
