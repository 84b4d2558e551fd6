"""Reading a recording, also while it is being written."""

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
from lumatile.errors import InvalidValueError, NotFoundError, StoreError
from lumatile.format.segment_names import FramesFile
from lumatile.read.frame import Frame
from lumatile.read.frame_tiles import FoundTiles, FrameTiles, find_tiles
from lumatile.read.index import Index
from lumatile.read.instants import GREATEST, as_instant
from lumatile.read.rows import Codes, RowBatch, Rows
from lumatile.read.segments import ATTEMPTS, CommittedSegments
from lumatile.storage.recording_storage import RecordingStorage
from lumatile.values import DATA_KINDS, Kind

OPEN_FILES = 16
"""The most tiles files that are kept open."""

BATCHES = 32
"""The most batches of rows, one for each refresh that has read some, before they are put together."""

SHOWN_ENTITIES = 5
"""The most entities that the `repr` of a recording names."""


class RecordingReader:
    """One recording of a store, made by `Store.recording`; several threads may use it.

    It shows the values that were committed at the last `refresh`. Its methods read the frames rows that are in memory
    already; the content of a frame is read when the frame is asked for it.
    """

    def __init__(
        self, storage: RecordingStorage, recording_id: str, *, first: Sequence[FramesFile] | None = None
    ) -> None:
        """Read the committed segments.

        `first`: the only segments that are read now; `refresh` sees all others that are committed too. None: all.
        """
        self.recording_id = recording_id
        """The id of the recording."""
        self.application_id: str | None = None
        """The id of the application that logged it; None while nothing is committed."""
        self._storage = storage
        self._segments = CommittedSegments(storage, first)
        self._lock = threading.Lock()
        """Guards `_segments`, the codes and `_refreshes`."""
        self._entities, self._producers = Codes(), Codes()
        self._refreshes = 0
        self._state = (Rows.none(), Index(Rows.none()))
        """The rows that count now, replaced as one."""
        self._open = lru_cache(OPEN_FILES)(storage.open_tiles)
        self.refresh()

    @property
    def damaged(self) -> dict[str, str]:
        """The segments that cannot be read, by name, each with the reason. Their values are left out."""
        return self._segments.damaged

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
        """Return the number of frames; gaps, which stand for dropped values, are not counted."""
        return int(self._state[0].shown.sum())

    def refresh(self) -> int:
        """Read the segments that were committed since the last refresh.

        A damaged segment is left out, with a LumatileWarning; see `damaged`.

        Returns:
            The number of new frames.

        Raises:
            StoreFormatError: A segment is of a newer format version than this package reads.
            OSError: The store cannot be read. A StoreError, where it is in a bucket.
        """
        with self._lock:
            look = self._segments.look()
            if look is None:
                return 0
            self._refreshes += 1
            batches = list(self._state[0].batches)
            if look.frames:
                self.application_id = next(iter(look.frames.values())).application_id
                tables = {segment: each.table for segment, each in look.frames.items()}
                batches.append(
                    RowBatch.of(tables, refresh=self._refreshes, entities=self._entities, producers=self._producers)
                )
            self._segments.learn(look)
            hidden = self._segments.hidden(name for batch in batches for name in batch.segments)
            rows = Rows.of(batches, hidden, self._entities, self._producers)
            if len(rows.batches) > BATCHES:
                rows = rows.compacted()
            self._state = (rows, Index(rows))
            return int((rows.since == self._refreshes).sum())

    def entities(self) -> list[str]:
        """Return the paths of all entities that something was logged to, sorted. The root is ""."""
        rows, _ = self._state
        logged = np.unique(rows.entity[rows.shown])
        paths = {code: path for path, code in dict(rows.entities).items()}  # a refresh may add some
        return sorted(paths[code] for code in logged.tolist())

    def timelines(self) -> dict[str, str]:
        """Return the kind of each timeline, "sequence" or "time", by its name; log_time and log_tick are among them."""
        return dict(self._state[0].timeline_names)

    def latest_at(
        self, path: str, *, kind: Kind | None = None, at: Mapping[str, Any] | None = None, **timeline: Any
    ) -> Frame | None:
        """Find the frame of an entity that holds at an instant: the last one at or before it.

        The instant is given as one keyword (`frame=42`) or in `at` (`at={"sim time": 3.5}`); without one, the newest
        frame by log_time holds. Timeless values hold where nothing else does.

        Args:
            path: The path of the entity.
            kind: "image", "depth", "segmentation" or "points"; None: any of them.
            at: The name of one timeline, and an instant on it, for names that are no Python keywords.
            **timeline: The same, as one keyword. An instant is an int (a sequence number, or nanoseconds since the
                epoch), a float (seconds since the epoch), a datetime (UTC where it names no time zone), a
                numpy.datetime64, or a timedelta of either, as the time since the epoch.

        Returns:
            The frame; None where there is none, or where a later clear has cleared it.

        Raises:
            InvalidValueError: `path` is no entity path, `kind` is not one of the four, more than one instant is
                given, or the instant is not a number.
            NotFoundError: Nothing in the recording is on a timeline of that name.
            InvalidTypeError: The instant is of a type that its timeline does not take.
        """
        entity_path = _entity(path)
        if kind is not None and kind not in DATA_KINDS:
            raise InvalidValueError(f"kind must be None or one of {DATA_KINDS}, not {kind!r}")
        instants = {**(at or {}), **timeline}
        if len(instants) > 1:
            raise InvalidValueError(f"an instant must be on one timeline, not on {sorted(instants)}")
        name, value = next(iter(instants.items()), ("log_time", GREATEST))
        rows, index = self._state
        if name not in rows.timeline_names and not rows.timeless:
            raise NotFoundError(f"no timeline {name!r}; this recording has {sorted(rows.timeline_names)}")
        instant = as_instant(name, rows.timeline_names.get(name, "time"), value)
        row = index.latest(entity_path, DATA_KINDS if kind is None else (kind,), name, instant)
        return None if row is None else self._frame(rows, index, row, (name, instant))

    def frames(self, path: str) -> list[Frame]:
        """Return all that was logged to an entity, in log order.

        Error rows, clears, annotation contexts and extension components are frames too; gaps are left out.

        Args:
            path: The path of the entity; "" or "/" is the root.

        Returns:
            The frames; none where nothing was logged there.

        Raises:
            InvalidValueError: `path` is no entity path.
            InvalidTypeError: `path` is no string.
        """
        rows, index = self._state
        return [self._frame(rows, index, row) for row in index.of_entity(_entity(path)).tolist()]

    def frames_table(self) -> pa.Table:
        """Return all frames rows as they are stored, gaps too, in log order.

        Returns:
            A table with one row a value; docs/store-format.md describes its columns.
        """
        return self._state[0].table()

    def follow(self, *, poll: float = 0.1, timeout: float | None = None) -> Iterator[Frame]:
        """Refresh again and again, and yield the frames that are committed from now on.

        Args:
            poll: The pause between two refreshes, in seconds.
            timeout: The time without a new frame after which this ends, in seconds; None: never.

        Yields:
            The new frames, in log order within each refresh; gaps are left out.

        Raises:
            StoreFormatError: A segment is of a newer format version than this package reads.
            OSError: The store cannot be read. A StoreError, where it is in a bucket.
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
        """Make the frame of a row; `asked`: the timeline and instant that it was found at."""
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
    """Return a checked entity path; the root is "", as in `RecordingReader.entities`, or "/"."""
    return "" if path == "" else normalise_entity_path(path, root=True)
