"""The records that a spool's segments consist of: each is a header with checksums, and a record batch of values."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
from crc32c import crc32c

from lumatile.buffers import POOL
from lumatile.errors import LumatileError
from lumatile.format.schema import LOG
from lumatile.values import LoggedValue
from lumatile.wire.encoding import BATCH_BYTES, encode

MAGIC = b"LMSPOOL1"

_HEADER = struct.Struct("<8sIIQQIII20x")
"""MAGIC, CRC32C of the rest of the header, CRC32C of the body, bytes of the body, number, values, part, parts.

64 bytes, so that the body stays aligned."""

HEADER_BYTES = _HEADER.size

_SCAN = 1 << 20
"""Bytes that are searched at once for the next record after a damaged one."""


class DamagedRecordError(LumatileError):
    """The bytes of a record are not those that were written."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """The header of a record. The body after it is an Arrow IPC message: one record batch with the schema LOG."""

    number: int
    """The number of values that were written to the spool before this record's first."""
    values: int
    """The number of values that begin in the record."""
    part: int
    parts: int
    """The record is part `part` of the `parts` of one large value; 0 of 1: it holds whole values."""
    length: int
    """Bytes of the body."""
    crc: int
    """CRC32C of the body."""

    @property
    def size(self) -> int:
        """The bytes of the record in its file, a multiple of 8."""
        return HEADER_BYTES + self.length + -self.length % 8

    def encode(self) -> bytes:
        """Return the 64 bytes that are stored."""
        rest = _HEADER.pack(MAGIC, 0, self.crc, self.length, self.number, self.values, self.part, self.parts)[12:]
        return MAGIC + struct.pack("<I", crc32c(rest)) + rest

    @staticmethod
    def decode(stored: bytes) -> Header | None:
        """Return the header that `encode` has made these bytes of; None: they are not a header, or are damaged."""
        if len(stored) != HEADER_BYTES:
            return None
        magic, checksum, crc, length, number, values, part, parts = _HEADER.unpack(stored)
        if magic != MAGIC or crc32c(stored[12:]) != checksum:
            return None
        return Header(number=number, values=values, part=part, parts=parts, length=length, crc=crc)


def records(values: Sequence[LoggedValue], number: int) -> Iterator[tuple[Header, pa.Buffer]]:
    """Yield the header and the body of each record of some values: small ones share one, a large one may need several.

    Args:
        values: in the order in which they are to be read again.
        number: of the first value, counted since the beginning of the spool.

    Raises:
        UnsendableError: a value cannot be encoded; the records before it have been yielded.
    """
    for run in _runs(values):
        batches = encode(run)
        for batch in batches:
            part, parts = (batch.column(name)[0].as_py() for name in ("part", "parts"))
            begin = batch.num_rows if part == 0 else 0
            body = batch.serialize()
            header = Header(
                number=number,
                values=begin,
                part=part,
                parts=parts,
                length=body.size,
                crc=crc32c(body),
            )
            yield header, body
            if part == parts - 1:
                number += batch.num_rows


def _runs(values: Sequence[LoggedValue]) -> Iterator[Sequence[LoggedValue]]:
    """Separate large values from the others: a record with a part of a large value holds nothing else."""
    run: list[LoggedValue] = []
    for value in values:
        if value.nbytes > BATCH_BYTES:
            if run:
                yield run
            yield [value]
            run = []
        else:
            run.append(value)
    if run:
        yield run


def read_header(fd: int, offset: int, end: int) -> Header | None:
    """Return the header at `offset`; None: there is none, or its record does not end before `end`. Raises OSError."""
    header = Header.decode(os.pread(fd, min(HEADER_BYTES, end - offset), offset))
    return header if header is not None and offset + header.size <= end else None


def read_body(fd: int, offset: int, header: Header) -> pa.RecordBatch:
    """Return the batch of the record at `offset`. Raises DamagedRecordError, OSError."""
    body = POOL.take(header.length)
    view, filled = body.data, 0
    while filled < header.length:
        count = os.preadv(fd, [view[filled:]], offset + HEADER_BYTES + filled)
        if not count:
            raise DamagedRecordError("the file has become shorter")
        filled += count
    if crc32c(body) != header.crc:
        raise DamagedRecordError("its checksum does not hold")
    try:
        return pa.ipc.read_record_batch(pa.py_buffer(body), LOG)
    except (pa.ArrowException, OSError) as e:
        raise DamagedRecordError(str(e)) from e


def next_record(fd: int, offset: int, end: int) -> int | None:
    """Return the offset of the first readable header at or after `offset`; None: there is none. Raises OSError."""
    while offset < end:
        window = os.pread(fd, min(_SCAN + HEADER_BYTES, end - offset), offset)
        at = window.find(MAGIC)
        while at >= 0:
            if at < _SCAN and read_header(fd, offset + at, end) is not None:
                return offset + at
            at = window.find(MAGIC, at + 1)
        offset += _SCAN
    return None
