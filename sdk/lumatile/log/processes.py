"""The renewal of streams when this process forks, and the closing of their sinks when it ends."""

from __future__ import annotations

import atexit
import os
import time
from multiprocessing import util
from typing import Any, Protocol
from weakref import WeakSet

from lumatile.errors import FlushError, InvalidValueError, warn
from lumatile.sink.sinks import SinkAt, SinkFactory
from lumatile_kernels import fork


class Follower(Protocol):
    """A stream of this process."""

    def renew(self) -> None:
        """Begin anew in a forked child."""
        ...


class Open(Protocol):
    """The outlet of a stream, with an open sink."""

    name: str
    """The id of the recording."""

    def renew(self) -> None:
        """Begin anew in a forked child."""
        ...

    def flush(self, timeout: float | None) -> object:
        """Wait until all values are durable. Raises FlushError."""
        ...

    def close(self, timeout: float | None) -> None:
        """Flush and close the sink. Raises FlushError."""
        ...


EXIT_WAIT = 30.0
"""The longest wait at the end of a process in which no value becomes durable, in seconds, for all recordings together.

While some do, the process waits on, whatever their number."""

EXIT_LOOK = 10.0
"""The seconds after which that is looked at."""

_ALL: WeakSet[Follower] = WeakSet()
"""Streams that a forked child has to make its own."""

_OPEN: set[Open] = set()
"""Outlets with an open sink: they live until it is closed."""

_PARENTS: list[Any] = []
"""Sinks of the processes that this one was forked from: those processes close them, and nothing may finalise them in
this one."""

_FINALIZED: set[int] = set()
"""Ids of this process and of those that it was forked from, if they close their sinks at the end."""

_USED: set[SinkAt] = set()
"""The sinks that workers of this process may have logged to."""


def follow(stream: Follower) -> None:
    """Renew `stream` in every child that this process forks."""
    _ALL.add(stream)


def use(sink: SinkFactory) -> None:
    """Wait, when this process ends, for what its workers have logged to `sink`."""
    _finalize()
    if isinstance(sink, SinkAt):
        _USED.add(sink)


def opened(outlet: Open) -> None:
    """Close `outlet` when this process ends."""
    _finalize()
    _OPEN.add(outlet)


def _finalize() -> None:
    if os.getpid() not in _FINALIZED:
        _FINALIZED.add(os.getpid())
        # a child of multiprocessing ends with os._exit: it runs its finalizers, but not the functions that atexit knows
        util.Finalize(None, close_all, exitpriority=0)
        util.Finalize(None, _collect_all, exitpriority=-100)  # after multiprocessing has ended or joined its processes


def closed(outlet: Open) -> None:
    """Note that `outlet` has no open sink any more."""
    _OPEN.discard(outlet)


def keep(sink: Any) -> None:
    """Keep a sink of the parent's for as long as this process lives."""
    _PARENTS.append(sink)


def close_all() -> None:
    """Close all sinks, when their values are durable; warn with the number of those that are not."""
    deadline = time.monotonic() + EXIT_WAIT
    interrupt: KeyboardInterrupt | None = None
    for outlet in list(_OPEN):
        lost = 0
        try:
            lost, deadline = _flushed(outlet, deadline)
        except KeyboardInterrupt as e:  # the user wants to wait no longer
            interrupt, deadline = e, 0.0
        except Exception:  # noqa: BLE001, S110 - closing gives it again
            pass
        try:
            outlet.close(max(0.0, deadline - time.monotonic()))
        except FlushError as e:
            warn(f"recording {outlet.name}: {lost + e.undelivered} values were lost at exit: {e.reason}")
            lost = 0
        except KeyboardInterrupt as e:
            interrupt, deadline = e, 0.0
        except Exception as e:  # noqa: BLE001 - the other sinks are closed too
            warn(f"recording {outlet.name}: values may have been lost at exit: {e!r}")
        if lost:
            warn(f"recording {outlet.name}: {lost} values were lost")
    if interrupt is not None:
        raise interrupt


def _flushed(outlet: Open, deadline: float) -> tuple[int, float]:
    """Wait for the values of `outlet` for as long as some of them become durable, and at least to `deadline`.

    Returns how many were lost, and the deadline for what comes next.
    """
    lost, pending = 0, None
    while True:
        began = time.monotonic()
        patience = min(EXIT_LOOK, max(0.0, deadline - began))
        try:
            outlet.flush(patience)
        except FlushError as e:
            lost += e.lost
            now, left = time.monotonic(), e.undelivered - e.lost
            if not left:
                return lost, deadline
            if pending is not None and left < pending:
                deadline = now + EXIT_WAIT
            elif now >= deadline or (pending is not None and now - began < patience):
                return lost, deadline  # too long, or not for want of time: the disk fails
            pending = left
        else:
            return lost, deadline


def _collect_all() -> None:
    """Wait for what workers of this process have logged; warn where it cannot be stored."""
    deadline = time.monotonic() + EXIT_WAIT
    for sink in list(_USED):
        try:
            sink.collect(timeout=max(0.0, deadline - time.monotonic()))
        except FlushError as e:
            warn(f"{sink}: {e}; the next process that logs there stores what can be stored")
        except InvalidValueError:
            continue  # it was refused when it was to be opened: nothing was logged there
        except Exception as e:  # noqa: BLE001 - the other sinks are looked at too
            warn(f"{sink}: what workers have logged may not be stored: {e!r}")


def _in_child() -> None:
    for each in [*_ALL, *_OPEN]:  # an open outlet may outlive its stream
        each.renew()
    _OPEN.clear()


atexit.register(close_all)
fork.at_fork(in_child=_in_child)
