"""Warm memory: large buffers that are reused.

The first touch of fresh memory costs more than everything else done to a frame (about 1.1 ms a megabyte on a
virtual machine, against 0.1 ms to copy it), so buffers return to a pool when the last array that shows them is gone.
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
"""Below this many bytes, the C allocator's own reuse of memory is faster."""
GRAIN = 1 << 16
"""Buffers are multiples of this many bytes, so that nearly equal sizes share them."""

PINNED = 1 << 20
"""Buffers of at least this many bytes are pinned if there is a GPU; smaller ones are copied faster than pinned."""

WIPEONFORK = 18
"""Linux' MADV_WIPEONFORK, which mmap does not name: a forked child reads zeros; the parent's pages are not touched.

(MADV_DONTFORK leaves a hole in the child's address space. The child's next allocation may lie in it, and is unmapped
when the buffer is released.)
"""


class _Loan(np.ndarray):
    """A buffer that is lent. Views of it are plain arrays, and keep it alive."""

    memory: mmap.mmap | None = None
    """The buffer; None in arrays that numpy derives from a loan, which return nothing."""
    home: deque[mmap.mmap]
    """The buffer is returned to it. Any thread may append to a deque without a lock."""

    def __del__(self) -> None:
        """Return the buffer."""
        if self.memory is not None:
            self.home.append(self.memory)


class BufferPool:
    """Lends page-aligned buffers; each returns by itself when the last array that shows it is garbage."""

    def __init__(self, idle_bytes: int = 1 << 28) -> None:
        """Begin without buffers; `idle_bytes`: unused memory that is kept for reuse, in bytes."""
        self._idle_bytes = idle_bytes
        self.reset()

    def reset(self) -> None:
        """Forget all buffers, those that are lent too: for a forked child, whose parent goes on using them."""
        self._lock = threading.RLock()
        self._taking = False
        """A take is going on. A signal handler or a finaliser may run in the middle of it, and take in its thread."""
        self._idle: list[tuple[int, int, mmap.mmap]] = []
        """(size, id, buffer), sorted by size; the id only keeps mmaps from being compared."""
        self._returned: deque[mmap.mmap] = deque()
        self._pin: Callable[[memoryview], Callable[[], None]] | None = None
        self._pin_given = False
        self._unpin: dict[int, Callable[[], None]] = {}
        """The functions that undo the pinning of buffers, by the id of the mmap."""

    def take(self, nbytes: int) -> NDArray[np.uint8]:
        """Return a writable, uninitialised (nbytes,) uint8 array; it is page-aligned from 32 KiB on."""
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
        loan.memory, loan.home = memory, self._returned
        return loan.view(np.ndarray)

    def _reused(self, nbytes: int) -> mmap.mmap | None:
        self._collect()
        fit = bisect_left(self._idle, (nbytes, 0))
        if fit < len(self._idle) and self._idle[fit][0] <= nbytes + nbytes // 2 + GRAIN:
            return self._idle.pop(fit)[2]
        return None

    def pin_with(self, pin: Callable[[memoryview], Callable[[], None]]) -> None:
        """Pin large buffers from now on, so that a GPU reads and writes them by itself.

        Forked children don't see the contents of pinned buffers: if a fork made a page copy-on-write, the process
        could get a copy of it, while the GPU goes on with the page itself.

        Args:
            pin: pins a buffer and returns the function that undoes it. Only the first `pin` that is given is used.
        """
        with self._lock:
            if self._pin_given:
                return
            self._pin, self._pin_given = pin, True
            self._collect()
            self._idle = [entry for entry in self._idle if entry[0] < PINNED or id(entry[2]) in self._unpin]

    def _collect(self) -> None:
        """Make returned buffers idle; release the smallest while they exceed the bound."""
        while self._returned:
            memory = self._returned.popleft()
            size = len(memory)
            self._idle.insert(bisect_left(self._idle, (size, id(memory))), (size, id(memory), memory))
        idle = sum(size for size, _, _ in self._idle)
        while idle > self._idle_bytes:
            size, _, memory = self._idle.pop(0)
            idle -= size
            self._release(memory)

    def _release(self, memory: mmap.mmap) -> None:
        unpin = self._unpin.pop(id(memory), None)
        if unpin is not None:
            try:
                unpin()
            except Exception as e:  # noqa: BLE001 - the device is gone, and no longer holds the memory
                log.debug("a buffer could not be unpinned: %s", e)

    def _fresh(self, nbytes: int) -> mmap.mmap:
        memory = _mapped(nbytes)
        if self._pin is not None and nbytes >= PINNED:
            try:
                self._unpin[id(memory)] = self._pin(memoryview(memory))
                memory.madvise(WIPEONFORK)
            except Exception as e:  # noqa: BLE001 - an unpinned buffer is as good, only slower to copy
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
