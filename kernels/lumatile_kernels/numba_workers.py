"""The threads that kernels run on."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from numba.core.compiler_lock import global_compiler_lock

PART_TEXELS = 1 << 17
"""Handing a part over takes about 0.1 ms, as long as computing this many texels."""


class Workers:
    """Splits a kernel's work among threads, the calling one included. Forked children get threads of their own."""

    def __init__(self, threads: int | None = None) -> None:
        """`threads`: how many compute together; None: one for each core this process may use."""
        self.threads = threads or (len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1)
        self._pid = 0

    def run(self, kernel: Callable[..., Any], *args: Any, rows: int, width: int) -> None:
        """Call `kernel(*args, part, first, last)` for parts of the row pairs of `rows` rows of `width` texels."""
        pairs = -(-rows // 2)
        if not kernel.signatures:  # type: ignore[attr-defined]
            with global_compiler_lock:  # a fork waits for it, and so for all that a first call imports
                kernel(*args, 0, 0, pairs)
            return
        parts = max(1, min(self.threads, pairs, rows * width // PART_TEXELS))
        edges = [pairs * i // parts for i in range(parts + 1)]
        others = [self._submit(kernel, *args, i, edges[i], edges[i + 1]) for i in range(1, parts)]
        kernel(*args, 0, edges[0], edges[1])
        for other in others:
            other.result()

    def _submit(self, kernel: Callable[..., Any], *args: Any) -> Future[None]:
        if self._pid != os.getpid():
            self._executor = ThreadPoolExecutor(max(1, self.threads - 1), "lumatile-kernels")
            self._pid = os.getpid()
        try:
            return self._executor.submit(kernel, *args)
        except RuntimeError:  # the interpreter is shutting down
            done: Future[None] = Future()
            done.set_result(kernel(*args))
            return done
