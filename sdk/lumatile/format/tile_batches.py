"""The record batches of a tiles file; see docs/store-format.md."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from crc32c import crc32c
from numpy.typing import NDArray

from lumatile.buffers import POOL
from lumatile.format.arrow_arrays import array_of, array_of_numbers
from lumatile.format.schema import TILES
from lumatile.format.tile_rows import INDEX_ROW, IndexedRows, TileRows

ALIGNMENT = 256
"""The payload of a batch starts at a multiple of this many bytes in the file."""

PAGE = 4096
"""Direct writes need addresses, offsets and sizes that are multiples of this many bytes."""

LARGE = 64 << 10
"""A payload of at least this many bytes starts on a page, so that it can be written without a copy."""

END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
"""The last bytes of an Arrow stream."""


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
    index["crc32c"] = checksums(tiles.offsets, tiles.payload)
    return index


def checksums(offsets: NDArray[np.int64], payload: NDArray[np.uint8]) -> list[int]:
    """Return the CRC32C of the stored bytes of each row; `offsets` and `payload` as in `IndexedRows`."""
    return [crc32c(payload[a:b]) for a, b in pairwise(offsets.tolist())]


def record_batch(rows: IndexedRows) -> pa.RecordBatch:
    """Return the record batch of `rows`, without copying the payload."""
    index, n = rows.index, len(rows.index)
    payload = [None, pa.py_buffer(np.ascontiguousarray(rows.offsets, np.int64)), pa.py_buffer(rows.payload)]
    columns: dict[str, pa.Array] = {
        "payload": pa.LargeBinaryArray.from_buffers(pa.large_binary(), n, payload),
        "frame": array_of_numbers(rows.frame),
        "plane": _names(index["plane"]),
        "codec": _names(index["codec"]),
    }
    for name in ("level", "x", "y", "width", "height", "row_pitch", "raw_size", "crc32c"):
        columns[name] = array_of_numbers(index[name])
    for name in ("value_min", "value_max"):
        columns[name] = array_of_numbers(index[name], null=np.isnan(index[name]))
    return pa.RecordBatch.from_arrays([columns[name] for name in TILES.names], schema=TILES)


def _names(texts: NDArray[np.bytes_]) -> pa.Array:
    return array_of([text.decode() for text in texts.tolist()], pa.string())


def joined(parts: Sequence[IndexedRows]) -> IndexedRows:
    """Return the rows of all parts, one part after another."""
    if len(parts) == 1:
        return parts[0]
    starts = np.cumsum([0, *(part.payload.nbytes for part in parts)])
    return IndexedRows(
        frame=np.concatenate([part.frame for part in parts]),
        index=np.frombuffer(b"".join(part.index.tobytes() for part in parts), INDEX_ROW),
        offsets=np.concatenate(
            [part.offsets[:-1] + start for part, start in zip(parts, starts[:-1], strict=True)] + [starts[-1:]]
        ),
        payload=np.concatenate([part.payload for part in parts], out=POOL.take(int(starts[-1]))),
    )


def compressed_message(batch: pa.RecordBatch) -> pa.Buffer:
    """Return the message of a record batch whose buffers are compressed."""
    memory = pa.py_buffer(POOL.take(batch.nbytes + batch.nbytes // 16 + (64 << 10)))  # warm, and always large enough
    stream = pa.FixedSizeBufferWriter(memory)
    with pa.ipc.new_stream(stream, TILES, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_batch(batch)
    start = TILES.serialize().size
    return memory.slice(start, stream.tell() - len(END_OF_STREAM) - start)


def padding_at(position: int, rows: int, nbytes: int) -> int:
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
    index = index_rows(twin)
    batch = record_batch(
        IndexedRows(frame=np.zeros(1, np.int64), index=index, offsets=twin.offsets, payload=twin.payload)
    )
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
