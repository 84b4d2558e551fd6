"""The layout of an Arrow IPC file, for code that reads only parts of one.

An IPC file ends with a footer that lists its record batches; each begins with a message that says where its buffers
are. Both are FlatBuffers: tables whose fields are found by number. The numbers here are those of Arrow's
format/File.fbs and Message.fbs.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAGIC = b"ARROW1"
END_BYTES = 4 + len(MAGIC)
"""The size of a file's end: four bytes with the size of the footer, then the magic."""

BLOCK = np.dtype([("offset", "<i8"), ("head", "<i4"), ("_", "<i4"), ("body", "<i8")])
"""A record batch in a file: its first byte, then the size of its message and of the buffers after it, in bytes."""

BUFFER = np.dtype([("offset", "<i8"), ("size", "<i8")])
"""A buffer of a record batch: its first byte in the body, and its size in bytes."""

_RECORD_BATCHES = 3  # of Footer
_HEADER_TYPE, _HEADER = 1, 2  # of Message
_RECORD_BATCH_HEADER = 3
_LENGTH, _BUFFERS, _COMPRESSION = 0, 2, 3  # of RecordBatch


class LayoutError(ValueError):
    """Bytes are not a footer, or not the message of a record batch."""


@dataclass(frozen=True, kw_only=True, eq=False)
class BatchLayout:
    """The content of the message of a record batch."""

    rows: int
    """The number of rows."""
    buffers: NDArray[np.void]
    """(n,) of dtype BUFFER, column after column."""
    compressed: bool
    """Whether the buffers are compressed."""


def footer_size(end: bytes) -> int:
    """Return the size of the footer; `end`: the last END_BYTES bytes of the file. Raises LayoutError."""
    size = int.from_bytes(end[:4], "little", signed=True)
    if end[4:] != MAGIC or size <= 0:
        raise LayoutError("not an Arrow IPC file, or cut off")
    return size


def read_footer(footer: bytes | memoryview) -> NDArray[np.void]:
    """Parse a footer: the record batches of the file, (n,) of dtype BLOCK. Raises LayoutError."""
    try:
        return _structs(footer, _root(footer, 0), _RECORD_BATCHES, BLOCK)
    except (struct.error, ValueError) as e:
        raise LayoutError(f"the footer: {e}") from e


def with_batches(footer: bytes, blocks: NDArray[np.void]) -> bytes:
    """Return a copy of a footer that lists other record batches: `blocks`, (n,) of dtype BLOCK.

    The vector of structs is appended, and the field points to it. Raises LayoutError where the footer lists none yet.
    """
    field = _field(footer, _root(footer, 0), _RECORD_BATCHES)
    if field is None:
        raise LayoutError("the footer lists no record batches")
    result = bytearray(footer)
    result += bytes(-(len(result) + 4) % 8)  # the structs, after the vector's length, at a multiple of 8
    struct.pack_into("<I", result, field, len(result) - field)
    result += struct.pack("<I", len(blocks)) + blocks.tobytes()
    return bytes(result + bytes(-len(result) % 8))


def read_head(message: bytes | memoryview) -> BatchLayout:
    """Parse the message of a record batch, which begins with its 8 bytes of length. Raises LayoutError."""
    try:
        table = _root(message, 8)
        kind, header = _field(message, table, _HEADER_TYPE), _field(message, table, _HEADER)
        if kind is None or header is None or message[kind] != _RECORD_BATCH_HEADER:
            raise LayoutError("the message is not that of a record batch")
        batch = _indirect(message, header)
        length = _field(message, batch, _LENGTH)
        rows = 0 if length is None else struct.unpack_from("<q", message, length)[0]
        compressed = _field(message, batch, _COMPRESSION) is not None
        return BatchLayout(rows=rows, buffers=_structs(message, batch, _BUFFERS, BUFFER), compressed=compressed)
    except (struct.error, ValueError, IndexError) as e:
        raise LayoutError(f"a record batch's message: {e}") from e


def _root(data: bytes | memoryview, start: int) -> int:
    return _indirect(data, start)


def _indirect(data: bytes | memoryview, position: int) -> int:
    return position + int(struct.unpack_from("<I", data, position)[0])


def _field(data: bytes | memoryview, table: int, number: int) -> int | None:
    """Return the position of a field of a table; None: it has its default."""
    vtable = table - int(struct.unpack_from("<i", data, table)[0])
    slot = 4 + 2 * number
    if vtable < 0 or slot + 2 > struct.unpack_from("<H", data, vtable)[0]:
        return None
    offset = int(struct.unpack_from("<H", data, vtable + slot)[0])
    return table + offset if offset else None


def _structs(data: bytes | memoryview, table: int, number: int, dtype: np.dtype[np.void]) -> NDArray[np.void]:
    """Return a field that is a vector of structs."""
    field = _field(data, table, number)
    if field is None:
        return np.zeros(0, dtype)
    vector = _indirect(data, field)
    (count,) = struct.unpack_from("<I", data, vector)
    return np.frombuffer(data, dtype, count, vector + 4) if count else np.zeros(0, dtype)
