"""Forks of this process: one lock that every fork takes, and one ordered list of what happens with it held.

Whatever has to happen at a fork is registered here, and not with `os.register_at_fork`: CPython copies its list before
it runs the first hook. A fork that then waits, here for another thread that imports a module, would miss the hooks
that the module registers in the meantime, and the child would hang.
"""

from __future__ import annotations

# hooks of CPython's list run before a fork in the reverse of their order: those of these two modules, whose locks a
# thread may need that holds LOCK, are registered before ours and run after it
import concurrent.futures.thread  # noqa: F401
import logging  # noqa: F401
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import process
from typing import Any

LOCK = threading.RLock()
"""Held during a fork, and by a thread in the middle of something that a child could not do without that thread: to
import modules (a child can never import a module that another thread was importing), to note an open file."""


def _nothing() -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class _Hook:
    before: Callable[[], None]
    in_parent: Callable[[], None]
    in_child: Callable[[], None]


_hooks: list[_Hook] = []
"""In the order in which they were registered."""


class _Lineage:
    pid = os.getpid()
    parents: tuple[int, ...] = ()
    """The processes that this one was forked from, the oldest first."""


class _OfThread(threading.local):
    def __init__(self) -> None:
        self.begun: list[_Hook] = []
        """The hooks of the thread's fork whose `before` has run."""


_THREAD = _OfThread()


def ancestors() -> tuple[int, ...]:
    """Return the ids of the processes that this one was forked from, and of the one that started it as a worker."""
    starter = process.parent_process()
    return _Lineage.parents if starter is None or starter.pid is None else (*_Lineage.parents, starter.pid)


def is_worker() -> bool:
    """Return whether another process of the program may end this one: it was forked, or multiprocessing started it."""
    return bool(ancestors()) or process.current_process().name != "MainProcess"


def at_fork(
    *,
    before: Callable[[], None] = _nothing,
    in_parent: Callable[[], None] = _nothing,
    in_child: Callable[[], None] = _nothing,
) -> None:
    """Run these functions at every fork from now on, with LOCK held. No effect where there is no fork.

    `before` runs in the order of registration, the other two in the reverse. All three run at a fork or none: at the
    forks that take LOCK after this call.
    """
    _hooks.append(_Hook(before=before, in_parent=in_parent, in_child=in_child))


def hold_across_fork(lock: Any, prepare: Callable[[], None] = _nothing) -> None:
    """Hold `lock` at every fork: a child would wait forever for a lock that another thread held at the fork.

    `prepare` runs before the fork, once it is held.
    """
    held: list[bool] = []

    def before() -> None:
        lock.acquire()
        held.append(True)
        prepare()

    def after() -> None:
        if held:  # Ctrl-C may have ended the wait
            held.pop()
            lock.release()

    at_fork(before=before, in_parent=after, in_child=after)


def _before() -> None:
    _run(_beginning())


def _beginning() -> Iterator[Callable[[], None]]:
    for hook in _hooks:
        _THREAD.begun.append(hook)
        yield hook.before


def _in_parent() -> None:
    _run(hook.in_parent for hook in _ended())


def _in_child() -> None:
    _Lineage.parents, _Lineage.pid = (*_Lineage.parents, _Lineage.pid), os.getpid()
    _run(hook.in_child for hook in _ended())


def _ended() -> list[_Hook]:
    begun, _THREAD.begun = _THREAD.begun, []
    return begun[::-1]


def _run(actions: Iterable[Callable[[], None]]) -> None:
    """Run all of `actions`; raise the first error, which Python reports and does not raise, when they have run."""
    failure: BaseException | None = None
    for action in actions:
        try:
            action()
        except BaseException as e:  # noqa: BLE001 - the locks of the others are to be held all the same
            failure = failure or e
    if failure is not None:
        raise failure


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
    # the first before a fork and the last after it; no Python code in which Ctrl-C could leave it locked
    os.register_at_fork(before=LOCK.acquire, after_in_parent=LOCK.release, after_in_child=LOCK.release)
