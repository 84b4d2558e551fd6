"""Checking a store: every checksum of every visible segment is compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from crc32c import crc32c
from numpy.typing import NDArray

from lumatile.errors import CorruptStoreError
from lumatile.format.frames_file import Frames
from lumatile.format.segment_names import FramesFile
from lumatile.format.tile_batches import checksums
from lumatile.format.tile_rows import IndexedRows
from lumatile.read.store import Store, open_store
from lumatile.storage.recording_storage import RecordingStorage


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A file, frame or tile that is not as it was written."""

    path: Path | str
    """The broken file: a path, or a URL."""
    frame: int | None = None
    """Row of the broken frame in the segment's frames file; None: the whole file."""
    entity_path: str | None = None
    """The entity path of the broken frame."""
    tile: str | None = None
    """The broken tile: plane, level, x, y; None: the frame's tiles as a whole."""
    what: str
    """The damage, in words."""

    def __str__(self) -> str:
        """Return the file, frame, tile and damage, on one line."""
        frame = "" if self.frame is None else f", frame row {self.frame} ({self.entity_path!r})"
        tile = "" if self.tile is None else f", tile {self.tile}"
        return f"{self.path}{frame}{tile}: {self.what}"


@dataclass(kw_only=True)
class Report:
    """The findings of `verify`. Segments that a merge has replaced are left out."""

    recordings: int = 0
    """The number of recordings."""
    segments: int = 0
    """The number of visible segments."""
    frames: int = 0
    """The number of frames rows."""
    tiles: int = 0
    """The number of tiles rows whose payload was read."""
    nbytes: int = 0
    """The size of the files that were read, in bytes."""
    problems: list[Problem] = field(default_factory=list)
    duplicates: int = 0
    """The number of frames rows beyond the first with the same key (producer, seq). This is no damage: readers show
    one of them."""
    dropped: int = 0
    """The number of values that were dropped before they were stored, according to the gaps. This is no damage."""
    garbage: list[Path | str] = field(default_factory=list)
    """Files that no commit names: of a writer that died, or one that is at work. This is no damage."""

    @property
    def ok(self) -> bool:
        """True where no problem was found."""
        return not self.problems


def verify(store: Store | str | PathLike[str]) -> Report:
    """Read every visible segment of a store and compare every checksum.

    Args:
        store: An open store, or a path or URL as in `open_store`.

    Returns:
        The number of rows and bytes that were read, and all problems that were found.

    Raises:
        StoreFormatError: There is no store, or a recording is of a newer format version than this package reads.
        StoreError: The bucket cannot be read.
        InvalidValueError: The URL has another scheme.
    """
    if not isinstance(store, Store):
        store = open_store(store)
    report = Report()
    for storage in store.storage.recordings():
        report.recordings += 1
        _verify_recording(storage, report)
    return report


def _verify_recording(storage: RecordingStorage, report: Report) -> None:
    """Check one recording: its frames files first, because they say which segments are visible."""
    files = {file.segment: file for file in storage.committed()}
    readable: dict[str, Frames] = {}
    for segment, file in files.items():
        try:
            readable[segment] = storage.read_frames(file)
        except CorruptStoreError as e:
            report.problems.append(Problem(path=storage.frames_path(file), what=str(e)))
        except FileNotFoundError:
            continue  # it was merged a moment ago
    hidden = {name for frames in readable.values() for name in frames.replaces}
    visible = {segment: frames for segment, frames in readable.items() if segment not in hidden}
    for segment, frames in visible.items():
        report.segments += 1
        report.frames += len(frames.table)
        _verify_segment(storage, files[segment], frames.table, report)
    report.nbytes += storage.nbytes(files[segment] for segment in visible)
    if visible:
        rows = pa.concat_tables([frames.table for frames in visible.values()])
        report.duplicates += len(rows) - len(rows.group_by(["producer", "seq"]).aggregate([]))
        gaps = rows.filter(pc.equal(rows["kind"], "gap"))
        lengths = pc.add(pc.subtract(pc.coalesce(gaps["seq_last"], gaps["seq"]), gaps["seq"]), 1)
        report.dropped += pc.sum(lengths).as_py() or 0
    report.garbage += storage.unnamed(files.values())


def _verify_segment(storage: RecordingStorage, file: FramesFile, table: pa.Table, report: Report) -> None:
    """Check the tiles file of one segment against its frames rows (`table`)."""
    path = storage.tiles_path(file.segment)
    try:
        reader = storage.open_tiles(file.segment)
    except FileNotFoundError:
        if file in storage.committed():  # else it was merged a moment ago
            report.problems.append(Problem(path=path, what="the tiles file is missing"))
        return
    except CorruptStoreError as e:
        report.problems.append(Problem(path=path, what=str(e)))
        return
    paths = table["entity_path"].to_pylist()
    found = [_RowsRead() for _ in paths]
    rows, all_read = 0, True
    for i in range(len(reader)):
        try:
            batch, _ = reader.batch(i)
        except CorruptStoreError as e:
            report.problems.append(Problem(path=path, what=str(e)))
            all_read = False
            continue
        report.problems += _wrong_rows(batch, path, f"record batch {i}", paths)
        for frame in batch.frames():
            here = batch.of_frame(frame).index
            if 0 <= frame < len(found):
                found[frame].add(rows, here)
            rows += len(here)
    report.tiles += rows
    expected = zip(*(table[name].to_pylist() for name in ("first_tile", "tile_count", "index_crc32c")), strict=True)
    for frame, (there, (first, count, checksum)) in enumerate(zip(found, expected, strict=True)):
        moved = all_read and count and there.first != first
        if there.count != count or there.checksum != (checksum or 0) or moved:
            what = "its tiles rows are not those that were written"
            report.problems.append(Problem(path=path, frame=frame, entity_path=paths[frame], what=what))


def _wrong_rows(batch: IndexedRows, path: Path | str, what: str, paths: Sequence[str]) -> Iterator[Problem]:
    """Compare the checksums of a record batch, `what`; `paths`: the entity path of each frame."""
    for frame in batch.frames():
        if not 0 <= frame < len(paths):
            yield Problem(path=path, what=f"{what} is of frame row {frame}, which is not there")
    actual = np.array(checksums(batch.offsets, batch.payload), np.uint32)
    for n in np.flatnonzero(actual != batch.index["crc32c"]).tolist():
        frame = int(batch.frame[n])
        plane, _, level, x, y, *_, stored = batch.index[n].tolist()
        yield Problem(
            path=path,
            frame=frame,
            entity_path=paths[frame] if 0 <= frame < len(paths) else None,
            tile=f"{plane.decode(errors='replace')} level={level} x={x} y={y}",
            what=f"its CRC32C must be {stored:08x}, not {actual[n]:08x}",
        )


@dataclass(kw_only=True)
class _RowsRead:
    """The tiles rows of one frame, as far as they have been read."""

    first: int = -1
    count: int = 0
    checksum: int = 0

    def add(self, first: int, index: NDArray[np.void]) -> None:
        """Add the index rows of a record batch, which begins at row `first` of the file."""
        self.first = first if self.first < 0 else self.first
        self.count += len(index)
        self.checksum = crc32c(index.tobytes(), self.checksum)
