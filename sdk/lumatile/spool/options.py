"""Where the spools of a sink are: its options, of the URL, else of the environment.

The directory of spools is `?spool=DIR` in the URL, else $LUMATILE_SPOOL, else lumatile/spool in the user's state
directory ($XDG_STATE_HOME, ~/.local/state); with "off" there is no spool. `?spool_bytes=N` in the URL, else
$LUMATILE_SPOOL_BYTES, is the largest size of a spool, in bytes.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from lumatile.errors import InvalidValueError
from lumatile.urls import scheme_of

CAPACITY = 10 << 30
"""The most bytes that a spool holds by default."""

OFF = "off"


@dataclass(frozen=True, kw_only=True)
class SpoolOptions:
    """The directory of a sink's spool, and the most bytes that it may hold."""

    root: Path | None
    """The directory of spools; None: there is no spool."""
    capacity: int
    """The largest size of the spool, in bytes."""


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


def without_options(url: str) -> str:
    """Return the URL of a sink as its spools name it."""
    return spool_options(url)[0] if scheme_of(url) in ("grpc", "grpc+tls") else url


def root_of(url: str) -> Path:
    """Return the directory in which worker processes keep what they log to the sink at `url` until it is durable.

    It is in the store, or for a service with the spools; where those are off, in the directory of temporary files.
    """
    user = os.geteuid()
    scheme = scheme_of(url)
    if scheme in (None, "file"):
        return Path(unquote(urlsplit(url).path) if scheme else url) / f".workers-{user}"
    root = spool_options(url if scheme in ("grpc", "grpc+tls") else "")[1].root
    return (root or Path(tempfile.gettempdir()) / f"lumatile-{user}") / "workers"
