"""Where things lie in an Arrow IPC file, for those who read only parts of it.

An IPC file ends with a footer that lists its record batches; each begins with a message that says where its buffers
are. Both are FlatBuffers: tables whose fields are found by number. Numbers as in Arrow's format/File.fbs, Message.fbs.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAGIC = b"ARROW1"
END_BYTES = 4 + len(MAGIC)
"""At the end of a file: the footer's size, and the magic."""

BLOCK = np.dtype([("offset", "<i8"), ("head", "<i4"), ("_", "<i4"), ("body", "<i8")])
"""A record batch in a file: where it begins, bytes of its message, bytes of its buffers after that."""

BUFFER = np.dtype([("offset", "<i8"), ("size", "<i8")])
"""A buffer of a record batch, in its body."""

_RECORD_BATCHES = 3  # of Footer
_HEADER_TYPE, _HEADER = 1, 2  # of Message
_RECORD_BATCH_HEADER = 3
_LENGTH, _BUFFERS, _COMPRESSION = 0, 2, 3  # of RecordBatch


class LayoutError(ValueError):
    """Bytes are no footer, or no message."""


@dataclass(frozen=True, kw_only=True, eq=False)
class BatchLayout:
    """What the message of a record batch says."""

    rows: int
    buffers: NDArray[np.void]
    """(n,) of BUFFER, column after column."""


def footer_size(end: bytes) -> int:
    """Size of the footer before the last END_BYTES bytes of a file, which are `end`. Raises LayoutError."""
    size = int.from_bytes(end[:4], "little", signed=True)
    if end[4:] != MAGIC or size <= 0:
        raise LayoutError("not an Arrow IPC file, or cut off")
    return size


def read_footer(footer: bytes | memoryview) -> NDArray[np.void]:
    """(n,) of BLOCK: the record batches of the file. Raises LayoutError."""
    try:
        return _structs(footer, _root(footer, 0), _RECORD_BATCHES, BLOCK)
    except (struct.error, ValueError) as e:
        raise LayoutError(f"the footer: {e}") from e


def read_head(message: bytes | memoryview) -> BatchLayout:
    """The message of a record batch, with the 8 bytes that come before it. Raises LayoutError."""
    try:
        table = _root(message, 8)
        kind, header = _field(message, table, _HEADER_TYPE), _field(message, table, _HEADER)
        if kind is None or header is None or message[kind] != _RECORD_BATCH_HEADER:
            raise LayoutError("the message is none of a record batch")
        batch = _indirect(message, header)
        if _field(message, batch, _COMPRESSION) is not None:
            raise LayoutError("the record batch is compressed")
        length = _field(message, batch, _LENGTH)
        rows = 0 if length is None else struct.unpack_from("<q", message, length)[0]
        return BatchLayout(rows=rows, buffers=_structs(message, batch, _BUFFERS, BUFFER))
    except (struct.error, ValueError, IndexError) as e:
        raise LayoutError(f"a record batch's message: {e}") from e


def _root(data: bytes | memoryview, start: int) -> int:
    return _indirect(data, start)


def _indirect(data: bytes | memoryview, position: int) -> int:
    return position + int(struct.unpack_from("<I", data, position)[0])


def _field(data: bytes | memoryview, table: int, number: int) -> int | None:
    """Position of a field of a table; None: it has its default."""
    vtable = table - int(struct.unpack_from("<i", data, table)[0])
    slot = 4 + 2 * number
    if vtable < 0 or slot + 2 > struct.unpack_from("<H", data, vtable)[0]:
        return None
    offset = int(struct.unpack_from("<H", data, vtable + slot)[0])
    return table + offset if offset else None


def _structs(data: bytes | memoryview, table: int, number: int, dtype: np.dtype[np.void]) -> NDArray[np.void]:
    """A field that is a vector of structs."""
    field = _field(data, table, number)
    if field is None:
        return np.zeros(0, dtype)
    vector = _indirect(data, field)
    (count,) = struct.unpack_from("<I", data, vector)
    return np.frombuffer(data, dtype, count, vector + 4) if count else np.zeros(0, dtype)
