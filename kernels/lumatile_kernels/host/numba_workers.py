"""The threads that run compiled kernels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from numba.core.compiler_lock import global_compiler_lock

from lumatile_kernels.threads import Threads

PART_TEXELS = 1 << 17
"""The least texels of a part: handing a part to a thread takes about 0.1 ms, as computing this many texels does."""


class Workers:
    """Splits a kernel's work among threads, the calling one included."""

    def __init__(self, threads: int | None = None) -> None:
        """Compute with `threads` threads; None: one for each core that this process may use."""
        self._threads = Threads(threads, "lumatile-kernels")

    @property
    def threads(self) -> int:
        """The number of threads that compute together."""
        return self._threads.count

    def run(self, kernel: Callable[..., Any], *args: Any, rows: int, width: int) -> None:
        """Call `kernel(*args, part, first, last)` for parts of the row pairs of `rows` rows of `width` texels."""
        pairs = -(-rows // 2)
        if not kernel.overloads:  # type: ignore[attr-defined]
            with global_compiler_lock:  # a fork waits for this lock, and so for all imports of a first call
                kernel(*args, 0, 0, pairs)
            return
        parts = max(1, min(self.threads, pairs, rows * width // PART_TEXELS))
        if parts == 1:
            kernel(*args, 0, 0, pairs)
            return
        edges = [pairs * i // parts for i in range(parts + 1)]
        self._threads.run([partial(kernel, *args, i, edges[i], edges[i + 1]) for i in range(parts)])
