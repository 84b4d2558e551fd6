"""Warm memory: large buffers that are reused.

The first touch of fresh memory costs more than everything else done to a frame (about 1.1 ms a megabyte on a
virtual machine, against 0.1 ms to copy it), so buffers go back to a pool when the last array that shows them is gone.
"""

from __future__ import annotations

import logging
import mmap
import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lumatile_kernels import fork

log = logging.getLogger(__name__)

PAGE = mmap.PAGESIZE
SMALL = 1 << 15
"""Below this many bytes the C allocator's own reuse is better."""
GRAIN = 1 << 16
"""Buffers are multiples of this many bytes, so that nearly equal sizes share them."""

PINNED = 1 << 20
"""Buffers of this many bytes and more are pinned, where there is a GPU: a small one is faster copied than pinned."""


WIPEONFORK = 18
"""Linux' MADV_WIPEONFORK, which mmap does not name: a child has zeros there, and the parent's pages are not touched.

(MADV_DONTFORK leaves a hole, where the child's next memory may come to lie; letting go of the buffer unmapped that.)
"""


class _Loan(np.ndarray):
    """A buffer that is lent; views of it are plain arrays, and keep it alive."""

    _memory: mmap.mmap | None = None
    _home: deque[mmap.mmap]

    def __del__(self) -> None:
        """Give the buffer back: only the root holds one. A deque takes it without a lock, in whatever thread."""
        if self._memory is not None:
            self._home.append(self._memory)


class BufferPool:
    """Lends page-aligned buffers; they come back by themselves when the last array on them is garbage."""

    def __init__(self, idle_bytes: int = 1 << 28) -> None:
        """`idle_bytes`: memory kept for reuse while nobody uses it, in bytes."""
        self._idle_bytes = idle_bytes
        self.reset()

    def reset(self) -> None:
        """Begin anew, without the buffers of before: in a forked child, and once at the start."""
        self._lock = threading.RLock()
        self._taking = False
        """A signal's handler, or a finaliser, may come in the middle of a take, and take in the same thread."""
        self._idle: list[tuple[int, int, mmap.mmap]] = []
        """Sorted by size; the id only keeps mmaps from being compared."""
        self._returned: deque[mmap.mmap] = deque()
        self._pin: Callable[[memoryview], Callable[[], None]] | None = None
        self._pin_given = False
        self._unpin: dict[int, Callable[[], None]] = {}
        """What undoes the pinning of a buffer, by the id of its mmap."""

    def take(self, nbytes: int) -> NDArray[np.uint8]:
        """A writable, uninitialised (nbytes,) uint8 array; page-aligned from 32 KiB on."""
        if nbytes < SMALL:
            return np.empty(nbytes, np.uint8)
        with self._lock:
            if self._taking:
                memory = _mapped(-(-nbytes // GRAIN) * GRAIN)
            else:
                try:
                    self._taking = True
                    memory = self._reused(nbytes) or self._fresh(-(-nbytes // GRAIN) * GRAIN)
                finally:
                    self._taking = False
        loan = np.ndarray.__new__(_Loan, (nbytes,), np.uint8, buffer=memory)
        loan._memory = memory  # noqa: SLF001
        loan._home = self._returned  # noqa: SLF001
        return loan.view(np.ndarray)

    def _reused(self, nbytes: int) -> mmap.mmap | None:
        self._collect()
        fit = bisect_left(self._idle, (nbytes, 0))
        if fit < len(self._idle) and self._idle[fit][0] <= nbytes + nbytes // 2 + GRAIN:
            return self._idle.pop(fit)[2]
        return None

    def pin_with(self, pin: Callable[[memoryview], Callable[[], None]]) -> None:
        """Lock large buffers in place from now on, so that a GPU copies from and to them by itself.

        `pin` locks one and returns what undoes it; the first that is given stays. Forked children don't see what
        is in pinned buffers: a page that is copied at a fork would part the process from what the GPU writes.
        """
        with self._lock:
            if self._pin_given:
                return
            self._pin, self._pin_given = pin, True
            self._collect()
            self._idle = [entry for entry in self._idle if entry[0] < PINNED or id(entry[2]) in self._unpin]

    def _collect(self) -> None:
        """Make returned buffers idle; let the smallest go while there are too many."""
        while self._returned:
            memory = self._returned.popleft()
            size = len(memory)
            self._idle.insert(bisect_left(self._idle, (size, id(memory))), (size, id(memory), memory))
        idle = sum(size for size, _, _ in self._idle)
        while idle > self._idle_bytes:
            size, _, memory = self._idle.pop(0)
            idle -= size
            self._let_go(memory)

    def _let_go(self, memory: mmap.mmap) -> None:
        unpin = self._unpin.pop(id(memory), None)
        if unpin is not None:
            try:
                unpin()
            except Exception as e:  # noqa: BLE001 - the device is gone, and so is its hold on the memory
                log.debug("a buffer could not be unpinned: %s", e)

    def _fresh(self, nbytes: int) -> mmap.mmap:
        memory = _mapped(nbytes)
        if self._pin is not None and nbytes >= PINNED:
            try:
                self._unpin[id(memory)] = self._pin(memoryview(memory))
                memory.madvise(WIPEONFORK)
            except Exception as e:  # noqa: BLE001 - it is as good, only slower to copy
                log.warning("buffers are not pinned any more, copies to and from the GPU are slower: %s", e)
                self._pin = None
        return memory


def _mapped(nbytes: int) -> mmap.mmap:
    memory = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if nbytes >= 1 << 22 and hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


POOL = BufferPool()
"""The process's pool."""

fork.at_fork(in_child=POOL.reset)
