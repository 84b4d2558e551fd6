"""The renewal of streams when this process forks, and the closing of their sinks when it ends."""

from __future__ import annotations

import atexit
import os
import time
from multiprocessing import util
from typing import Any, Protocol
from weakref import WeakSet

from lumatile.errors import FlushError, warn
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

    def close(self, timeout: float | None) -> None:
        """Flush and close the sink. Raises FlushError."""
        ...


EXIT_WAIT = 30.0
"""The longest wait for values to become durable at the end of a process, in seconds, for all recordings together."""

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
    """Close all sinks; warn with the number of values that did not become durable in time."""
    deadline = time.monotonic() + EXIT_WAIT
    interrupt: KeyboardInterrupt | None = None
    for outlet in list(_OPEN):
        try:
            outlet.close(max(0.0, deadline - time.monotonic()))
        except FlushError as e:
            warn(f"recording {outlet.name}: {e.undelivered} values were lost at exit: {e}")
        except KeyboardInterrupt as e:  # the user wants to wait no longer
            interrupt, deadline = e, 0.0
        except Exception as e:  # noqa: BLE001 - the other sinks are closed too
            warn(f"recording {outlet.name}: values may have been lost at exit: {e!r}")
    if interrupt is not None:
        raise interrupt


def _collect_all() -> None:
    """Wait for what workers of this process have logged; warn where it cannot be stored."""
    deadline = time.monotonic() + EXIT_WAIT
    for sink in list(_USED):
        try:
            sink.collect(timeout=max(0.0, deadline - time.monotonic()))
        except FlushError as e:
            warn(f"{sink}: {e}; the next process that logs there stores what can be stored")
        except Exception as e:  # noqa: BLE001 - the other sinks are looked at too
            warn(f"{sink}: what workers have logged may not be stored: {e!r}")


def _in_child() -> None:
    for each in [*_ALL, *_OPEN]:  # an open outlet may outlive its stream
        each.renew()
    _OPEN.clear()


atexit.register(close_all)
fork.at_fork(in_child=_in_child)
