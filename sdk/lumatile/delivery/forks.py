"""What Flight connections do when their process forks: they are cut, and made again.

A child inherits gRPC's state without its threads: no call in it would ever return, or it would abort. Without a
connection there is no such state: the child begins afresh, and the parent sends again what was not acknowledged. What
is asked of a service (a GetFlightInfo, bounded in time) is waited for, and so is gRPC's end, which happens in the
background. Where it does not end, because the process has other Flight clients, the child is told, and calls nothing.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from lumatile.errors import SinkError

if TYPE_CHECKING:
    from lumatile.delivery.connection import FlightConnection

GRPC_SECONDS = 5.0
"""Longest wait for gRPC to end after its last connection; it takes 20 ms on an idle machine."""

UNKNOWN_SECONDS = 1.0
"""Longest wait for threads without a name, which may become gRPC's."""

GRPC_THREADS = ("event_engine", "grpc_", "lifeguard")
"""What the names begin with that the system has for gRPC's threads, once they run."""

_before_us: set[str] = set()
"""Ids of threads of other libraries that were there first; Ray has a gRPC of its own."""

_known: set[str] = set()
"""Ids of threads that were waited for, and did not end."""

_alive = False
"""Whether gRPC had threads at the last fork."""

_broken = False
"""Whether this process was forked while it had."""

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


def check() -> None:
    """Raises SinkError where gRPC must not be called in this process."""
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
    """Ids and names of threads that are not Python's, nor were there first; none where the system does not tell.

    gRPC's are among them; those that have just begun have the name of who began them.
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
    global _lock, _broken  # noqa: PLW0603 - of the parent's threads one may have waited for the lock
    _lock = threading.RLock()
    _broken = _broken or _alive
    _open.clear()
    _before_us.clear()
    _known.clear()


def _in_parent() -> None:
    _lock.release()


_before_us.update(_foreign_threads())
os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
