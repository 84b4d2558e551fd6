"""Paths and URLs: how one is told from the other."""

from __future__ import annotations

import os
import re
from pathlib import Path

from lumatile.errors import InvalidValueError

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")

_HOST_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}/?")


def scheme_of(location: str) -> str | None:
    """Return the scheme of a URL in lower case; None: `location` is a path."""
    match = _SCHEME.match(location)
    return match[1].lower() if match else None


def absolute(location: str | os.PathLike[str]) -> str:
    """Return the path of a store, as seen from the current directory, as an absolute one, and a URL unchanged.

    A "~" at the beginning is the user's home. Raises InvalidValueError for a path that is empty, or that certainly
    means something else: HOST:PORT, and files of Rerun.
    """
    text = os.fspath(location)
    if not text:
        raise InvalidValueError('a store must be a path or a URL, not ""; the current directory is "."')
    if scheme_of(text):
        return text
    if isinstance(location, str) and _HOST_AND_PORT.fullmatch(text):
        raise InvalidValueError(f"a service is named by a URL, grpc://{text}, not {text!r}; a directory: ./{text}")
    if text.endswith(".rrd"):
        raise InvalidValueError(
            f"a store is a directory, not a file of Rerun, {text!r}: `lumatile export` writes such a file from a "
            "store, `lumatile ingest` reads one into a store"
        )
    try:
        return str(Path(text).expanduser().absolute())
    except RuntimeError as e:
        raise InvalidValueError(f"a store must be a path or a URL, not {text!r}: {e}; a directory: ./{text}") from e
