"""Writing the tiles file of a segment, an Arrow IPC file; see docs/store-format.md."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from crc32c import crc32c
from numpy.typing import NDArray

from lumatile.format.arrow_arrays import array_of_numbers
from lumatile.format.schema import TILES
from lumatile.format.tile_rows import TileRows

ALIGNMENT = 256
"""The payload of a batch starts at a multiple of this many bytes in the file."""

PAGE = 4096
"""Direct writes need addresses, offsets and sizes that are multiples of this many bytes."""

LARGE = 64 << 10
"""A payload of at least this many bytes starts on a page, so that it can be written without a copy."""

INDEX_ROW = np.dtype(
    [
        ("plane", "S16"),
        ("codec", "S8"),
        ("level", "<i4"),
        ("x", "<i4"),
        ("y", "<i4"),
        ("width", "<i4"),
        ("height", "<i4"),
        ("row_pitch", "<i8"),
        ("raw_size", "<i8"),
        ("size", "<i8"),
        ("value_min", "<f8"),
        ("value_max", "<f8"),
        ("crc32c", "<u4"),
    ]
)
"""One tiles row without its payload, packed. A frame's `index_crc32c` is the checksum of these, row after row."""


_MAGIC = b"ARROW1\0\0"


class TilesSink(Protocol):
    """A file that Arrow writes from front to back; it has `flush` and `closed` too, as Python's files do."""

    def tell(self) -> int:
        """Return the number of bytes taken so far."""
        ...

    def write(self, data: Any) -> int:
        """Take an Arrow buffer, which must not change any more, or bytes. Raises OSError, also of an earlier write."""
        ...

    def finish(self) -> None:
        """Make the file durable; it stays open. Raises OSError."""
        ...

    def close(self) -> None:
        """Close the file, finished or not."""
        ...


class TilesFile:
    """A tiles file that is being written."""

    def __init__(self, file: TilesSink, metadata: Mapping[str, str]) -> None:
        """Begin to write into `file`; `metadata` goes into the schema. Raises OSError."""
        self._file = file
        schema = TILES.with_metadata(dict(metadata))
        self._writer = pa.ipc.new_file(pa.PythonFile(self._file, "w"), schema)
        self._start = len(_MAGIC) + schema.serialize().size
        self.rows = 0
        """The number of tiles rows written so far."""

    @property
    def nbytes(self) -> int:
        """The size so far, in bytes."""
        return self._file.tell()

    def write(self, frame: int, tiles: TileRows) -> NDArray[np.void]:
        """Write one record batch of frame row `frame`, and return its index rows (INDEX_ROW). Raises OSError."""
        index = index_rows(tiles)
        if not len(index):
            return index
        position = max(self.nbytes, self._start)  # the schema is written with the first batch
        padding = _padding(position, len(index), tiles.payload.nbytes)
        self._writer.write_batch(_batch(frame, tiles, index), custom_metadata={"pad": " " * padding})
        self.rows += len(index)
        return index

    def finish(self) -> None:
        """Write the footer and make the file durable. Raises OSError."""
        self._writer.close()
        self._file.finish()
        self._file.close()

    def discard(self) -> None:
        """Close the file, unfinished."""
        self._file.close()


def index_rows(tiles: TileRows) -> NDArray[np.void]:
    """Return the index rows (INDEX_ROW) of `tiles`, with their checksums."""
    index = np.zeros(len(tiles.level), INDEX_ROW)
    index["plane"] = tiles.plane.encode()
    index["codec"] = tiles.codec.encode()
    index["level"], index["x"], index["y"] = tiles.level, tiles.x, tiles.y
    index["width"], index["height"] = tiles.width, tiles.height
    index["row_pitch"], index["raw_size"] = tiles.row_pitch, tiles.raw_size
    index["size"] = np.diff(tiles.offsets)
    index["value_min"] = index["value_max"] = np.nan
    if tiles.value_range is not None:
        for name, values in zip(("value_min", "value_max"), tiles.value_range.T, strict=True):
            np.copyto(index[name], values, where=~np.isnan(values))  # every NaN gets the bits of numpy's
    bounds = tiles.offsets.tolist()
    index["crc32c"] = [crc32c(tiles.payload[a:b]) for a, b in pairwise(bounds)]
    return index


def _batch(frame: int, tiles: TileRows, index: NDArray[np.void]) -> pa.RecordBatch:
    """Return the record batch of `tiles`, without copying the payload."""
    n = len(index)
    payload = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(),
        n,
        [None, pa.py_buffer(np.ascontiguousarray(tiles.offsets, np.int64)), pa.py_buffer(tiles.payload)],
    )
    columns: dict[str, pa.Array] = {
        "payload": payload,
        "frame": array_of_numbers(np.full(n, frame, np.int64)),
        "plane": _repeated(tiles.plane, n),
        "codec": _repeated(tiles.codec, n),
    }
    for name in ("level", "x", "y", "width", "height", "row_pitch", "raw_size", "crc32c"):
        columns[name] = array_of_numbers(index[name])
    for name in ("value_min", "value_max"):
        columns[name] = array_of_numbers(index[name], null=np.isnan(index[name]))
    return pa.RecordBatch.from_arrays([columns[name] for name in TILES.names], schema=TILES)


def _repeated(text: str, n: int) -> pa.Array:
    """Return an array with n times `text`."""
    data = text.encode()
    offsets = np.arange(n + 1, dtype=np.int32) * np.int32(len(data))
    return pa.Array.from_buffers(pa.string(), n, [None, pa.py_buffer(offsets), pa.py_buffer(data * n)])


def _padding(position: int, rows: int, nbytes: int) -> int:
    """Return how many bytes of custom metadata put the payload of a batch at `position` on its boundary."""
    alignment = PAGE if nbytes >= LARGE else ALIGNMENT
    return -(position + head_size() + 8 * (rows + 1)) % alignment


@cache
def head_size() -> int:
    """Return the bytes of a batch's message before its body, without padding: the same for any number of rows but 0."""
    number, size = np.zeros(1, np.int32), np.zeros(1, np.int64)
    twin = TileRows(
        plane="",
        codec="raw",
        level=number,
        x=number,
        y=number,
        width=number,
        height=number,
        row_pitch=size,
        raw_size=size,
        offsets=np.zeros(2, np.int64),
        payload=np.zeros(0, np.uint8),
    )
    batch = _batch(0, twin, index_rows(twin))
    stream = pa.BufferOutputStream()
    with pa.ipc.new_stream(stream, TILES) as writer:
        for _ in range(2):  # the schema is written with the first
            start = stream.tell()
            writer.write_batch(batch, custom_metadata={"pad": ""})
        end = stream.tell()
    reader = pa.BufferReader(stream.getvalue())
    reader.seek(start)
    body: Any = pa.ipc.read_message(reader).body
    return int(end - start - body.size)
