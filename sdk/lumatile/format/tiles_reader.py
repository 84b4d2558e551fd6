"""Reading the tiles file of a segment: the protocol of its readers, and the parsing of its record batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lumatile.errors import CorruptStoreError
from lumatile.format.arrow_arrays import numbers_of
from lumatile.format.schema import TILES
from lumatile.format.tile_rows import INDEX_ROW, IndexedRows

Where = Any
"""The location of the stored bytes of a row: each reader has its own form."""


class PayloadReader(Protocol):
    """The payloads of a tiles file, by the locations that its reader has given."""

    @property
    def path(self) -> Path | str:
        """The path or URL of the file."""
        ...

    def payloads(self, where: Sequence[Where]) -> list[NDArray[np.uint8]]:
        """Return the stored bytes of rows. May raise as a `TilesReader` does."""
        ...


class TilesReader(PayloadReader, Protocol):
    """An open tiles file, whose batches are read and checked when they are asked for.

    Every method may raise CorruptStoreError, OSError, and FileNotFoundError where the file is gone.
    """

    @property
    def payload_reader(self) -> PayloadReader:
        """What a frame keeps to read its payloads: no file is open for it."""
        ...

    def __len__(self) -> int:
        """Return the number of its record batches."""
        ...

    def batch(self, i: int) -> tuple[IndexedRows, bool]:
        """Read record batch `i`: its rows with their stored CRC32Cs, and whether it is shared by small frames."""
        ...

    def rows_of_frame(self, frame: int) -> Iterator[tuple[NDArray[np.void], Sequence[Where]]]:
        """Yield the index rows (INDEX_ROW, with the stored CRC32Cs) of frame row `frame`, and their locations."""
        ...


def read_batch(batch: pa.RecordBatch, what: str) -> IndexedRows:
    """Parse a record batch; the payload is a view of it.

    Raises CorruptStoreError, whose message begins with `what`.
    """
    frame, index = read_columns(batch, what)
    payload = batch.column(0)
    _, offsets_buffer, data = payload.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int64, len(payload) + 1, 8 * payload.offset)
    low, high = int(offsets[0]), int(offsets[-1])
    stored = np.frombuffer(data, np.uint8)[low:high] if high > low else np.zeros(0, np.uint8)
    index["size"] = np.diff(offsets)
    return IndexedRows(frame=frame, index=index, offsets=offsets - low, payload=stored)


def read_columns(batch: pa.RecordBatch, what: str) -> tuple[NDArray[np.int64], NDArray[np.void]]:
    """Parse a record batch without its payload: the frame row of each row, and its index rows, whose size is 0.

    Raises CorruptStoreError, whose message begins with `what`.
    """
    try:
        batch.validate(full=True)
    except pa.ArrowException as e:
        raise CorruptStoreError(f"{what}: {e}") from e
    if not len(batch) or any(
        batch.column(name).null_count for name in batch.schema.names if not TILES.field(name).nullable
    ):
        raise CorruptStoreError(f"{what}: it has no rows, or nulls")
    index = np.zeros(len(batch), INDEX_ROW)
    for name in ("plane", "codec"):
        texts = batch.column(name).to_pylist()
        if not all(text.isascii() and len(text) <= INDEX_ROW[name].itemsize for text in texts):
            raise CorruptStoreError(f"{what}: {name} must be at most {INDEX_ROW[name].itemsize} ASCII characters")
        index[name] = np.array(texts, np.bytes_)
    for name in ("level", "x", "y", "width", "height", "row_pitch", "raw_size", "crc32c"):
        index[name] = numbers_of(batch.column(name))
    for name in ("value_min", "value_max"):
        index[name] = numbers_of(batch.column(name), null=np.nan)
    frame = numbers_of(batch.column("frame"))
    if (np.diff(frame) < 0).any():
        raise CorruptStoreError(f"{what}: its frames are not in order")
    return frame, index
