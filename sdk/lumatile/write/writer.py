"""Writing a recording: values go into segments, segments into the store."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from os import PathLike
from typing import Any

from crc32c import crc32c

from lumatile.errors import SinkError, StoreError
from lumatile.format.arrow_arrays import table_of
from lumatile.format.schema import FRAMES
from lumatile.format.tile_rows import TileRows
from lumatile.settings import RecordingSettings
from lumatile.storage.open_storage import open_storage
from lumatile.storage.write_behind import WriteBehind
from lumatile.write.merge import Merger
from lumatile.write.segment import Segment, first_use

SEGMENT_BYTES = 128 << 20
"""A segment is full after the value that crosses this size, in bytes."""

SEGMENT_SECONDS = 0.5
"""A segment is to be committed this long after its first value."""


class SegmentWriter:
    """Writes one recording, in one thread. Other writers may write the same recording."""

    def __init__(
        self,
        store: str | PathLike[str],
        settings: RecordingSettings,
        *,
        segment_bytes: int | None = None,
        segment_seconds: float | None = None,
    ) -> None:
        """Write into the store at `store`, a path or URL as in `open_storage`; missing directories are created.

        `segment_bytes`, `segment_seconds`: the limits of a segment; None: SEGMENT_BYTES, SEGMENT_SECONDS.

        Raises SinkError where the store cannot be written, InvalidValueError for a recording id that is too long.
        """
        try:
            self._storage = open_storage(store).recording(settings.recording_id)
        except StoreError as e:
            raise SinkError(str(e)) from e
        self._storage.create()
        first_use()
        self._settings = settings
        self._segment_bytes = SEGMENT_BYTES if segment_bytes is None else segment_bytes
        self._segment_seconds = SEGMENT_SECONDS if segment_seconds is None else segment_seconds
        self._disk = WriteBehind()
        self._merger = Merger(self._storage, settings)
        self._segment: Segment | None = None
        self._rows: list[dict[str, Any]] = []
        self.deadline: float | None = None
        """The time at which the open segment is to be committed, on the monotonic clock; None: none is open."""

    @property
    def values(self) -> int:
        """The number of values in the open segment."""
        return len(self._rows)

    @property
    def full(self) -> bool:
        """True where the open segment has crossed its size: it is to be committed."""
        return self._segment is not None and self._segment.tiles.nbytes >= self._segment_bytes

    def append(self, row: Mapping[str, Any], tiles: Iterable[TileRows]) -> None:
        """Add one value to the open segment; open one if none is open.

        `row`: the columns of FRAMES except first_tile, tile_count and index_crc32c; it is read after `tiles` is
        exhausted. Times are ints (nanoseconds), `sequences` and `times` mappings; absent columns are null. Each
        TileRows is written as it comes, and not used afterwards.

        After any error (OSError from the disk, anything from `tiles`) the open segment is aborted: the caller appends
        all its values again.
        """
        try:
            if self._segment is None:
                self._segment = Segment(self._storage, self._settings, self._disk)
                self.deadline = time.monotonic() + self._segment_seconds
            file = self._segment.tiles
            first, checksum = file.rows, 0
            for part in tiles:
                checksum = crc32c(file.write(len(self._rows), part).tobytes(), checksum)
            maps = {name: list((row.get(name) or {}).items()) for name in ("sequences", "times")}
            counts = {"first_tile": first, "tile_count": file.rows - first, "index_crc32c": checksum}
            self._rows.append({**row, **maps, **counts})
        except BaseException:
            self.abort()
            raise

    def commit(self) -> int:
        """Make the open segment durable, and return the size of its files in bytes; 0 where none is open.

        Raises OSError; then the open segment is aborted, and the caller appends its values again.
        """
        if self._segment is None:
            return 0
        try:
            file, size = self._segment.commit(table_of(self._rows, FRAMES))
        except BaseException:
            self.abort()
            raise
        self._merger.committed(file, size)
        self._forget()
        return size

    def abort(self) -> None:
        """Drop the open segment and its values."""
        if self._segment is not None:
            self._segment.abort()
        self._forget()

    def close(self) -> None:
        """Commit the open segment, and wait for a merge that is under way. Raises OSError as `commit` does."""
        try:
            self.commit()
        finally:
            self._merger.close()
            self._disk.close()

    def _forget(self) -> None:
        self._segment, self._rows, self.deadline = None, [], None
