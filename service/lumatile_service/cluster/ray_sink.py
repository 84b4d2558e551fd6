"""The sink ray://NAME: inside a Ray job, a service is found by the names of its actors."""

from __future__ import annotations

from functools import partial

from lumatile.delivery.flight_sink import FlightSink
from lumatile.delivery.service_sink import open_service
from lumatile.errors import InvalidValueError
from lumatile.settings import RecordingSettings
from lumatile_service.cluster.ray_actors import named_addresses


def open_ray(url: str, settings: RecordingSettings) -> FlightSink:
    """Open the sink of the service at `url`, ray://NAME.

    Raises InvalidValueError for HOST:PORT, SinkError without a Ray.
    """
    name = url.partition("://")[2].partition("?")[0].rstrip("/")
    if not name or any(c in name for c in ":/."):
        raise InvalidValueError(
            f"ray:// takes the name of a service, ray://lumatile, not {url!r}; for an address use grpc://HOST:PORT"
        )
    named_addresses(name)
    return open_service(url, settings, addresses=partial(named_addresses, name))
