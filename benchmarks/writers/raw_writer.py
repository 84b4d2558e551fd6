"""A raw write and fsync of as many bytes as the store holds, in as many files: the limit of the disk."""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.harness.frames import Workload
from benchmarks.writers.writer import Close

CHUNK = 8 << 20
"""The bytes of a write; a multiple of the block size, as O_DIRECT requires."""
BLOCK = 4096


class RawWriter:
    """A writer of files of given sizes, from warm, page-aligned memory."""

    def __init__(self, name: str, sizes: Sequence[int], sample: bytes, *, direct: bool = False) -> None:
        """Write files of `sizes` bytes that repeat `sample`; `direct`: without the page cache.

        With `direct`, sizes are rounded up to whole blocks.
        """
        self.name = name
        self.includes = "os.write and fsync of as many bytes in as many files" + (", O_DIRECT" if direct else "")
        self._flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | (os.O_DIRECT if direct else 0)
        self._sizes = [-(-size // BLOCK) * BLOCK for size in sizes] if direct else list(sizes)
        self._memory = mmap.mmap(-1, max(CHUNK, len(sample) // CHUNK * CHUNK))
        np.frombuffer(self._memory, np.uint8)[:] = np.resize(np.frombuffer(sample, np.uint8), len(self._memory))

    def write(self, workload: Workload, folder: Path) -> Close:  # noqa: ARG002 - the bytes are the store's
        """Write the frames; see `FrameWriter`."""
        with memoryview(self._memory) as content:
            for number, size in enumerate(self._sizes):
                file = os.open(folder / str(number), self._flags, 0o644)
                done = 0
                while done < size:
                    start = done % len(content)
                    done += os.write(file, content[start : start + min(CHUNK - start % CHUNK, size - done)])
                os.fsync(file)
                os.close(file)
        directory = os.open(folder, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)
        return list
