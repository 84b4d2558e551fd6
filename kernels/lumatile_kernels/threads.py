"""Threads that compute together, in any process and until its very end."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Result = TypeVar("Result")


class Threads:
    """Runs calls side by side, the first on the calling thread. A forked child gets threads of its own."""

    def __init__(self, count: int | None = None, name: str = "lumatile-compute") -> None:
        """`count`: how many compute together; None: one for each core this process may use."""
        self.count = count or (len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1)
        self._name = name
        self._pid = 0

    def run(self, calls: Sequence[Callable[[], Result]]) -> list[Result]:
        """The results of all calls, in order; raises what the first of them that failed raised."""
        others = [self._submit(call) for call in calls[1:]]
        first = [call() for call in calls[:1]]
        return [*first, *(other.result() for other in others)]

    def _submit(self, call: Callable[[], Any]) -> Future[Any]:
        if self._pid != os.getpid():
            self._executor = ThreadPoolExecutor(max(1, self.count - 1), self._name)
            self._pid = os.getpid()
        try:
            return self._executor.submit(call)
        except RuntimeError:  # the interpreter is shutting down
            done: Future[Any] = Future()
            done.set_result(call())
            return done
