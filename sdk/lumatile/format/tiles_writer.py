"""Writing the two Arrow IPC files of a segment. See docs/store-format.md."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from crc32c import crc32c
from numpy.typing import NDArray

from lumatile.format.schema import TILES
from lumatile.format.tile_rows import TileRows

ALIGNMENT = 256
"""A batch's payload starts at a multiple of this many bytes in the file."""

PAGE = 4096
"""Direct writes need addresses, offsets and sizes that are multiples of this many bytes."""

LARGE = 64 << 10
"""A payload of this many bytes starts on a page, so that it can be written without a copy."""

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
"""One tiles row less its payload, packed: what a frame's `index_crc32c` is the checksum of, row after row."""


_MAGIC = b"ARROW1\0\0"


class TilesSink(Protocol):
    """A tiles file that Arrow writes, front to back (also `flush` and `closed`, as files have them)."""

    def tell(self) -> int:
        """Bytes taken so far."""
        ...

    def write(self, data: Any) -> int:
        """Take an Arrow buffer, which nobody changes any more, or bytes. Raises OSError, of an earlier write too."""
        ...

    def finish(self) -> None:
        """Make it durable; it stays open. Raises OSError."""
        ...

    def close(self) -> None:
        """Close it, finished or not."""
        ...


class TilesFile:
    """A tiles file being written."""

    def __init__(self, file: TilesSink, metadata: Mapping[str, str]) -> None:
        """Begin to write `file`. Raises OSError."""
        self._file = file
        schema = TILES.with_metadata(dict(metadata))
        self._writer = pa.ipc.new_file(pa.PythonFile(self._file, "w"), schema)
        self._start = len(_MAGIC) + schema.serialize().size
        self.rows = 0
        """Tiles rows written so far."""

    @property
    def nbytes(self) -> int:
        """Size so far."""
        return self._file.tell()

    def write(self, frame: int, tiles: TileRows) -> NDArray[np.void]:
        """Write one record batch of frame number `frame`; returns its index rows (INDEX_ROW). Raises OSError."""
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
        """Close the file as it is."""
        self._file.close()


def index_rows(tiles: TileRows) -> NDArray[np.void]:
    """The index rows (INDEX_ROW) of `tiles`, checksums computed."""
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
            np.copyto(index[name], values, where=~np.isnan(values))  # of all NaNs, one: numpy's
    bounds = tiles.offsets.tolist()
    index["crc32c"] = [crc32c(tiles.payload[a:b]) for a, b in pairwise(bounds)]
    return index


def _batch(frame: int, tiles: TileRows, index: NDArray[np.void]) -> pa.RecordBatch:
    """The record batch of `tiles`; its payload is not copied."""
    n = len(index)
    payload = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(),
        n,
        [None, pa.py_buffer(np.ascontiguousarray(tiles.offsets, np.int64)), pa.py_buffer(tiles.payload)],
    )
    columns: dict[str, pa.Array] = {
        "payload": payload,
        "frame": pa.array(np.full(n, frame, np.int64)),
        "plane": _repeated(tiles.plane, n),
        "codec": _repeated(tiles.codec, n),
    }
    for name in ("level", "x", "y", "width", "height", "row_pitch", "raw_size", "crc32c"):
        columns[name] = pa.array(np.ascontiguousarray(index[name]))
    for name in ("value_min", "value_max"):
        columns[name] = pa.array(index[name], mask=np.isnan(index[name]))
    return pa.RecordBatch.from_arrays([columns[name] for name in TILES.names], schema=TILES)


def _repeated(text: str, n: int) -> pa.Array:
    """`text`, n times; much faster than pa.array, which looks for pandas every time."""
    data = text.encode()
    offsets = np.arange(n + 1, dtype=np.int32) * np.int32(len(data))
    return pa.Array.from_buffers(pa.string(), n, [None, pa.py_buffer(offsets), pa.py_buffer(data * n)])


def _padding(position: int, rows: int, nbytes: int) -> int:
    """Bytes of custom metadata that put the payload of a batch at `position` on its boundary."""
    alignment = PAGE if nbytes >= LARGE else ALIGNMENT
    return -(position + head_size() + 8 * (rows + 1)) % alignment


@cache
def head_size() -> int:
    """Bytes of a batch's message before its body, without padding: the same for any number of rows but none."""
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
