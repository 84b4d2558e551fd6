"""Reading the tiles file of a segment: the protocol of its readers, and the parsing of its record batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lumatile.errors import CorruptStoreError
from lumatile.format.tile_rows import Codec, TileRows

Where = Any
"""Where the stored bytes of a row are: what a reader gives and takes."""

RowsOfFrame = tuple[TileRows, NDArray[np.uint32], Sequence[Where]]
"""The rows of a record batch (their payload may be empty: far away), their CRC32Cs as stored, where their bytes are."""


class TilesReader(Protocol):
    """An open tiles file. Batches are read, and checked, when they are asked for: all raises CorruptStoreError."""

    @property
    def path(self) -> Path | str:
        """A path, or a URL."""
        ...

    def __len__(self) -> int:
        """Its record batches."""
        ...

    def batch(self, i: int) -> tuple[int, TileRows, NDArray[np.uint32]]:
        """Record batch `i`: the frame row it belongs to, its rows, their CRC32Cs as stored."""
        ...

    def rows_of_frame(self, frame: int) -> Iterator[RowsOfFrame]:
        """The record batches of frame row `frame`."""
        ...

    def payloads(self, where: Sequence[Where]) -> list[NDArray[np.uint8]]:
        """The stored bytes of rows."""
        ...


def read_batch(batch: pa.RecordBatch, what: str) -> tuple[int, TileRows, NDArray[np.uint32]]:
    """A record batch: the frame row it belongs to, its rows, views of it, and their CRC32Cs as stored.

    Raises CorruptStoreError, which begins with `what`.
    """
    frame, columns, checksums = read_columns(batch, what)
    payload = batch.column(0)
    _, offsets_buffer, data = payload.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int64, len(payload) + 1, 8 * payload.offset)
    low, high = int(offsets[0]), int(offsets[-1])
    stored = np.frombuffer(data, np.uint8)[low:high] if high > low else np.zeros(0, np.uint8)
    return frame, TileRows(**columns, offsets=offsets - low, payload=stored), checksums


def read_columns(batch: pa.RecordBatch, what: str) -> tuple[int, dict[str, Any], NDArray[np.uint32]]:
    """All of a record batch but the payload: the frame row, the other fields of TileRows, the CRC32Cs as stored.

    Raises CorruptStoreError, which begins with `what`.
    """
    try:
        batch.validate(full=True)
    except pa.ArrowException as e:
        raise CorruptStoreError(f"{what}: {e}") from e
    frame, plane, codec = (_single(batch, name, what) for name in ("frame", "plane", "codec"))
    columns: dict[str, Any] = {
        name: batch.column(name).to_numpy() for name in ("level", "x", "y", "width", "height", "row_pitch", "raw_size")
    }
    ranges = np.stack([batch.column(name).to_numpy(zero_copy_only=False) for name in ("value_min", "value_max")], 1)
    columns |= {"plane": plane, "codec": cast("Codec", codec), "value_range": ranges.astype(np.float64, copy=False)}
    return frame, columns, batch.column("crc32c").to_numpy()


def _single(batch: pa.RecordBatch, name: str, what: str) -> Any:
    """The value that all rows of a column of one batch have."""
    column = batch.column(name)
    values = column.unique()
    if len(values) != 1 or column.null_count:
        raise CorruptStoreError(f"{what}: {name} must be one value, not {len(values)}")
    return values[0].as_py()
