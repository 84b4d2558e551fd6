"""Reading a spool from its beginning, and going on after records that are torn or damaged."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import pyarrow as pa

from lumatile.spool.directory import HeldFile, SpoolDirectory
from lumatile.spool.record import (
    HEADER_BYTES,
    DamagedRecordError,
    Header,
    next_record,
    read_body,
    read_header,
)

log = logging.getLogger(__name__)


class Position(NamedTuple):
    """A position in a spool."""

    segment: int
    """The number of a segment."""
    offset: int
    """In its file, in bytes."""


@dataclass(kw_only=True, eq=False)
class Unit:
    """The values that are sent at once: one record of whole values, or all records of one large value."""

    start: Position
    end: Position
    values: int
    """The number of its values."""
    keys: set[tuple[bytes, int]]
    """(producer, seq) of its values that are not acknowledged."""
    nbytes: int
    """The bytes of its records on disk."""
    batches: Iterable[pa.RecordBatch] = field(default_factory=tuple)
    """The batches to send; can be iterated over once. Those of a large value are read one by one."""


class SpoolReader:
    """Finds the units of a spool, and counts the values that cannot be read: each once, however often it is met."""

    def __init__(self, directory: SpoolDirectory) -> None:
        """`directory`: of the spool, which stays locked as long as it is read."""
        self._directory = directory
        self._file: tuple[int, HeldFile] | None = None
        self._expected: int | None = None
        """The number of the value that comes next, if it is known."""
        self._sizes: Mapping[int, int] = {}
        self._places: set[Position] = set()
        """The positions at which damage was found."""
        self.broken: set[int] = set()
        """The numbers of the segments that are damaged."""
        self.lost: dict[int, int] = {}
        """The values that are lost: number of the first -> how many."""

    def next(self, at: Position, sizes: Mapping[int, int]) -> tuple[Unit | None, Position]:
        """Return the first unit at or after a position, None if there is none; and the position after it.

        Args:
            at: where to begin.
            sizes: number of each segment -> its bytes that may be read.

        Raises:
            OSError: a file cannot be read, for a reason that may pass.
        """
        self._sizes = sizes
        while True:
            at, header = self._header(at)
            if header is None:
                return None, at
            if header.part == 0:
                unit, end = self._unit(at, header)
                if unit is not None:
                    self._count(header)
                    return unit, end
                at = end
            else:  # the rest of a damaged value
                at = Position(at.segment, at.offset + header.size)

    @property
    def damaged(self) -> int:
        """The number of values that are lost, as far as is known."""
        return sum(self.lost.values())

    def rewind(self) -> None:
        """Accept that the next unit comes from an earlier position."""
        self._expected = None

    def close(self) -> None:
        """Close the file that is being read."""
        if self._file is not None:
            self._file[1].close()
            self._file = None

    def _count(self, header: Header) -> None:
        if self._expected is not None and header.number > self._expected:
            self.lost[self._expected] = header.number - self._expected
        self._expected = header.number + header.values

    def _header(self, at: Position) -> tuple[Position, Header | None]:
        """Return the position of the first header at or after `at`, and the header; None: there is none."""
        while True:
            size = self._sizes.get(at.segment, 0)
            if at.offset >= size:
                later = min((number for number in self._sizes if number > at.segment), default=None)
                if later is None:
                    return at, None
                at = Position(later, 0)
                continue
            try:
                fd = self._open(at.segment)
            except FileNotFoundError:
                self._damage(at, "it is gone")
                at = Position(at.segment, size)
                continue
            try:
                header = read_header(fd, at.offset, size)
                if header is not None:
                    return at, header
                found = next_record(fd, at.offset + 1, size)
                if found is not None or not _is_torn(fd, at.offset, size):
                    self._damage(at, "there is no record there")
            except OSError as e:
                self._damage(at, str(e))
                found = None
            at = Position(at.segment, size if found is None else found)

    def _unit(self, start: Position, first: Header) -> tuple[Unit | None, Position]:
        """Return the unit that begins with a header, None if it cannot be read; and the position after it."""
        at, header, places, nbytes = start, first, [], 0
        keys: set[tuple[bytes, int]] = set()
        batches: Iterable[pa.RecordBatch] = ()
        for part in range(first.parts):
            if part:
                at, following = self._header(at)
                if following is None:
                    return None, at  # the writer died before the value was whole
                if (following.part, following.number) != (part, first.number):
                    self._damage(start, "not all of a value is there")
                    return None, at
                header = following
            end = Position(at.segment, at.offset + header.size)
            try:
                batch = read_body(self._open(at.segment), at.offset, header)
            except (DamagedRecordError, OSError) as e:
                self._damage(at, str(e), lost=(first.number, max(1, first.values)))
                return None, end
            if not part:
                keys = set(zip(batch["producer"].to_pylist(), batch["seq"].to_pylist(), strict=True))
                batches = (batch,)
            places.append((at, header))
            nbytes += header.size
            del batch
            at = end
        if first.parts > 1:
            batches = _read_again(self._directory, places)
        values = first.values
        return Unit(start=start, end=at, values=values, keys=keys, nbytes=nbytes, batches=batches), at

    def _damage(self, at: Position, why: str, lost: tuple[int, int] | None = None) -> None:
        """Log and count damage; `lost`: the number of the first value lost by it, and how many are lost, if known."""
        if lost is not None:
            self.lost[lost[0]] = lost[1]
            self._expected = sum(lost)
        if at in self._places:
            return
        self._places.add(at)
        self.broken.add(at.segment)
        path = self._directory.segment(at.segment)
        log.error("the spool's %s is damaged at byte %d, and what is there is skipped: %s", path, at.offset, why)

    def _open(self, segment: int) -> int:
        if self._file is None or self._file[0] != segment:
            self.close()
            self._file = segment, HeldFile(self._directory.segment(segment), os.O_RDONLY)
        return self._file[1].fd


def _read_again(directory: SpoolDirectory, places: list[tuple[Position, Header]]) -> Iterator[pa.RecordBatch]:
    """Yield the batches of a large value, whose records were whole a moment ago. Raises DamagedRecordError, OSError."""
    for at, header in places:
        file = HeldFile(directory.segment(at.segment), os.O_RDONLY)
        try:
            batch = read_body(file.fd, at.offset, header)
        finally:
            file.close()
        yield batch
        del batch


def _is_torn(fd: int, offset: int, end: int) -> bool:
    """Return whether the rest of a file, at a position where no record begins, is one that a crash left unfinished."""
    start = os.pread(fd, min(HEADER_BYTES, end - offset), offset)
    header = Header.decode(start)
    if header is not None or len(start) < HEADER_BYTES:
        return True  # a record that is not all there
    with suppress(OSError):
        while offset < end:
            piece = os.pread(fd, min(1 << 20, end - offset), offset)
            if not piece or piece.strip(b"\0"):
                return False
            offset += len(piece)
    return True
