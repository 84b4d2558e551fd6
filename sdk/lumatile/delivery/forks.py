"""Flight connections at a fork of their process: they are cut before it, and made again after it.

A child inherits gRPC's state without its threads: a call in it would never return, or would abort the process. Without
a connection there is no such state: the child begins afresh, and the parent sends again what was not acknowledged. The
fork waits for a question to a service (a GetFlightInfo, bounded in time), and for gRPC's threads, which end in the
background. If they do not end, because the process has other Flight clients, a call in the child is an error.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Protocol

from lumatile.errors import SinkError
from lumatile_kernels.fork import at_fork

GRPC_SECONDS = 5.0
"""Longest wait for gRPC to end after its last connection; it takes 20 ms on an idle machine."""

UNKNOWN_SECONDS = 1.0
"""Longest wait for threads without a name, which may turn out to be gRPC's."""

GRPC_THREADS = ("event_engine", "grpc_", "lifeguard")
"""The beginnings of the names that gRPC's threads have in the system, once they run."""

_before_us: set[str] = set()
"""Ids of the threads of other libraries that were there before us; Ray has a gRPC of its own."""

_known: set[str] = set()
"""Ids of threads that a fork has waited for, and that did not end."""

_alive = False
"""Whether gRPC had threads at the last fork."""

_broken = False
"""Whether this process was forked while it had."""

_lock = threading.RLock()
"""Held during a fork, and while gRPC is called without a connection that could be cut, for at most a few seconds.

Not the lock of all forks: other threads must be able to open sinks in the meantime."""


class Cuttable(Protocol):
    """A connection that a fork cuts."""

    forked: bool
    """It was cut for a fork."""

    def cut(self) -> None:
        """End it; waits for its threads, a short time."""
        ...


_open: set[Cuttable] = set()
"""The connections of this process that are not cut."""


@contextmanager
def no_fork(given_up: Callable[[], bool]) -> Iterator[bool]:
    """Let no fork happen in the block; False: a fork came first, and `given_up` became true while it was waited for."""
    lock = _lock
    while not lock.acquire(timeout=0.02):
        if given_up():
            yield False
            return
    try:
        yield True
    finally:
        lock.release()


def begin(connection: Cuttable) -> None:
    """Cut `connection` at the next fork; waits while the process is forking."""
    with _lock:
        _open.add(connection)


def end(connection: Cuttable) -> None:
    """Note that `connection` is cut."""
    _open.discard(connection)


def check() -> None:
    """Raise SinkError if gRPC must not be called in this process."""
    if _broken:
        raise SinkError(
            "the process was forked while a Flight client was open: close those that are not lumatile's before, or "
            "start processes with spawn"
        )


def _before() -> None:
    global _alive  # noqa: PLW0603
    _lock.acquire()
    for connection in list(_open):
        connection.forked = True
    for connection in list(_open):
        connection.cut()
    began = time.monotonic()
    while new := {thread: name for thread, name in _foreign_threads().items() if thread not in _known}:
        patience = GRPC_SECONDS if _has_grpc(new) else UNKNOWN_SECONDS
        if time.monotonic() - began > patience:
            _known.update(new)  # the next fork does not wait for them
            break
        time.sleep(0.001)
    threads = _foreign_threads()
    _known.intersection_update(threads)
    _alive = _has_grpc(threads)


def _has_grpc(threads: Mapping[str, str]) -> bool:
    return any(name.startswith(GRPC_THREADS) for name in threads.values())


def _foreign_threads() -> dict[str, str]:
    """Return the ids and names of threads that are not Python's and that were not there before us.

    gRPC's are among them; one that has just begun has the name of the thread that began it. Where the system does not
    list threads there are none.
    """
    threads = {}
    with suppress(OSError):
        for thread in os.listdir("/proc/self/task"):  # noqa: PTH208
            with suppress(OSError), open(f"/proc/self/task/{thread}/comm") as file:  # noqa: PTH123
                threads[thread] = file.read()
    for python in threading.enumerate():
        threads.pop(str(python.native_id), None)
    for thread in _before_us:
        threads.pop(thread, None)
    return threads


def _in_child() -> None:
    global _lock, _broken  # noqa: PLW0603 - a thread of the parent may have waited for the lock
    _lock = threading.RLock()
    _broken = _broken or _alive
    _open.clear()
    _before_us.clear()
    _known.clear()


def _in_parent() -> None:
    _lock.release()


_before_us.update(_foreign_threads())
at_fork(before=_before, in_parent=_in_parent, in_child=_in_child)
