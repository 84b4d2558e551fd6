"""What Flight connections do when their process forks: they are cut, and made again.

A child inherits gRPC's state without its threads: no call in it would ever return. Without a connection there is no
such state: the child begins afresh, and the parent sends again what was not acknowledged. What is asked of a service
(a GetFlightInfo, bounded in time) is waited for. Flight clients that are not ours are not seen here: a process that has
such ones must not fork, or close them before.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lumatile.flight_connection import FlightConnection

GRPC_SECONDS = 1.0
"""Longest wait for gRPC to end after its last connection."""

_NOT_OURS: set[str] = set()
"""Ids of threads that are not gRPC's, or that do not end: those of other libraries."""

_lock = threading.RLock()
"""Held by who forks, and while gRPC is called without a connection that could be cut."""

_open: set[FlightConnection] = set()


@contextmanager
def no_fork(given_up: Callable[[], bool]) -> Iterator[bool]:
    """No fork happens in the block; False: there was one before it, and meanwhile `given_up` is true."""
    lock = _lock
    while not lock.acquire(timeout=0.02):
        if given_up():
            yield False
            return
    try:
        yield True
    finally:
        lock.release()


def begin(connection: FlightConnection) -> None:
    """There is one more connection to cut; waits while the process is forking."""
    with _lock:
        _open.add(connection)


def end(connection: FlightConnection) -> None:
    """It is cut."""
    _open.discard(connection)


def _before() -> None:
    _lock.acquire()
    for connection in list(_open):
        connection.forked = True
    for connection in list(_open):
        connection.cut()
    deadline = time.monotonic() + GRPC_SECONDS
    while (threads := _foreign_threads()) - _NOT_OURS:
        if time.monotonic() > deadline:
            _NOT_OURS.update(threads)  # the next fork does not wait for them
            break
        time.sleep(0.001)
    _NOT_OURS.intersection_update(threads)


def _foreign_threads() -> set[str]:
    """Ids of this process's threads that are not Python's; empty where the system does not tell.

    gRPC's are among them, and end in the background; which ones they are cannot be told: they begin without a name.
    """
    try:
        tasks = set(os.listdir("/proc/self/task"))  # noqa: PTH208
    except OSError:
        return set()
    return tasks - {str(thread.native_id) for thread in threading.enumerate()}


def _in_child() -> None:
    global _lock  # noqa: PLW0603 - of the parent's threads one may have waited for it
    _lock = threading.RLock()
    _open.clear()
    _NOT_OURS.clear()


def _in_parent() -> None:
    _lock.release()


_NOT_OURS.update(_foreign_threads())
os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
