"""Threads that compute together, in any process and until its end, and the number of cores to give them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Result = TypeVar("Result")


def usable_cores(limit: int | None = None) -> int:
    """Return the number of CPU cores that this process may use, at least 1 and at most `limit`."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores if limit is None else min(limit, cores)


class Threads:
    """Runs calls at the same time, the first of them on the calling thread. A forked child gets threads of its own."""

    def __init__(self, count: int | None = None, name: str = "lumatile-compute") -> None:
        """Start no thread yet.

        `count`: the threads that compute together, the calling one included; None: one for each core that this process
        may use. `name`: the beginning of the threads' names.
        """
        self.count = count or usable_cores()
        self._name = name
        self._executor: tuple[int, ThreadPoolExecutor] | None = None
        """The id of the process that made the threads, and the threads; None: there are none."""

    def run(self, calls: Sequence[Callable[[], Result]]) -> list[Result]:
        """Return the results of all calls, in order; raise what the first call that failed raised."""
        others = [self._submit(call) for call in calls[1:]]
        first = [call() for call in calls[:1]]
        return [*first, *(other.result() for other in others)]

    def _submit(self, call: Callable[[], Any]) -> Future[Any]:
        if self._executor is None or self._executor[0] != os.getpid():
            self._executor = os.getpid(), ThreadPoolExecutor(max(1, self.count - 1), self._name)
        try:
            return self._executor[1].submit(call)
        except RuntimeError:  # the interpreter is shutting down
            done: Future[Any] = Future()
            done.set_result(call())
            return done
