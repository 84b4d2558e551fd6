"""Where a recording's values go, found by URL scheme."""

from __future__ import annotations

import importlib
import re
from typing import Any, Literal, Protocol, cast

from lumatile.errors import InvalidValueError, SinkError
from lumatile.settings import RecordingSettings
from lumatile.storage.open_storage import OBJECT_SCHEMES
from lumatile.values import LoggedValue

Durable = Literal["store", "spool"]

SINKS = {
    "file": "lumatile_service.embedded.sink:open_embedded",
    "grpc": "lumatile.delivery.service_sink:open_service",
    "grpc+tls": "lumatile.delivery.service_sink:open_service",
    **dict.fromkeys(OBJECT_SCHEMES, "lumatile_service.embedded.sink:open_embedded"),
    "memory": "lumatile.sink.memory:open_memory",
    "ray": "lumatile_service.cluster.ray_sink:open_ray",
}
"""scheme -> "module:function"; the function takes (url, settings, **options) and returns a Sink."""


class Sink(Protocol):
    """Takes logged values, in the background. All methods may be called from several threads."""

    def put(self, value: LoggedValue) -> None:
        """Take a value; waits for room, or drops, as the recording's queue policy says.

        Raises SinkError if the sink has died.
        """
        ...

    def flush(self, timeout: float | None = None) -> Durable:
        """Wait until everything put before is durable, and say where.

        Raises FlushError with the number of values that are not, after `timeout` seconds at the latest.
        """
        ...

    def close(self, timeout: float | None = None) -> None:
        """Flush and stop; later puts raise SinkError. Raises FlushError as `flush` does; stops in any case."""
        ...


def open_sink(url: str, settings: RecordingSettings, **options: Any) -> Sink:
    """The sink for `url`: a path or a URL with a scheme in `SINKS`.

    Raises InvalidValueError for an unknown scheme, SinkError where it cannot be opened.
    """
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]+)://", url)
    scheme = match.group(1).lower() if match else "file"
    if scheme not in SINKS:
        raise InvalidValueError(f"sink must be a path or a URL with a scheme in {sorted(SINKS)}, not {url!r}")
    module, function = SINKS[scheme].split(":")
    try:
        opener = getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as e:
        extra = "service" if scheme == "ray" else "local"
        raise SinkError(f"sink {url!r} needs the module {e.name}: install lumatile[{extra}]") from e
    return cast("Sink", opener(url, settings, **options))
