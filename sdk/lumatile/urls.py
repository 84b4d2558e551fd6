"""Paths and URLs: how one is told from the other."""

from __future__ import annotations

import os
import re
from pathlib import Path

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")


def scheme_of(location: str) -> str | None:
    """Return the scheme of a URL in lower case; None: `location` is a path."""
    match = _SCHEME.match(location)
    return match[1].lower() if match else None


def absolute(location: str | os.PathLike[str]) -> str:
    """Return a path as seen from the current directory, as an absolute one, and a URL unchanged."""
    text = os.fspath(location)
    return text if scheme_of(text) else str(Path(text).absolute())
