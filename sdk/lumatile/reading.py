"""The door to what reads a store: it is loaded, and Arrow with it, when it is used first, not at `import lumatile`."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from lumatile.replaced import REPLACED

if TYPE_CHECKING:
    from lumatile.read.store import Store

_HOMES = {
    "Frame": "lumatile.read.frame",
    "PointCloud": "lumatile.read.point_cloud",
    "RecordingReader": "lumatile.read.recording_reader",
    "Store": "lumatile.read.store",
}
"""Public name -> the module that has it."""


def open_store(path: str | os.PathLike[str]) -> Store:
    """Open a store for reading.

    Args:
        path: The store's directory, its file:// URL, or a bucket's URL with a prefix, such as s3://bucket/prefix.

    Returns:
        The store.

    Raises:
        StoreError: The store cannot be read.
        StoreFormatError: It is no store, or one of a newer format version.
        InvalidValueError: There is no such URL scheme, or the path is empty or means something else (HOST:PORT, .rrd).
    """
    from lumatile.read import store

    return store.open_store(path)


def loaded(name: str) -> Any:
    """Return the public name `name` of the package `lumatile`. Raises AttributeError if there is none."""
    if name == "__version__":
        from importlib.metadata import version

        return version("lumatile")
    if name not in _HOMES:
        instead = f": {REPLACED[name]} (docs/from-rerun.md)" if name in REPLACED else ""
        raise AttributeError(f"module 'lumatile' has no attribute {name!r}{instead}")
    return getattr(importlib.import_module(_HOMES[name]), name)
