"""Warm memory: on a virtual machine the first touch of memory costs more than the work that is timed.

A hypervisor takes large free blocks back within seconds, and giving them again costs 1-3 ms a megabyte, a hundred
times a copy. So memory is touched and freed right before a timing, for all contenders alike. In huge pages: small ones
would come from the fragments that the hypervisor left, and the page cache would get cold blocks (a buffered raw write
then took three times as long, tried).
"""

from __future__ import annotations

import mmap

import numpy as np
import psutil


def warm_memory(nbytes: int) -> None:
    """Touch `nbytes` bytes of memory, at most half of the free memory, and free them again."""
    nbytes = min(nbytes, psutil.virtual_memory().available // 2)
    if nbytes < mmap.PAGESIZE:
        return
    memory = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    np.frombuffer(memory, np.uint8)[:: mmap.PAGESIZE] = 1
    memory.close()
