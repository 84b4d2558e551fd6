"""One job at a time for a source and a recording: a second one would log every value again."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import IO

from lumatile.errors import LumatileError
from lumatile.storage.local_directory import LocalDirectory
from lumatile.storage.open_storage import open_storage
from lumatile.urls import absolute


class JobRunningError(LumatileError):
    """Another job is logging the same source into the same recording."""


@contextmanager
def only_job(store: str | PathLike[str], recording_id: str, source: str) -> Iterator[None]:
    """Be the only job of a source and a recording while the block runs.

    The lock is on a file in the recording's directory, and so is seen by all that share its disk; for a store in a
    bucket it is in the directory for temporary files, and so is seen on this machine only. A killed job releases it.
    `source`: the URL of the source. Raises JobRunningError.
    """
    path = _lock_path(store, recording_id, source)
    missing = [each for each in path.parents if not each.exists()]
    opened: IO[str] | None = None
    try:
        opened = _locked(path)
    except BlockingIOError:
        raise JobRunningError(
            f"another job is logging {source} into the recording {recording_id!r}: wait until it has ended"
        ) from None
    except OSError:
        pass  # a store that cannot be written is reported by the job itself
    try:
        yield
    finally:
        if opened is not None:
            with contextlib.suppress(OSError):
                path.unlink()
            opened.close()
        for each in missing:
            with contextlib.suppress(OSError):
                each.rmdir()  # nothing was logged


def _locked(path: Path) -> IO[str]:
    """Open and lock a file that others may delete at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        opened = path.open("w")
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.fstat(opened.fileno()).st_ino == path.stat().st_ino:
                return opened
        except BaseException:
            opened.close()
            raise
        opened.close()


def _lock_path(store: str | PathLike[str], recording_id: str, source: str) -> Path:
    storage = open_storage(store).recording(recording_id)
    if isinstance(storage, LocalDirectory):
        return storage.path / f".ingest-{_short_hash(source)}.lock"
    return Path(tempfile.gettempdir()) / f"lumatile-ingest-{_short_hash(absolute(store), recording_id, source)}.lock"


def _short_hash(*parts: str) -> str:
    return hashlib.blake2b(repr(parts).encode(errors="surrogatepass"), digest_size=8).hexdigest()
