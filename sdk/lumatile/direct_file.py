"""A new file, written front to back past the page cache where the file system allows it."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from pathlib import Path
from typing import Any

PAGE = 4096
"""O_DIRECT wants addresses, offsets and sizes in multiples of this many bytes."""

STAGING = 1 << 20
"""Size of the buffer that small pieces gather in, in bytes."""

_DIRECT = getattr(os, "O_DIRECT", 0)


class DirectFile:
    """A file sink for Arrow (`write`, `tell`, `flush`, `close`).

    Large page-aligned Arrow buffers that meet the file at a page boundary go to the disk from where they lie;
    everything else gathers in a page-aligned buffer first. Nothing is durable, or even complete, before `finish`.
    """

    closed = False

    def __init__(self, path: Path, staging: mmap.mmap) -> None:
        """Create `path`. `staging`: STAGING bytes, not used by anybody else until this file is closed."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            self._fd = os.open(path, flags | _DIRECT, 0o666)
        except OSError as e:
            if e.errno != errno.EINVAL:
                raise
            path.unlink(missing_ok=True)  # tmpfs creates the file, then refuses the flag
            self._fd = os.open(path, flags, 0o666)
        self._staging = memoryview(staging)
        self._filled = 0
        self._written = 0

    def tell(self) -> int:
        """Bytes taken so far."""
        return self._written + self._filled

    def write(self, data: Any) -> int:
        """Take an Arrow buffer or bytes. Raises OSError."""
        view = memoryview(data).cast("B")
        size = len(view)
        if size >= PAGE and self._filled % PAGE == 0 and getattr(data, "address", 1) % PAGE == 0:
            whole = size - size % PAGE
            self._drain(view[:whole])
            view = view[whole:]
        while len(view):
            piece = view[: STAGING - self._filled]
            self._staging[self._filled : self._filled + len(piece)] = piece
            self._filled += len(piece)
            view = view[len(piece) :]
            if self._filled == STAGING:
                self._drain()
        return size

    def flush(self) -> None:
        """Nothing: only `finish` makes anything durable."""

    def finish(self) -> None:
        """Write what is left, cut the file to its size and make it durable; the file stays open. Raises OSError."""
        size = self.tell()
        self._filled = -(-self._filled // PAGE) * PAGE
        self._drain()
        os.ftruncate(self._fd, size)
        os.fsync(self._fd)

    def close(self) -> None:
        """Close the file, finished or not."""
        if not self.closed:
            self.closed = True
            os.close(self._fd)

    def _drain(self, *more: memoryview) -> None:
        """Write what has gathered, and `more` after it."""
        views = [view for view in (self._staging[: self._filled], *more) if len(view)]
        self._filled = 0
        while views:
            try:
                count = os.pwritev(self._fd, views, self._written)
            except OSError as e:
                flags = fcntl.fcntl(self._fd, fcntl.F_GETFL)
                if e.errno != errno.EINVAL or not flags & _DIRECT:
                    raise
                fcntl.fcntl(self._fd, fcntl.F_SETFL, flags & ~_DIRECT)
                continue
            self._written += count
            while views and count >= len(views[0]):
                count -= len(views.pop(0))
            if views:
                views[0] = views[0][count:]
