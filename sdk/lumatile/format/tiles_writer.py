"""Writing the tiles file of a segment, an Arrow IPC file; see docs/store-format.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lumatile.format.arrow_layout import BLOCK, END_BYTES, MAGIC, footer_size, with_batches
from lumatile.format.schema import TILES
from lumatile.format.tile_batches import (
    END_OF_STREAM,
    compressed_message,
    head_size,
    index_rows,
    joined,
    padding_at,
    record_batch,
)
from lumatile.format.tile_rows import IndexedRows, TileRows, no_rows

SHARED_BYTES = 1 << 20
"""A shared batch is written when its payloads reach this many bytes, or when it has `SHARED_ROWS` rows."""

SHARED_ROWS = 1 << 14

_MAGIC = MAGIC + b"\0\0"


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
        padding = padding_at(position, len(rows.index), rows.payload.nbytes)
        self._writer.write_batch(record_batch(rows), custom_metadata={"pad": " " * padding})
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
        message = compressed_message(record_batch(joined(parts)))
        head = 8 + int.from_bytes(message.slice(4, 4).to_pybytes(), "little")
        self._blocks.append((self._file.tell(), head, 0, message.size - head))
        self._file.write(message)

    def finish(self) -> None:
        """Write the footer and make the file durable. Raises OSError."""
        self._write_shared()
        twin = pa.BufferOutputStream()
        with pa.ipc.new_file(twin, self._schema) as writer:
            writer.write_batch(record_batch(no_rows()))
        end = twin.getvalue().to_pybytes()
        footer = end[-END_BYTES - footer_size(end[-END_BYTES:]) : -END_BYTES]
        footer = with_batches(footer, np.array(self._blocks, BLOCK))
        self._file.write(END_OF_STREAM + footer + len(footer).to_bytes(4, "little") + MAGIC)
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
