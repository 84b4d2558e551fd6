"""Writing a recording: values go into segments, segments into the store."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from os import PathLike
from typing import Any

import numpy as np
from crc32c import crc32c

from lumatile.errors import SinkError, StoreError
from lumatile.format.arrow_arrays import table_of
from lumatile.format.schema import FRAMES
from lumatile.format.tile_rows import INDEX_ROW, IndexedRows, TileRows
from lumatile.format.tiles_writer import TilesFile
from lumatile.settings import RecordingSettings
from lumatile.storage.open_storage import open_storage
from lumatile.storage.write_behind import WriteBehind
from lumatile.write.merge import Merger
from lumatile.write.segment import Segment, first_use

SEGMENT_BYTES = 128 << 20
"""A segment is full after the value that crosses this size, in bytes."""

SEGMENT_SECONDS = 0.5
"""A segment is to be committed this long after its first value."""

EARLY_PART = 8
"""Where commits are cheap, it is to be committed after one part in so many of that time if no other value waits."""


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
        self._early_seconds = self._segment_seconds / (EARLY_PART if self._storage.cheap_commits else 1)
        self._disk = WriteBehind()
        self._merger = Merger(self._storage, settings)
        self._segment: Segment | None = None
        self._rows: list[dict[str, Any]] = []
        self.deadline: float | None = None
        """The time at which the open segment is to be committed, on the monotonic clock; None: none is open."""
        self.early_deadline = 0.0
        """The time at which it is to be committed if no other value waits, on the monotonic clock."""

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
            file = self._tiles()
            first, checksum = file.rows, 0
            for part in tiles:
                checksum = crc32c(file.write(len(self._rows), part).tobytes(), checksum)
            self._rows.append(_whole_row(row, first, file.rows - first, checksum))
        except BaseException:
            self.abort()
            raise

    def append_small(self, rows: Sequence[Mapping[str, Any]], tiles: IndexedRows) -> None:
        """Add small values, whose tiles rows share record batches with those of others.

        `rows`: as in `append`. `tiles`: those of all of them; `frame` is the position of the value in `rows`.
        Errors are those of `append`.
        """
        try:
            file = self._tiles()
            first, index = file.rows, memoryview(tiles.index.tobytes())
            bounds = np.searchsorted(tiles.frame, np.arange(len(rows) + 1)).tolist()
            file.share(replace(tiles, frame=tiles.frame + len(self._rows)))
            for row, (a, b) in zip(rows, pairwise(bounds), strict=True):
                checksum = crc32c(index[a * INDEX_ROW.itemsize : b * INDEX_ROW.itemsize])
                self._rows.append(_whole_row(row, first + a, b - a, checksum))
        except BaseException:
            self.abort()
            raise

    def _tiles(self) -> TilesFile:
        """Return the tiles file of the open segment; open one if none is open."""
        if self._segment is None:
            self._segment = Segment(self._storage, self._settings, self._disk)
            now = time.monotonic()
            self.deadline, self.early_deadline = now + self._segment_seconds, now + self._early_seconds
        return self._segment.tiles

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


def _whole_row(row: Mapping[str, Any], first_tile: int, tile_count: int, index_crc32c: int) -> dict[str, Any]:
    """Return a row with the columns that the writer adds, and its mappings as Arrow takes them."""
    whole = dict(row)
    for name in ("sequences", "times"):
        whole[name] = tuple((row.get(name) or {}).items())
    whole["first_tile"], whole["tile_count"], whole["index_crc32c"] = first_tile, tile_count, index_crc32c
    return whole
