"""The addresses to which a service wants values to be sent, and the options of connections to them."""

from __future__ import annotations

from pyarrow import flight

from lumatile.wire.credentials import call_options, connect

CONNECT_SECONDS = 2.0
"""Longest wait for a service to say where its servers are."""

OPTIONS = [
    ("grpc.min_reconnect_backoff_ms", 2000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]
"""gRPC's options of a client. An attempt to connect takes at most the first; gRPC's own bound is 20 s."""


def ingest_addresses(url: str) -> list[str]:
    """Ask the service at `url` where it wants values now: there, or at the grpc:// URLs of its servers.

    Raises ArrowException, OSError.
    """
    client = connect(url, OPTIONS)
    try:
        options = call_options(CONNECT_SECONDS)
        info = client.get_flight_info(flight.FlightDescriptor.for_command(b"ingest"), options)
        return [location.uri.decode() for endpoint in info.endpoints for location in endpoint.locations] or [url]
    finally:
        client.close()
