"""A new file that is written from front to back, past the page cache where the file system allows it."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from lumatile.buffers import POOL
from lumatile.format.tile_batches import PAGE
from lumatile.storage.durable_files import write_whole
from lumatile.storage.write_behind import WriteBehind

STAGING = 1 << 20
"""The size of the buffer that collects small pieces, in bytes."""

_DIRECT = getattr(os, "O_DIRECT", 0)


class DirectFile:
    """A file on a local disk that Arrow writes, a `TilesSink`.

    A large page-aligned Arrow buffer that starts on a page of the file is written without a copy; everything else is
    collected in a page-aligned buffer first. Nothing is durable, or even complete, before `finish`.
    """

    closed = False

    def __init__(self, path: Path, disk: WriteBehind) -> None:
        """Create `path`. `disk` must not be used for anything else until this file is closed. Raises OSError."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            self._fd = os.open(path, flags | _DIRECT, 0o666)
        except OSError as e:
            if e.errno != errno.EINVAL:
                raise
            path.unlink(missing_ok=True)  # tmpfs creates the file, then refuses the flag
            self._fd = os.open(path, flags, 0o666)
        self._disk = disk
        self._staging = POOL.take(STAGING).data
        self._filled = 0
        self._written = 0
        """The number of bytes that were passed to `disk`."""

    def tell(self) -> int:
        """Return the number of bytes taken so far."""
        return self._written + self._filled

    def write(self, data: Any) -> int:
        """Take an Arrow buffer, which must not change any more, or bytes. Raises OSError, also of an earlier write."""
        view = memoryview(data).cast("B")
        size = len(view)
        aligned = isinstance(data, pa.Buffer) and data.address % PAGE == 0
        if aligned and size >= PAGE and self._filled % PAGE == 0:
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
        """Do nothing: only `finish` makes anything durable."""

    def finish(self) -> None:
        """Write what is left, cut the file to its size and make it durable; the file stays open. Raises OSError."""
        self._disk.wait()
        size = self.tell()
        rest = self._staging[: -(-self._filled // PAGE) * PAGE]
        self._write_all([rest], self._written)
        self._written, self._filled = size, 0
        os.ftruncate(self._fd, size)
        os.fsync(self._fd)

    def close(self) -> None:
        """Close the file, finished or not."""
        if not self.closed:
            self.closed = True
            with suppress(Exception):
                self._disk.wait()
            os.close(self._fd)

    def _drain(self, *more: memoryview) -> None:
        """Begin to write the collected bytes, and `more` after them; collect further ones in other memory."""
        views = [view for view in (self._staging[: self._filled], *more) if len(view)]
        self._disk.start(partial(self._write_all, views, self._written))
        self._written += sum(map(len, views))
        self._staging, self._filled = POOL.take(STAGING).data, 0

    def _write_all(self, views: Sequence[memoryview], position: int) -> None:
        try:
            write_whole(self._fd, views, position)
        except OSError as e:
            flags = fcntl.fcntl(self._fd, fcntl.F_GETFL)
            if e.errno != errno.EINVAL or not flags & _DIRECT:
                raise
            fcntl.fcntl(self._fd, fcntl.F_SETFL, flags & ~_DIRECT)  # the file system refuses it for these sizes
            write_whole(self._fd, views, position)
