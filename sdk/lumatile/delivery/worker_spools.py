"""What worker processes have left in their spools is stored by a process that logs to the same sink."""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

from lumatile.errors import FlushError, LumatileError
from lumatile.sink.sinks import STORE_SCHEMES, Durable
from lumatile.spool.directory import (
    SpoolBusyError,
    SpoolDirectory,
    SpoolError,
    describe,
    segments_in,
    spools,
    written_by,
)
from lumatile.spool.options import root_of, spool_options, without_options
from lumatile.storage.durable_files import sync_directory
from lumatile.urls import scheme_of
from lumatile_kernels import fork

log = logging.getLogger(__name__)

AGAIN_SECONDS = 0.02
"""The time between two looks at the spool of a worker that is alive."""

PATIENCE_SECONDS = 30.0
"""A worker that is alive and has stored nothing for so long is not waited for."""

_ADOPTING: list[threading.Thread] = []
"""The threads of this process that store what other programs left."""


def collect(url: str, recording_id: str | None = None, timeout: float | None = None) -> Durable:
    """Wait until what the workers of this process have logged to the sink at `url` is durable, and return where.

    What workers that have ended left is stored here. In a worker, only its own workers count.

    Args:
        url: of the sink.
        recording_id: the recording that counts; None: all, and also what other programs left: this process ends.
        timeout: seconds to wait at most; None: as long as workers make progress.

    Raises:
        FlushError: values are not durable in that time, or cannot be stored; they stay in the spools.
    """
    end = None if timeout is None else time.monotonic() + timeout
    for thread in _ADOPTING if recording_id is None else ():
        if thread.is_alive():
            thread.join(None if end is None else max(0.0, end - time.monotonic()))
    root = root_of(url)
    found = [(path, False) for path in spools(root)]
    if scheme_of(url) in ("grpc", "grpc+tls") and (of_sinks := spool_options(url)[1].root) is not None:
        found += [(path, True) for path in spools(of_sinks)]
    where: Durable = "store"
    for path, is_sinks in found:
        with suppress(SpoolError):  # it has just been removed
            spool_url, settings = describe(path)
            mine = os.getpid() in written_by(path)[1]
            if spool_url != without_options(url) or recording_id not in (None, settings.recording_id):
                continue
            if not mine and (is_sinks or fork.is_worker()):
                continue
            if not _settled(path, end, wait=mine and not is_sinks) and mine:
                where = "spool"
    with suppress(OSError):
        root.rmdir()  # if it is empty
    return where


def _settled(path: Path, end: float | None, *, wait: bool) -> bool:
    """Store what is in a spool, or wait until its process has stored it; return False if it stays in the spool.

    `end`: on the monotonic clock. `wait`: wait for a process that is alive. Raises FlushError, SpoolError.
    """
    segments = _segments(path)
    if not segments:  # if its process has ended, only the directory is left
        with suppress(SpoolError):
            SpoolDirectory.adopt(path).close()
        return True
    patience = time.monotonic() + PATIENCE_SECONDS
    while segments:
        try:
            return _store(path, None if end is None else max(0.0, end - time.monotonic()))
        except SpoolBusyError:
            if not wait:
                return False
        now = time.monotonic()
        if (left := segments & _segments(path)) != segments:
            segments, patience = left, now + PATIENCE_SECONDS
        elif now >= (patience if end is None else min(end, patience)):
            raise FlushError(1, f"a worker process that is alive has not stored what it has logged, in {path}")
        time.sleep(AGAIN_SECONDS)
    return True


def _segments(path: Path) -> set[int]:
    try:
        return set(segments_in(path))
    except OSError:
        return set()


def _store(path: Path, timeout: float | None) -> bool:
    """Store what a process that has ended left in a spool; return False if its service is away.

    Raises SpoolBusyError where the process is alive, SpoolError where the spool is gone, FlushError.
    """
    from lumatile.delivery.adoption import push  # it loads pyarrow, which few flushes need here

    try:
        pushed = push(path, timeout=timeout)
    except OSError as e:
        if isinstance(e, SpoolError):
            raise
        raise FlushError(1, f"what a worker process has left in {path} cannot be stored: {e}") from e
    if pushed.left and (scheme_of(pushed.url) or "file") in STORE_SCHEMES:
        raise FlushError(1, f"what a worker process has left in {path} cannot be stored: {pushed.why}")
    if lost := pushed.refused + pushed.damaged:
        raise FlushError(lost, f"values of a worker process were refused, or damaged in {path}")
    if pushed.left:
        _make_durable(path)
    return not pushed.left


def _make_durable(path: Path) -> None:
    """Let the spool of a worker, which was written without fsync, survive the machine's end. Raises FlushError."""
    try:
        for segment in path.iterdir():
            with segment.open("rb") as file:
                os.fsync(file.fileno())
        for folder in (path, path.parent, path.parent.parent):
            sync_directory(folder)
    except OSError as e:
        raise FlushError(1, f"what a worker process has left in {path} is not durable: {e}") from e


def adopt(url: str) -> None:
    """Store what workers of programs that have ended left for the store at `url`, in a thread."""
    if not fork.is_worker() and next(spools(root_of(url)), None) is not None:
        thread = threading.Thread(target=_adopt_all, args=(url,), name="lumatile-adopt", daemon=True)
        _ADOPTING[:] = [each for each in _ADOPTING if each.is_alive()] + [thread]
        try:
            thread.start()
        except RuntimeError as e:  # the process may have no more threads now
            log.warning("spools are not looked for now: %s", e)


def _adopt_all(url: str) -> None:
    root = root_of(url)
    for path in spools(root):
        try:
            if describe(path)[0] == url:
                _settled(path, None, wait=False)
        except (LumatileError, OSError) as e:
            log.warning("a spool is skipped: %s", e)
    with suppress(OSError):
        root.rmdir()  # if it is empty
