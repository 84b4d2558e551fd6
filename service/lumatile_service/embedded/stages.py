"""The first two stages of the embedded sink: decode and convert, each the work of one thread, and their messages."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from lumatile.format.tile_rows import TileRows
from lumatile.sink.queue import ByteQueue, QueueClosedError
from lumatile.values import LoggedValue
from lumatile_service.embedded.decoding import DecodedValue
from lumatile_service.embedded.pipeline import Pipeline
from lumatile_service.embedded.small_values import SmallFrames, is_small

DECODE_BATCH = 16
"""The most image files that are decoded together, where so many wait."""

SMALL_TOGETHER = 512
"""The most small values that are converted together, where so many wait."""

TOGETHER_BYTES = 1 << 20
"""The size of the values, in bytes, from which no more are converted together: what is made of them stays in caches."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameStart:
    """The beginning of a frame; its tile rows follow, then a `FrameEnd`."""

    number: int
    """The number of the value in the sink's queue, from 1."""
    value: LoggedValue
    row: dict[str, Any]
    """The frames row, complete once the tile rows are taken."""


class FrameEnd:
    """The end of a frame: all its tile rows have been handed over."""


class Wake:
    """A request to look whether a commit is wanted."""


TileQueue = ByteQueue[FrameStart | TileRows | FrameEnd | SmallFrames | Wake]
"""The queue between converting and writing."""


class Stage(Protocol):
    """The work of one thread of the sink."""

    def run(self) -> None:
        """Work until the queue of the stage is closed and empty. Raises QueueClosedError, or whatever went wrong."""
        ...

    def close(self) -> None:
        """Release what only this stage uses, and let the next stage end."""
        ...


class Decoding:
    """Decodes the values of a queue, image files together where several wait."""

    def __init__(
        self, pipeline: Pipeline, values: ByteQueue[LoggedValue], decoded: ByteQueue[tuple[int, DecodedValue]]
    ) -> None:
        """Read from `values` and write to `decoded`."""
        self._pipeline = pipeline
        self._values = values
        self._decoded = decoded

    def run(self) -> None:
        """See `Stage.run`."""
        while True:
            first = self._values.get()
            assert first is not None  # noqa: S101 - without a timeout there is always one
            batch = [first]
            while batch[-1][1].encoded is not None and len(batch) < DECODE_BATCH:
                more = self._values.get(timeout=0) if len(self._values) else None
                if more is None:
                    break
                batch.append(more)
            decoded = self._pipeline.decode([value for _, value in batch])
            for (number, _), value in zip(batch, decoded, strict=True):
                self._decoded.put((number, value), value.nbytes)

    def close(self) -> None:
        """See `Stage.close`."""
        self._decoded.close()


@dataclass(frozen=True, kw_only=True, eq=False)
class _Started:
    """A value whose conversion has been started."""

    frame: FrameStart
    tiles: Iterator[TileRows]
    nbytes: int


class Converting:
    """Hands over the tile rows of one value after another, with as many of the next started as the backend wants.

    Small values that wait are converted together.
    """

    def __init__(self, pipeline: Pipeline, decoded: ByteQueue[tuple[int, DecodedValue]], tiles: TileQueue) -> None:
        """Read from `decoded` and write to `tiles`."""
        self._pipeline = pipeline
        self._decoded = decoded
        self._tiles = tiles
        self._started: deque[_Started] = deque()
        """Values that are being converted, in the order in which they were logged."""
        self._next: tuple[int, DecodedValue] | None = None
        """A value that was taken from the queue, and not begun."""

    def run(self) -> None:
        """See `Stage.run`."""
        while True:
            first = self._take(None)
            assert first is not None  # noqa: S101 - without a timeout there is always one
            if is_small(first[1]):
                self._convert_small(first)
            else:
                self._start(first)
                while self._started:
                    while self._start_next():
                        pass
                    self._hand_over(self._started.popleft())

    def _take(self, timeout: float | None) -> tuple[int, DecodedValue] | None:
        """Take the next value; None: there is none in that time. Raises QueueClosedError when all have been taken."""
        if self._next is not None:
            taken, self._next = self._next, None
            return taken
        got = self._decoded.get(timeout)
        return None if got is None else got[1]

    def _take_now(self, *, small: bool) -> tuple[int, DecodedValue] | None:
        """Take the next value if it is there and is small, or is not, as `small` says."""
        try:
            taken = self._take(0)
        except QueueClosedError:
            return None
        if taken is not None and is_small(taken[1]) != small:
            self._next, taken = taken, None
        return taken

    def _convert_small(self, first: tuple[int, DecodedValue]) -> None:
        values, nbytes = [first], first[1].nbytes
        while len(values) < SMALL_TOGETHER and nbytes < TOGETHER_BYTES:
            taken = self._take_now(small=True)
            if taken is None:
                break
            values.append(taken)
            nbytes += taken[1].nbytes
        frames = self._pipeline.convert_small(values)
        self._tiles.put(frames, frames.nbytes)

    def _start_next(self) -> bool:
        """Start the next value, if it should be started before the first is handed over; return whether it was."""
        if sum(value.nbytes for value in self._started) >= self._pipeline.ahead_bytes:
            return False
        taken = self._take_now(small=False)
        if taken is not None:
            self._start(taken)
        return taken is not None

    def _start(self, taken: tuple[int, DecodedValue]) -> None:
        number, decoded = taken
        row, tiles = self._pipeline.convert(decoded)
        frame = FrameStart(number=number, value=decoded.value, row=row)
        self._started.append(_Started(frame=frame, tiles=tiles, nbytes=decoded.nbytes))

    def _hand_over(self, started: _Started) -> None:
        self._tiles.put(started.frame, 0)
        for rows in started.tiles:
            self._tiles.put(rows, rows.payload.nbytes)
            del rows  # the buffer returns to its pool as soon as it is written
        self._tiles.put(FrameEnd(), 0)

    def close(self) -> None:
        """See `Stage.close`."""
        self._tiles.close()
