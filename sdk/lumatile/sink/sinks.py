"""Sinks, which take the values of a recording, and how one is opened for a URL."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol, TypeAlias

from lumatile.errors import InvalidTypeError, InvalidValueError, SinkError, shown
from lumatile.settings import RecordingSettings
from lumatile.storage.open_storage import OBJECT_SCHEMES
from lumatile.urls import absolute, scheme_of
from lumatile.values import LoggedValue
from lumatile_kernels import fork

Durable = Literal["store", "spool"]
"""The place where values are durable: the store, or the queue on disk."""

STORE_SCHEMES = ("file", *OBJECT_SCHEMES)
"""Schemes of the sinks that write a store in this process; a path has the scheme "file"."""

SINKS = {
    **dict.fromkeys(STORE_SCHEMES, "lumatile_service.embedded.sink:open_embedded"),
    "grpc": "lumatile.delivery.service_sink:open_service",
    "grpc+tls": "lumatile.delivery.service_sink:open_service",
    "memory": "lumatile.sink.memory:open_memory",
    "off": "lumatile.sink.off:open_off",
    "ray": "lumatile_service.cluster.ray_sink:open_ray",
}
"""Scheme -> "module:function"; the function takes (url, settings), that of a store also `backend`, and opens a Sink."""

KEPT_SCHEMES = (*STORE_SCHEMES, "grpc", "grpc+tls")
"""Schemes of the sinks that have a spool in front of them in a worker process; their functions take `settled`."""

IN_WORKER = "lumatile.delivery.worker_sink:open_in_worker"
COLLECT = "lumatile.delivery.worker_spools:collect"
ADOPT = "lumatile.delivery.worker_spools:adopt"
"""What a worker's spool needs, which is in a layer above."""


LOCAL_SERVICE = "grpc://127.0.0.1:9876"
"""The URL of a `lumatile serve` on this machine, with its default address."""

OFF = "off://"
"""The URL of the sink that keeps nothing."""


class Sink(Protocol):
    """Takes logged values, and stores or sends them in the background; used from several threads."""

    def put(self, value: LoggedValue) -> None:
        """Take a value; wait for room, or drop values, as the recording's queue policy says.

        Raises SinkError if the sink has died or is closed.
        """
        ...

    def flush(self, timeout: float | None = None) -> Durable:
        """Wait until everything put before is durable, and return where.

        Raises FlushError with the number of values that are not, after `timeout` seconds at the latest (None: as long
        as it takes).
        """
        ...

    def close(self, timeout: float | None = None) -> None:
        """Flush and stop; later puts raise SinkError. Raises FlushError as `flush` does; stops in any case."""
        ...


SinkFactory: TypeAlias = Callable[[RecordingSettings], Sink]
"""Opens the sink of a recording with these settings. A recording can be pickled if its factory can."""


@dataclass(frozen=True, kw_only=True)
class SinkAt:
    """A SinkFactory for a URL."""

    url: str | None = None
    """A path or a URL with a scheme in `SINKS`; None: $LUMATILE_SINK, else ./lumatile-store, when the sink opens."""
    backend: str | None = None
    """The backend that makes the tiles of a store that this process writes; None: the best one."""

    def __call__(self, settings: RecordingSettings) -> Sink:
        """Open the sink; see `open_sink`."""
        return open_sink(self._location, settings, backend=self.backend)

    def collect(self, recording_id: str | None = None, timeout: float | None = None) -> Durable:
        """Wait until what this process's workers have logged to the sink is durable, and return where.

        `recording_id`: None: to any recording. Raises FlushError, after `timeout` seconds at the latest.
        """
        url = self._location
        if (scheme_of(url) or "file") not in KEPT_SCHEMES:
            return "store"
        where: Durable = _found(COLLECT)(url, recording_id, timeout)
        return where

    def __str__(self) -> str:
        try:
            return shown(self._location)
        except InvalidValueError:
            return shown(os.environ["LUMATILE_SINK"])

    @property
    def is_off(self) -> bool:
        """True where the sink keeps nothing."""
        return scheme_of(self.url or os.environ.get("LUMATILE_SINK") or "") == "off"

    @property
    def _location(self) -> str:
        return self.url or absolute(os.environ.get("LUMATILE_SINK") or "./lumatile-store")


DEFAULT_SINK = SinkAt()
"""The factory of the sink that the environment names."""


def sink_at(location: str | os.PathLike[str], *, backend: str = "auto") -> SinkAt:
    """Return the factory of the sink at a path, as seen from the current directory, or at a URL.

    `backend`: "auto", or the backend that makes the tiles of a store that this process writes. Raises InvalidTypeError
    for anything but a path or a URL, InvalidValueError for a path that is empty or certainly means something else.
    """
    if not isinstance(location, str | os.PathLike):
        raise InvalidTypeError(f"a sink must be a path or a URL, not {shown(location)}")
    return SinkAt(url=absolute(location), backend=None if backend == "auto" else backend)


def open_sink(url: str, settings: RecordingSettings, *, backend: str | None = None) -> Sink:
    """Open the sink at `url`, a path or a URL with a scheme in `SINKS`; `backend`: as in `SinkAt`.

    Raises InvalidValueError for an unknown scheme, and for a backend where no store is written here; SinkError where
    the sink cannot be opened.
    """
    scheme = scheme_of(url) or "file"
    if scheme not in SINKS:
        raise InvalidValueError(f"sink must be a path or a URL with a scheme in {sorted(SINKS)}, not {url!r}")
    if backend is not None and scheme not in STORE_SCHEMES:
        raise InvalidValueError(f"backend must be left out where no store is written here, not {backend!r} for {url!r}")
    try:
        opener: Callable[..., Sink] = _found(SINKS[scheme])
    except ModuleNotFoundError as e:
        extra = "service" if scheme == "ray" else "local"
        raise SinkError(f"sink {url!r} needs the module {e.name}: install lumatile[{extra}]") from e
    if backend is not None:
        opener = partial(opener, backend=backend)
    if fork.is_worker() and scheme in KEPT_SCHEMES:
        sink: Sink = _found(IN_WORKER)(url, settings, lambda settled: opener(url, settings, settled=settled))
        return sink
    sink = opener(url, settings)
    if scheme in STORE_SCHEMES:
        _found(ADOPT)(url)
    return sink


def _found(name: str) -> Any:
    """Return the function "module:function"."""
    module, function = name.split(":")
    return getattr(importlib.import_module(module), function)
