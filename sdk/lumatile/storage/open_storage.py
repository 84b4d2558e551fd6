"""Choosing the storage of a store by its path or URL."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from urllib.parse import unquote, urlsplit

from lumatile.errors import InvalidValueError
from lumatile.storage.recording_storage import StoreStorage
from lumatile.urls import absolute, scheme_of

OBJECT_SCHEMES = ("az", "gs", "s3")
"""The URL schemes of stores in buckets."""


def open_storage(store: str | PathLike[str]) -> StoreStorage:
    """Return the storage at a path, a file:// URL or a bucket's URL, without looking at it yet.

    Raises InvalidValueError for another scheme and for what is no path of a store, StoreError where a package for the
    scheme is missing.
    """
    text = absolute(store)
    scheme = scheme_of(text)
    if scheme in OBJECT_SCHEMES:
        from lumatile.storage.object_directory import ObjectStore

        return ObjectStore(text)
    if scheme not in (None, "file"):
        raise InvalidValueError(
            f"a store must be a path or a URL of file://, {', '.join(f'{name}://' for name in OBJECT_SCHEMES)}, "
            f"not {text!r}"
        )
    from lumatile.storage.local_directory import LocalStore

    return LocalStore(path=Path(_path_of(text) if scheme else text))


def _path_of(url: str) -> str:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path:
        raise InvalidValueError(f"a file:// URL must have an absolute path, as in file:///data/runs, not {url!r}")
    return unquote(parts.path)
