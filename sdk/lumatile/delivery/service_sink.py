"""The sink for grpc://HOST:PORT: a service, and a spool on local disk for when it is away.

The directory of spools is `?spool=DIR` in the URL, else $LUMATILE_SPOOL, else lumatile/spool in the user's state
directory ($XDG_STATE_HOME, ~/.local/state); with "off" there is no spool. `?spool_bytes=N` in the URL, else
$LUMATILE_SPOOL_BYTES, is the largest size of a spool, in bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from lumatile.delivery.adoption import Adoption
from lumatile.delivery.flight_sink import FlightSink
from lumatile.errors import InvalidValueError
from lumatile.settings import RecordingSettings
from lumatile.spool.spool import CAPACITY, Spool

OFF = "off"


@dataclass(frozen=True, kw_only=True)
class SpoolOptions:
    """The directory of a sink's spool, and the most bytes that it may hold."""

    root: Path | None
    """The directory of spools; None: there is no spool."""
    capacity: int
    """The largest size of the spool, in bytes."""


def open_service(
    url: str, settings: RecordingSettings, *, addresses: Callable[[], Sequence[str]] | None = None
) -> FlightSink:
    """Open the sink of the service at `url`, which need not answer yet.

    Args:
        url: grpc://HOST:PORT or grpc+tls://HOST:PORT, with the options above.
        settings: of the recording.
        addresses: as in FlightSink.

    Raises:
        InvalidValueError: the URL has other options, or their values are not allowed.
    """
    url, options = spool_options(url)
    if options.root is None:
        return FlightSink(url, settings, addresses=addresses)
    adoption = Adoption(options.root, url, addresses)
    spool = Spool(options.root, url, settings, capacity=options.capacity)
    return FlightSink(url, settings, addresses=addresses, spool=spool, on_open=adoption.begin, on_end=adoption.end)


def spool_options(url: str) -> tuple[str, SpoolOptions]:
    """Return the URL of a sink without its options, and the options: of the URL, else of the environment.

    Raises InvalidValueError.
    """
    parts = urlsplit(url)
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := given.keys() - {"spool", "spool_bytes"}:
        raise InvalidValueError(f"the options of a service's URL are spool and spool_bytes, not {sorted(unknown)}")
    where = given.get("spool") or os.environ.get("LUMATILE_SPOOL")
    most = given.get("spool_bytes") or os.environ.get("LUMATILE_SPOOL_BYTES") or str(CAPACITY)
    if not most.isdecimal() or not int(most):
        raise InvalidValueError(f"spool_bytes must be a positive integer, not {most!r:.80}")
    root = None if where == OFF else Path(where).expanduser().absolute() if where else default_root()
    return urlunsplit(parts._replace(query="")), SpoolOptions(root=root, capacity=int(most))


def default_root() -> Path | None:
    """Return the directory of a user's spools that is used by default; None: the user has no home directory."""
    state = os.environ.get("XDG_STATE_HOME", "")
    try:
        base = Path(state) if state.startswith("/") else Path.home() / ".local" / "state"
    except RuntimeError:
        return None
    return base / "lumatile" / "spool"
