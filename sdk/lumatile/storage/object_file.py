"""A tiles file that is being sent to a bucket."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any

from lumatile.buffers import POOL
from lumatile.storage.object_client import Upload
from lumatile.storage.write_behind import WriteBehind

STAGING = 1 << 20
"""The size of the buffer that collects small pieces, in bytes."""

LARGE = 64 << 10
"""Pieces of at least this many bytes are sent without a copy."""


class ObjectFile:
    """An object that Arrow writes, a `TilesSink`: it appears in the bucket at `finish`."""

    closed = False

    def __init__(self, upload: Upload, disk: WriteBehind) -> None:
        """Send to `upload`. `disk` must not be used for anything else until this file is closed."""
        self._upload: Upload | None = upload
        self._disk = disk
        self._staging = POOL.take(STAGING).data
        self._filled = 0
        self._sent = 0

    def tell(self) -> int:
        """Return the number of bytes taken so far."""
        return self._sent + self._filled

    def write(self, data: Any) -> int:
        """Take an Arrow buffer, which must not change any more, or bytes. Raises OSError, also of an earlier write."""
        view = memoryview(data).cast("B")
        if len(view) >= LARGE:
            self._drain(view)
            return len(view)
        rest = view
        while len(rest):
            piece = rest[: STAGING - self._filled]
            self._staging[self._filled : self._filled + len(piece)] = piece
            self._filled += len(piece)
            rest = rest[len(piece) :]
            if self._filled == STAGING:
                self._drain()
        return len(view)

    def flush(self) -> None:
        """Do nothing: only `finish` makes anything durable."""

    def finish(self) -> None:
        """Send the rest, so that the object appears. Raises OSError."""
        self._drain()
        self._disk.wait()
        if self._upload is not None:
            self._upload.finish()

    def close(self) -> None:
        """Close the file, finished or not."""
        if not self.closed:
            self.closed = True
            with suppress(Exception):
                self._disk.wait()
            self._upload = None

    def _drain(self, *more: memoryview) -> None:
        """Begin to send the collected bytes, and `more` after them; collect further ones in other memory."""
        views = [view for view in (self._staging[: self._filled], *more) if len(view)]
        if not views or self._upload is None:
            return
        self._disk.start(partial(_send, self._upload, views))
        self._sent += sum(map(len, views))
        self._staging, self._filled = POOL.take(STAGING).data, 0


def _send(upload: Upload, views: list[memoryview]) -> None:
    for view in views:
        upload.write(view)
