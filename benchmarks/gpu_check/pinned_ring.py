"""Host memory with fast copies to and from the device: locked in place once, and lent again and again."""

from __future__ import annotations

import mmap
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Pin = Callable[[memoryview], Callable[[], None]]


class PinnedRing:
    """A ring that lends buffers one after another, and starts again after the last.

    Who takes one must be done with it before `nbytes` more have been taken.
    """

    def __init__(self, pin: Pin, nbytes: int) -> None:
        """Lock memory with `pin` of a backend; `nbytes`: the size of all buffers together."""
        self._memory = mmap.mmap(-1, nbytes)
        self._bytes = np.frombuffer(self._memory, np.uint8)
        self._bytes[:: mmap.PAGESIZE] = 1
        self._unpin = pin(memoryview(self._memory))
        self._at = 0

    def allocate(self, nbytes: int) -> NDArray[np.uint8]:
        """Return the next buffer; this is an `Allocate`."""
        if nbytes > len(self._bytes):
            raise ValueError(f"a buffer may have {len(self._bytes)} bytes, not {nbytes}")
        if self._at + nbytes > len(self._bytes):
            self._at = 0
        start = self._at
        self._at += -(-nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
        return self._bytes[start : start + nbytes]

    def keep(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        """Return a copy of an array in the next buffer."""
        kept = self.allocate(array.nbytes).view(array.dtype).reshape(array.shape)
        kept[...] = array
        return kept

    def close(self) -> None:
        """Unlock the memory."""
        self._unpin()
