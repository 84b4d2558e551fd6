"""What recordings do when their process forks and when it ends."""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # noqa: F401 - see below
import logging  # noqa: F401 - see below
import os
import threading
import time
from multiprocessing import util
from typing import TYPE_CHECKING
from weakref import WeakSet

from lumatile.errors import FlushError, warn

if TYPE_CHECKING:
    from lumatile.log.recording import RecordingStream

EXIT_WAIT = 30.0
"""Longest that the end of a process waits for values to become durable, in seconds, for all recordings together."""

_ALL: WeakSet[RecordingStream] = WeakSet()
"""Recordings that a forked child has to make its own."""

_OPEN: set[RecordingStream] = set()
"""Recordings with an open sink: they live until it is closed."""

IMPORTING = threading.RLock()
"""Held while a sink is opened, and with it much imported. A fork waits for it: a child can never import a module that
another thread was importing when it was forked."""

_FINALIZED: set[int] = set()
"""Ids of this process and those it was forked from, where they close their recordings at the end."""


def follow(recording: RecordingStream) -> None:
    """Renew `recording` in every child that this process forks."""
    _ALL.add(recording)


def opened(recording: RecordingStream) -> None:
    """Close `recording` when this process ends."""
    if os.getpid() not in _FINALIZED:
        _FINALIZED.add(os.getpid())
        # a child of multiprocessing ends with os._exit: its finalizers run, what atexit knows does not
        util.Finalize(None, close_all, exitpriority=0)
    _OPEN.add(recording)


def closed(recording: RecordingStream) -> None:
    """`recording` has no open sink any more."""
    _OPEN.discard(recording)


def close_all() -> None:
    """Close all recordings; warns with the number of values that did not become durable in time."""
    deadline = time.monotonic() + EXIT_WAIT
    interrupt: KeyboardInterrupt | None = None
    for recording in list(_OPEN):
        try:
            recording.disconnect(timeout=max(0.0, deadline - time.monotonic()))
        except FlushError as e:
            warn(f"recording {recording.recording_id}: {e.undelivered} values were lost at exit: {e}")
        except KeyboardInterrupt as e:  # nobody wants to wait any more
            interrupt, deadline = e, 0.0
        except Exception as e:  # noqa: BLE001 - the other recordings want to be closed too
            warn(f"recording {recording.recording_id}: values may have been lost at exit: {e!r}")
    if interrupt is not None:
        raise interrupt


def _in_child() -> None:
    IMPORTING.release()
    _OPEN.clear()
    for recording in list(_ALL):
        recording.renew()


atexit.register(close_all)
# hooks run in the reverse of their order before a fork: the locks of the modules above, which opening a sink may need,
# are taken after ours
os.register_at_fork(before=IMPORTING.acquire, after_in_parent=IMPORTING.release, after_in_child=_in_child)
