"""Writing the tiles file of a segment, an Arrow IPC file; see docs/store-format.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from crc32c import crc32c
from numpy.typing import NDArray

from lumatile.buffers import POOL
from lumatile.format.arrow_arrays import array_of, array_of_numbers
from lumatile.format.arrow_layout import BLOCK, END_BYTES, MAGIC, footer_size, with_batches
from lumatile.format.schema import TILES
from lumatile.format.tile_rows import INDEX_ROW, IndexedRows, TileRows, no_rows

ALIGNMENT = 256
"""The payload of a batch starts at a multiple of this many bytes in the file."""

PAGE = 4096
"""Direct writes need addresses, offsets and sizes that are multiples of this many bytes."""

LARGE = 64 << 10
"""A payload of at least this many bytes starts on a page, so that it can be written without a copy."""

SHARED_BYTES = 1 << 20
"""A shared batch is written when its payloads reach this many bytes, or when it has `SHARED_ROWS` rows."""

SHARED_ROWS = 1 << 14

_MAGIC = MAGIC + b"\0\0"
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"


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
    """A tiles file that is being written: a magic, the schema, record batches, and a footer that lists them."""

    def __init__(self, file: TilesSink, metadata: Mapping[str, str]) -> None:
        """Begin to write into `file`; `metadata` goes into the schema. Raises OSError."""
        self._file = file
        self._schema = TILES.with_metadata(dict(metadata))
        begin = self._schema.serialize()
        file.write(_MAGIC)
        file.write(begin)
        self._writer = pa.ipc.new_stream(pa.PythonFile(_Without(file, begin.size), "w"), self._schema)
        self._blocks: list[tuple[int, int, int, int]] = []
        """The record batches so far, as rows of BLOCK."""
        self._shared: list[IndexedRows] = []
        """The rows that wait to be written as one batch."""
        self._shared_bytes = self._shared_rows = 0
        self.rows = 0
        """The number of tiles rows so far."""

    @property
    def nbytes(self) -> int:
        """The size so far, in bytes."""
        return self._file.tell() + self._shared_bytes

    def write(self, frame: int, tiles: TileRows) -> NDArray[np.void]:
        """Write one record batch of frame row `frame`, and return its index rows (INDEX_ROW). Raises OSError."""
        index = index_rows(tiles)
        self.copy(
            IndexedRows(
                frame=np.full(len(index), frame, np.int64), index=index, offsets=tiles.offsets, payload=tiles.payload
            )
        )
        return index

    def copy(self, rows: IndexedRows) -> None:
        """Write rows of one frame, plane and codec as one record batch, which is not compressed. Raises OSError."""
        if not len(rows.index):
            return
        self._write_shared()
        position = self._file.tell()
        padding = _padding(position, len(rows.index), rows.payload.nbytes)
        self._writer.write_batch(_batch(rows), custom_metadata={"pad": " " * padding})
        head = head_size() + padding
        self._blocks.append((position, head, 0, self._file.tell() - position - head))
        self.rows += len(rows.index)

    def share(self, rows: IndexedRows) -> None:
        """Write rows of any frames and planes; small ones that follow each other share a compressed record batch.

        Raises OSError.
        """
        if not len(rows.index):
            return
        self._shared.append(rows)
        self._shared_bytes += rows.payload.nbytes
        self._shared_rows += len(rows.index)
        self.rows += len(rows.index)
        if self._shared_bytes >= SHARED_BYTES or self._shared_rows >= SHARED_ROWS:
            self._write_shared()

    def _write_shared(self) -> None:
        if not self._shared:
            return
        parts, self._shared, self._shared_bytes, self._shared_rows = self._shared, [], 0, 0
        message = _compressed(_batch(_joined(parts)))
        head = 8 + int.from_bytes(message.slice(4, 4).to_pybytes(), "little")
        self._blocks.append((self._file.tell(), head, 0, message.size - head))
        self._file.write(message)

    def finish(self) -> None:
        """Write the footer and make the file durable. Raises OSError."""
        self._write_shared()
        twin = pa.BufferOutputStream()
        with pa.ipc.new_file(twin, self._schema) as writer:
            writer.write_batch(_batch(no_rows()))
        end = twin.getvalue().to_pybytes()
        footer = end[-END_BYTES - footer_size(end[-END_BYTES:]) : -END_BYTES]
        footer = with_batches(footer, np.array(self._blocks, BLOCK))
        self._file.write(_END_OF_STREAM + footer + len(footer).to_bytes(4, "little") + MAGIC)
        self._file.finish()
        self._file.close()

    def discard(self) -> None:
        """Close the file, unfinished."""
        self._file.close()


class _Without:
    """A file to which Arrow's stream writer writes, without the schema that it begins with."""

    closed = False

    def __init__(self, file: TilesSink, skip: int) -> None:
        """Pass everything on to `file` but the first `skip` bytes."""
        self._file = file
        self._skip = skip

    def write(self, data: Any) -> int:
        """Take an Arrow buffer or bytes."""
        if not self._skip:
            return self._file.write(data)
        view = memoryview(data).cast("B")
        rest = view[self._skip :]
        self._skip -= len(view) - len(rest)
        if len(rest):
            self._file.write(bytes(rest))
        return len(view)

    def flush(self) -> None:
        """Do nothing; see `TilesSink`."""


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


def _batch(rows: IndexedRows) -> pa.RecordBatch:
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


def _joined(parts: Sequence[IndexedRows]) -> IndexedRows:
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


def _compressed(batch: pa.RecordBatch) -> pa.Buffer:
    """Return the message of a record batch whose buffers are compressed."""
    memory = pa.py_buffer(POOL.take(batch.nbytes + batch.nbytes // 16 + (64 << 10)))  # warm, and always large enough
    stream = pa.FixedSizeBufferWriter(memory)
    with pa.ipc.new_stream(stream, TILES, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_batch(batch)
    start = TILES.serialize().size
    return memory.slice(start, stream.tell() - len(_END_OF_STREAM) - start)


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
    index = index_rows(twin)
    batch = _batch(IndexedRows(frame=np.zeros(1, np.int64), index=index, offsets=twin.offsets, payload=twin.payload))
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
