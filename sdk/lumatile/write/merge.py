"""Merging small segments into larger ones, so that a slow stream does not become millions of files."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from queue import SimpleQueue

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lumatile.errors import CorruptStoreError, StoreError
from lumatile.format.arrow_arrays import array_of_numbers, numbers_of
from lumatile.format.segment_names import FramesFile, segment_time
from lumatile.format.tile_batches import checksums
from lumatile.format.tiles_reader import TilesReader
from lumatile.format.tiles_writer import TilesFile
from lumatile.settings import RecordingSettings
from lumatile.storage.recording_storage import RecordingStorage
from lumatile.storage.write_behind import WriteBehind
from lumatile.write.segment import Segment

log = logging.getLogger(__name__)

SMALL_BYTES = 8 << 20
"""Segments below this size, in bytes, are merged."""

FAN_IN = 16
"""The number of small segments of one generation that become one of the next."""

KEEP_SECONDS = 60.0
"""The time that replaced segments stay, for readers that know them already."""


class Merger:
    """Merges the small segments of one writer, in a thread of its own, and deletes those that were replaced.

    An error is logged, and the merge is not tried again: segments that are not merged can be read as well.
    """

    def __init__(self, storage: RecordingStorage, settings: RecordingSettings) -> None:
        """Start the thread, which first deletes the segments that earlier writers have replaced."""
        self._storage = storage
        self._settings = settings
        self._small: defaultdict[int, list[FramesFile]] = defaultdict(list)  # generation -> segments
        self._replaced: list[tuple[float, list[FramesFile]]] = []  # since when, on the monotonic clock
        self._disk = WriteBehind()
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._tasks.put(self._delete_earlier)
        self._thread = threading.Thread(target=self._run, name="lumatile-merge", daemon=True)
        self._thread.start()

    def committed(self, file: FramesFile, size: int) -> None:
        """Register a segment of `size` bytes that this writer has committed."""
        self._tasks.put(lambda: self._add(file, size, generation=0))

    def close(self) -> None:
        """Finish the merge that is under way, and delete the segments that are due."""
        self._tasks.put(self._delete_due)
        self._tasks.put(None)
        self._thread.join()
        self._disk.close()

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                task()
            except Exception:  # the next merge may go well
                log.warning("%s: segments are not merged", self._storage, exc_info=True)

    def _add(self, file: FramesFile, size: int, *, generation: int) -> None:
        self._delete_due()
        if size >= SMALL_BYTES:
            return
        files = self._small[generation]
        files.append(file)
        if len(files) == FAN_IN:
            del self._small[generation]
            merged, merged_size = merge(self._storage, self._settings, self._disk, files)
            self._replaced.append((time.monotonic(), files))
            self._add(merged, merged_size, generation=generation + 1)

    def _delete_due(self) -> None:
        while self._replaced and self._replaced[0][0] < time.monotonic() - KEEP_SECONDS:
            _, files = self._replaced.pop(0)
            try:
                self._storage.delete(files)
            except OSError:  # a bucket may deny it always: merging goes on
                log.warning("%s: replaced segments are left to the next writer, or gc", self._storage, exc_info=True)

    def _delete_earlier(self) -> None:
        """Delete the segments that earlier writers replaced, oldest first: a segment goes before those that hide it."""
        due = time.time_ns() - int(KEEP_SECONDS * 1e9)
        files = self._storage.committed()
        names: set[str] = set()
        for file in files:
            if segment_time(file.segment) < due:
                try:
                    names.update(self._storage.read_frames(file).replaces)
                except (FileNotFoundError, StoreError):
                    continue  # another writer deletes it, or verify names it
        if names:
            self._storage.settle()
        self._storage.delete([file for file in files if file.segment in names])


def merge(
    storage: RecordingStorage,
    settings: RecordingSettings,
    disk: WriteBehind,
    files: Sequence[FramesFile],
    *,
    without: Collection[tuple[bytes, int]] = (),
) -> tuple[FramesFile, int]:
    """Write one segment with all rows of `files`, and return it and its size in bytes.

    It replaces them, and those segments that they had replaced and that are still there. `without`: the keys (producer,
    seq) of rows that are left out. Raises OSError, and CorruptStoreError where a file has other bytes than were
    written; nothing is changed then.
    """
    sources = [storage.read_frames(file) for file in files]
    earlier = {name for frames in sources for name in frames.replaces}
    if earlier:
        earlier &= {file.segment for file in storage.committed()}
    segment = Segment(storage, settings, disk)
    try:
        tables: list[pa.Table] = []
        for file, frames in zip(files, sources, strict=True):
            first = segment.tiles.rows
            kept = _kept(frames.table, without)
            _copy(storage.open_tiles(file.segment), segment.tiles, sum(len(table) for table in tables), kept)
            table = frames.table.filter(array_of_numbers(kept))
            counts = numbers_of(table["tile_count"])
            column = table.schema.get_field_index("first_tile")
            moved = array_of_numbers(first + np.cumsum(counts) - counts)
            tables.append(table.set_column(column, "first_tile", moved))
    except BaseException:
        segment.abort()
        raise
    return segment.commit(pa.concat_tables(tables), [*(file.segment for file in files), *sorted(earlier)])


def _kept(table: pa.Table, without: Collection[tuple[bytes, int]]) -> NDArray[np.bool_]:
    """Return which rows of a frames file are not left out, (n,)."""
    if not without:
        return np.ones(len(table), np.bool_)
    keys = zip(table["producer"].to_pylist(), table["seq"].to_pylist(), strict=True)
    return np.array([key not in without for key in keys], np.bool_)


def _copy(source: TilesReader, target: TilesFile, frames: int, kept: NDArray[np.bool_]) -> None:
    """Write the tiles of the frames that are `kept` to `target`, which has `frames` frames already."""
    numbers = frames + np.cumsum(kept) - 1
    for i in range(len(source)):
        rows, shared = source.batch(i)
        if rows.index["crc32c"].tolist() != checksums(rows.offsets, rows.payload):
            raise CorruptStoreError(f"{source.path}: record batch {i} has other bytes than were written")
        parts = [rows] if kept[rows.frame].all() else [rows.of_frame(frame) for frame in rows.frames() if kept[frame]]
        for part in parts:
            moved = replace(part, frame=numbers[part.frame])
            if shared:
                target.share(moved)
            else:
                target.copy(moved)
