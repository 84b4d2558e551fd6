"""Writing to the end of a spool."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from lumatile.errors import SinkError
from lumatile.spool.directory import HeldFile, SpoolDirectory
from lumatile.spool.reader import Position, Unit
from lumatile.spool.record import Header, records
from lumatile.storage.durable_files import sync_directory, write_whole
from lumatile.values import LoggedValue
from lumatile.wire.encoding import UnsendableError

SEGMENT_BYTES = 128 << 20
"""The largest size of a segment, in bytes."""

FLOOR_BYTES = 1 << 30
"""The free space that a spool leaves on its disk, in bytes."""

FLOOR_PART = 20
"""On a small disk, the free space is one part in so many of the disk, if that is less."""


class SpoolFullError(SinkError):
    """There is no room for more values: the spool holds as much as it may, or the disk is nearly full."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """The values that an `append` has made durable."""

    units: Sequence[Unit]
    """In order; without batches."""
    sizes: dict[int, int]
    """Number of each segment that has grown -> its bytes."""


class SpoolWriter:
    """Appends values to a spool's last segment, and begins new segments."""

    def __init__(self, directory: SpoolDirectory, *, synced: bool = True) -> None:
        """`directory`: of a spool that has no segments yet. `synced`: as in `Spool`."""
        self._directory = directory
        self._synced = synced
        self._segment: _Segment | None = None
        """The last segment, if it may grow."""
        self._last = 0
        self._number = 0
        """The number of values written so far."""

    def append(self, values: Sequence[LoggedValue], room: int) -> Written:
        """Make values durable: all of them, or the first ones that fit into `room` bytes.

        Raises SpoolFullError, OSError or UnsendableError if not even the first value is durable.
        """
        grown = [] if self._segment is None else [self._segment]
        begun = 0 if self._segment is None else self._segment.size
        units: list[Unit] = []
        count, nbytes = 0, 0
        start = whole = self._place(grown)
        failure: OSError | UnsendableError | None = None
        try:
            for header, body in records(values, self._number):
                nbytes += header.size
                if nbytes > room:
                    raise SpoolFullError("as many bytes wait in the spool as it may hold")
                self._write(grown, header, body)
                if header.part == 0:
                    start = self._place(grown, header.size)
                if header.part == header.parts - 1:
                    held = header.values if header.parts == 1 else 1
                    keys = {(value.producer, value.seq) for value in values[count : count + held]}
                    whole = self._place(grown)
                    size = nbytes - sum(unit.nbytes for unit in units)
                    units.append(Unit(start=start, end=whole, values=held, keys=keys, nbytes=size))
                    count += held
        except (OSError, UnsendableError) as e:
            failure = e
        grown = self._cut(grown, whole)
        try:
            for segment in grown:
                segment.sync()
        except OSError:
            self._abandon(grown, begun)
            raise
        for segment in grown[:-1]:
            segment.close()
        self._segment = grown[-1] if grown else None
        if failure is not None and not units:
            raise failure
        self._number += count
        return Written(units=units, sizes={segment.number: segment.size for segment in grown})

    def end_segment(self) -> None:
        """Close the last segment: the next value begins a new one."""
        if self._segment is not None:
            self._segment.close()
            self._segment = None

    def _place(self, grown: Sequence[_Segment], back: int = 0) -> Position:
        """Return the position `back` bytes before the end of what is written."""
        return Position(grown[-1].number, grown[-1].size - back) if grown else Position(self._last + 1, 0)

    def _write(self, grown: list[_Segment], header: Header, body: pa.Buffer) -> None:
        if not grown or (grown[-1].size and grown[-1].size + header.size > SEGMENT_BYTES):
            grown.append(_Segment(self._directory, self._last + 1, synced=self._synced))
            self._last += 1
        grown[-1].write(header, body)

    def _cut(self, grown: Sequence[_Segment], end: Position) -> list[_Segment]:
        """Remove what was written after `end`, and return the segments that remain."""
        for segment in grown:
            if segment.number > end.segment or not end.offset:
                segment.remove()
            elif segment.number == end.segment and segment.size > end.offset:
                segment.cut(end.offset)
        return [segment for segment in grown if not segment.closed]

    def _abandon(self, grown: Sequence[_Segment], begun: int) -> None:
        """Let the next value begin a new segment: after a failed fsync, the contents of a file are unknown."""
        for segment in grown:
            if segment is self._segment and begun:
                segment.cut(begun)
                segment.close()
            else:
                segment.remove()
        self._segment = None


class _Segment:
    """A segment's file, which grows. Nothing is durable before `sync`."""

    def __init__(self, directory: SpoolDirectory, number: int, *, synced: bool) -> None:
        """Create the file. Raises OSError."""
        self.number = number
        self.size = 0
        """The bytes of the whole records in it."""
        self.closed = False
        self._path: Path = directory.segment(number)
        self._file = HeldFile(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        self._synced = synced
        self._new = True

    def write(self, header: Header, body: pa.Buffer) -> None:
        """Append a record, the whole of it or nothing. Raises SpoolFullError, OSError."""
        disk = os.fstatvfs(self._file.fd)
        floor = min(FLOOR_BYTES, disk.f_blocks * disk.f_frsize // FLOOR_PART)
        free = disk.f_bavail * disk.f_frsize
        if free - header.size < floor:
            raise SpoolFullError(f"{free} bytes are free at {self._path.parent}, and {floor} are to stay free")
        try:
            write_whole(self._file.fd, (header.encode(), body, bytes(-header.length % 8)), self.size)
        except OSError:
            self.cut(self.size)
            raise
        self.size += header.size

    def cut(self, size: int) -> None:
        """Cut the file to `size` bytes. It does no harm if that fails: values that are found twice are sent twice."""
        self.size = size
        with suppress(OSError):
            os.ftruncate(self._file.fd, size)

    def sync(self) -> None:
        """Make durable what was written. Raises OSError: then nothing since the last call is durable."""
        if not self._synced:
            return
        os.fsync(self._file.fd)
        if self._new:
            sync_directory(self._path.parent)
            self._new = False

    def close(self) -> None:
        """Close the file."""
        self.closed = True
        self._file.close()

    def remove(self) -> None:
        """Close and delete the file."""
        self.close()
        with suppress(OSError):
            self._path.unlink()
