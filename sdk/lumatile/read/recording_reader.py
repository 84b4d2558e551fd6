"""Reading a recording, also while it is written."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pyarrow as pa

from lumatile.annotations import AnnotationContext
from lumatile.entity_paths import normalise_entity_path
from lumatile.errors import (
    CorruptStoreError,
    InvalidValueError,
    StoreError,
    warn,
)
from lumatile.format.frames_file import Frames
from lumatile.format.segment_names import FramesFile
from lumatile.read.frame import Frame
from lumatile.read.frame_tiles import FoundTiles, FrameTiles, find_tiles
from lumatile.read.index import Index
from lumatile.read.instants import GREATEST, as_instant
from lumatile.read.rows import Codes, RowBatch, Rows
from lumatile.storage.recording_storage import RecordingStorage
from lumatile.values import DATA_KINDS, Kind

OPEN_FILES = 64
"""Tiles files kept open."""

BATCHES = 32
"""Batches of rows, one for each refresh that brought some, before they are put together."""

SHOWN_ENTITIES = 5
"""The most entities that the `repr` of a recording names."""

ATTEMPTS = 5
"""How often files that vanish while they are read are looked for again."""


class RecordingReader:
    """One recording. What it shows is what was committed at the last refresh. Safe for several threads."""

    def __init__(
        self, storage: RecordingStorage, recording_id: str, *, first: Sequence[FramesFile] | None = None
    ) -> None:
        """Read what is committed. Made by `Store.recording`.

        `first`: the only segments that are read now; `refresh` sees all others that are committed too. None: all.
        """
        self.recording_id = recording_id
        self.application_id: str | None = None
        """None: nothing is committed yet."""
        self.damaged: dict[str, str] = {}
        """Segments that cannot be read, and why."""
        self._storage = storage
        self._committed = storage.watch()
        self._first = first
        """The segments that the first look is limited to; None: no limit, or no more."""
        self._lock = threading.Lock()
        self._entities, self._producers = Codes(), Codes()
        self._replaces: dict[str, tuple[str, ...]] = {}
        """What each known segment replaces."""
        self._refreshes = 0
        self._state = (Rows.none(), Index(Rows.none()))
        """What counts now, replaced as one."""
        self._open = lru_cache(OPEN_FILES)(storage.open_tiles)
        self.refresh()

    def __repr__(self) -> str:
        """Return its ids, the number of its frames, and its entities (the first of them, where there are many)."""
        entities = self.entities()
        names = [repr(path) for path in entities[:SHOWN_ENTITIES]]
        if len(entities) > len(names):
            names.append(f"... {len(entities) - len(names)} more")
        damaged = f" damaged_segments={len(self.damaged)}" if self.damaged else ""
        return (
            f"<RecordingReader {self.recording_id!r} application={self.application_id!r} frames={len(self)} "
            f"entities=[{', '.join(names)}]{damaged}>"
        )

    def __len__(self) -> int:
        """Number of its frames, gaps left out."""
        return int(self._state[0].shown.sum())

    def refresh(self) -> int:
        """See what has been committed since; returns the number of new frames.

        Raises StoreFormatError where a segment is of a newer format version.
        """
        with self._lock:
            files, frames = self._read_new()
            if not frames and self._replaces.keys() <= files:
                return 0
            self._refreshes += 1
            batches = list(self._state[0].batches)
            if frames:
                self.application_id = next(iter(frames.values())).application_id
                tables = {segment: each.table for segment, each in frames.items()}
                batches.append(
                    RowBatch.of(tables, refresh=self._refreshes, entities=self._entities, producers=self._producers)
                )
            self._replaces.update({segment: each.replaces for segment, each in frames.items()})  # they are known now
            for gone in self._replaces.keys() - files:
                del self._replaces[gone]
            hidden = {name for names in self._replaces.values() for name in names}
            hidden.update(name for batch in batches for name in batch.segments if name not in files)
            rows = Rows.of(batches, hidden, self._entities, self._producers)
            if len(rows.batches) > BATCHES:
                rows = rows.compacted()
            self._state = (rows, Index(rows))
            return int((rows.since == self._refreshes).sum())

    def _read_new(self) -> tuple[set[str], dict[str, Frames]]:
        """All committed segments, and the frames files of those that are not known yet.

        Newest first: what a merge has replaced need not be read.
        """
        frames: dict[str, Frames] = {}
        for _ in range(ATTEMPTS):
            files = {file.segment: file for file in self._listed()}
            replaced: set[str] = set()
            vanished = False
            for segment, file in reversed(files.items()):
                if segment in replaced:
                    self._replaces.setdefault(segment, ())
                elif segment not in self._replaces:
                    vanished |= not self._read(file, frames)
                    replaced.update(frames[segment].replaces if segment in frames else ())
            if not vanished:
                break
        return set(files), {segment: frames[segment] for segment in files if segment in frames}

    def _listed(self) -> Sequence[FramesFile]:
        """The segments to look at: all that are committed, but for the first look at a chosen few."""
        first, self._first = self._first, None
        return self._committed() if first is None else first

    def _read(self, file: FramesFile, frames: dict[str, Frames]) -> bool:
        """Read a frames file; False where it has vanished: it was merged into another one."""
        if file.segment in frames or file.segment in self.damaged:
            return True
        try:
            frames[file.segment] = self._storage.read_frames(file)
        except FileNotFoundError:
            return False
        except CorruptStoreError as e:
            self.damaged[file.segment] = str(e)
            warn(f"a damaged segment is left out: {e}")
        return True

    def entities(self) -> list[str]:
        """Entity paths that something was logged to, sorted."""
        rows, _ = self._state
        logged = np.unique(rows.entity[rows.shown])
        paths = {code: path for path, code in dict(rows.entities).items()}  # a refresh may add some
        return sorted(paths[code] for code in logged.tolist())

    def timelines(self) -> dict[str, str]:
        """All timelines, each "sequence" or "time"; log_time and log_tick are always among them."""
        return dict(self._state[0].timeline_names)

    def latest_at(
        self, path: str, *, kind: Kind | None = None, at: Mapping[str, Any] | None = None, **timeline: Any
    ) -> Frame | None:
        """The frame of an entity that holds at an instant; None where there is none, or it was cleared.

        `kind`: image, depth, segmentation or points; None: any of them. The instant is given as one keyword, or in
        `at`: `frame=42`, `at={"sim time": 3.5}`; without: the newest by log_time. Its forms are those of `as_instant`.
        Timeless values hold where nothing else does. Raises InvalidValueError and InvalidTypeError.
        """
        entity_path = _entity(path)
        if kind is not None and kind not in DATA_KINDS:
            raise InvalidValueError(f"kind must be None or one of {DATA_KINDS}, not {kind!r}")
        instants = {**(at or {}), **timeline}
        if len(instants) > 1:
            raise InvalidValueError(f"an instant must be on one timeline, not on {sorted(instants)}")
        name, value = next(iter(instants.items()), ("log_time", GREATEST))
        rows, index = self._state
        instant = as_instant(name, rows.timeline_names.get(name, "time"), value)
        row = index.latest(entity_path, DATA_KINDS if kind is None else (kind,), name, instant)
        return None if row is None else self._frame(rows, index, row, (name, instant))

    def frames(self, path: str) -> list[Frame]:
        """Everything logged to an entity, in log order: also error rows, clears, contexts and extension components."""
        rows, index = self._state
        return [self._frame(rows, index, row) for row in index.of_entity(_entity(path)).tolist()]

    def frames_table(self) -> pa.Table:
        """All frames rows as they are stored, in log order; the columns are described in docs/store-format.md."""
        return self._state[0].table()

    def follow(self, *, poll: float = 0.1, timeout: float | None = None) -> Iterator[Frame]:
        """Yield the frames that are committed from now on, in log order within each refresh; gaps left out.

        Looks every `poll` seconds; ends after `timeout` seconds without a new frame (None: never).
        """
        seen = self._state[0].since.max(initial=0)  # not `_refreshes`: one may be under way in another thread
        return self._follow(int(seen), poll, timeout)

    def _follow(self, seen: int, poll: float, timeout: float | None) -> Iterator[Frame]:
        last = time.monotonic()
        while True:
            self.refresh()
            rows, index = self._state
            new = np.flatnonzero((rows.since > seen) & rows.shown)
            seen = max(seen, int(rows.since.max(initial=0)))
            for row in new.tolist():
                yield self._frame(rows, index, row)
            if len(new):
                last = time.monotonic()
            elif timeout is not None and time.monotonic() - last >= timeout:
                return
            time.sleep(poll)

    def _frame(self, rows: Rows, index: Index, row: int, asked: tuple[str, int] | None = None) -> Frame:
        """`asked`: the timeline and instant that it was found at."""
        batch = rows.batches[rows.batch[row]]

        def context(frame: Frame) -> AnnotationContext:
            name, instant = asked or ("log_time", frame.log_time)
            found = index.annotation_context(frame.entity_path, name, instant, frame.log_time)
            return AnnotationContext() if found is None else self._frame(rows, index, found).annotation_context()

        return Frame(batch, int(rows.row[row]), self._tiles, context)

    def _tiles(self, frame: Frame) -> FrameTiles:
        return FrameTiles(self._found(frame), partial(self._found_again, frame))

    def _found(self, frame: Frame) -> FoundTiles:
        """Find a frame's tiles, wherever a merge has put them."""
        for _ in range(ATTEMPTS):
            try:
                return find_tiles(self._open(frame.segment), frame.segment_row, frame.tile_count)
            except FileNotFoundError:
                self._follow_merge(frame)
        raise StoreError(f"{self._storage}: the segment {frame.segment} has no tiles file")

    def _found_again(self, frame: Frame) -> FoundTiles:
        """Find a frame's tiles again, after the file that they were found in has gone."""
        self._follow_merge(frame)
        return self._found(frame)

    def _follow_merge(self, frame: Frame) -> None:
        """Tell a frame which segment it is in now."""
        self.refresh()
        rows, _ = self._state
        producer, seq = frame.key
        producers, seqs = rows.column(lambda batch: batch.producer), rows.column(lambda batch: batch.seq)
        here = (producers == rows.producers[producer]) & (seqs == seq)
        for row in np.flatnonzero(here).tolist():
            frame.moved(rows.batches[rows.batch[row]], int(rows.row[row]))


def _entity(path: Any) -> str:
    """An entity path; the root is "", as `entities` gives it, and "/"."""
    return "" if path == "" else normalise_entity_path(path, root=True)
