"""How a store is opened: what reads it, and Arrow, is loaded then and not before."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lumatile.read.store import Store


def open_store(path: str | os.PathLike[str]) -> Store:
    """Open the store at `path`, a directory, file:// URL or bucket (s3://bucket/prefix), for reading.

    Raises StoreError where it cannot be read, StoreFormatError where it is no store or of a newer format version.
    """
    from lumatile.read import store

    return store.open_store(path)
