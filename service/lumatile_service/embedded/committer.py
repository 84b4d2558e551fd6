"""The last stage of the embedded sink: tiles into segments, segments into the store."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

from lumatile.errors import SinkError
from lumatile.format.tile_rows import TileRows
from lumatile.sink.queue import QueueClosedError
from lumatile.values import LoggedValue
from lumatile.write.writer import SegmentWriter
from lumatile_service.embedded.frames_row import frames_row
from lumatile_service.embedded.listeners import Listeners
from lumatile_service.embedded.pipeline import Pipeline
from lumatile_service.embedded.progress import Progress
from lumatile_service.embedded.small_values import SmallFrames
from lumatile_service.embedded.stages import FrameEnd, FrameStart, TileQueue

log = logging.getLogger(__name__)

HELD_BYTES = 128 << 20
"""The most values of the open segment that are kept, in bytes: with more it is committed, however small their tiles."""

RETRY_SECONDS = 0.05, 2.0
"""The first and the longest wait before a failed write is tried again."""


class Committer:
    """Writes the tiles of one frame after another and commits segments.

    Every value is kept until the segment that holds it is durable, so that whatever fails on disk can be written again.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        tiles: TileQueue,
        writer: SegmentWriter,
        progress: Progress,
        listeners: Listeners,
    ) -> None:
        """Read from `tiles` and write with `writer`, which this object closes.

        `pipeline`: converts again what must be written again.
        """
        self._pipeline = pipeline
        self._tiles = tiles
        self._writer = writer
        self._progress = progress
        self._listeners = listeners
        self._uncommitted: list[LoggedValue] = []
        """The values in the open segment."""
        self._held = 0
        """Their size in bytes."""
        self._written = 0
        """The number of the last value in the open segment."""

    def run(self) -> None:
        """See `Stage.run`."""
        while True:
            try:
                got = self._tiles.get(self._patience())
            except QueueClosedError:
                self._commit_if(due=True)
                return
            if got is not None and isinstance(got[1], FrameStart):
                self._append(got[1])
            elif got is not None and isinstance(got[1], SmallFrames):
                self._append_small(got[1])
            del got
            self._commit_if(due=False)

    def close(self) -> None:
        """See `Stage.close`."""
        self._writer.close()

    def _patience(self) -> float | None:
        """Return the seconds until the open segment should be committed; None: nothing waits for a commit."""
        if self._writer.deadline is None:
            return 0.5 if self._progress.gaps_wait else None
        return max(0.0, self._deadline(self._writer.deadline) - time.monotonic())

    def _deadline(self, latest: float) -> float:
        """Return when the open segment is to be committed: sooner than `latest` while no value waits."""
        return self._writer.early_deadline if self._progress.has_put(self._written) else latest

    def _append(self, frame: FrameStart) -> None:
        self._uncommitted.append(frame.value)
        self._held += frame.value.nbytes
        self._written = frame.number
        tiles = self._frame_tiles()
        try:
            self._writer.append(frame.row, tiles)
        except OSError as e:
            for _ in tiles:
                pass
            self._write_again(e)
        if frame.row["error"] is not None and frame.value.error is None:
            self._listeners.on_error("value_unconverted")

    def _append_small(self, frames: SmallFrames) -> None:
        self._uncommitted += frames.values
        self._held += sum(value.nbytes for value in frames.values)
        self._written = frames.numbers[-1]
        try:
            self._writer.append_small(frames.rows, frames.tiles)
        except OSError as e:
            self._write_again(e)
        for row, value in zip(frames.rows, frames.values, strict=True):
            if row["error"] is not None and value.error is None:
                self._listeners.on_error("value_unconverted")

    def _frame_tiles(self) -> Iterator[TileRows]:
        """Give the tile rows of the frame whose start has been taken, to its end."""
        while True:
            got = self._tiles.get()
            assert got is not None  # noqa: S101 - without a timeout there is always one
            item = got[1]
            del got
            if isinstance(item, FrameEnd):
                return
            if isinstance(item, TileRows):
                yield item
            del item  # the buffer returns to its pool as soon as it is written

    def _commit_if(self, *, due: bool) -> None:
        """Commit the open segment and the gaps if they are `due`, large or old enough, or awaited by a flush."""
        deadline = self._writer.deadline
        if (
            due
            or self._writer.full
            or self._held >= HELD_BYTES
            or (deadline is not None and time.monotonic() >= self._deadline(deadline))
            or self._progress.is_awaited(self._written)
            or (self._progress.gaps_wait and deadline is None)
        ):
            try:
                self._commit()
            except OSError as e:
                self._write_again(e)

    def _commit(self) -> None:
        gaps = self._progress.take_gaps()
        try:
            for gap in gaps:
                self._writer.append(frames_row(gap), iter(()))
            nbytes = self._writer.commit()
        except OSError:
            self._progress.return_gaps(gaps)
            raise
        committed, self._uncommitted, self._held = self._uncommitted, [], 0
        if committed or gaps:  # before a flush returns: the listener may be gone by then
            self._listeners.on_durable([*committed, *gaps], nbytes)
        self._progress.commit(len(committed), self._written)

    def _write_again(self, error: OSError) -> None:
        """Write the uncommitted values again, in a new segment, until that works.

        Raises SinkError once the sink is closed.
        """
        delay, longest = RETRY_SECONDS
        while True:
            log.warning("writing to the store failed, and is tried again: %s", error)
            self._listeners.on_error("store_write")
            if not self._progress.fail(error, delay):
                raise SinkError(f"closed while writing failed: {error}") from error
            delay = min(2 * delay, longest)
            try:
                for decoded in self._pipeline.decode(self._uncommitted):
                    row, tiles = self._pipeline.convert(decoded)
                    self._writer.append(row, tiles)
                self._commit()
            except OSError as e:
                error = e
            else:
                log.warning("writing to the store works again")
                return
