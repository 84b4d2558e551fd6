"""Reading the tiles file of a segment: the protocol of its readers, and the parsing of its record batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lumatile.errors import CorruptStoreError
from lumatile.format.arrow_arrays import numbers_of
from lumatile.format.tile_rows import Codec, TileRows

Where = Any
"""The location of the stored bytes of a row: each reader has its own form."""

RowsOfFrame = tuple[TileRows, NDArray[np.uint32], Sequence[Where]]
"""The rows of a record batch (without payload, where it is fetched later), their stored CRC32Cs, and locations."""


class TilesReader(Protocol):
    """An open tiles file, whose batches are read and checked when they are asked for.

    Every method may raise CorruptStoreError, OSError, and FileNotFoundError where the file is gone.
    """

    @property
    def path(self) -> Path | str:
        """The path or URL of the file."""
        ...

    def __len__(self) -> int:
        """Return the number of its record batches."""
        ...

    def batch(self, i: int) -> tuple[int, TileRows, NDArray[np.uint32]]:
        """Read record batch `i`: the frame row that it belongs to, its rows, and their stored CRC32Cs."""
        ...

    def rows_of_frame(self, frame: int) -> Iterator[RowsOfFrame]:
        """Yield the record batches of frame row `frame`."""
        ...

    def payloads(self, where: Sequence[Where]) -> list[NDArray[np.uint8]]:
        """Return the stored bytes of rows."""
        ...


def read_batch(batch: pa.RecordBatch, what: str) -> tuple[int, TileRows, NDArray[np.uint32]]:
    """Parse a record batch: the frame row that it belongs to, its rows (views of it), and their stored CRC32Cs.

    Raises CorruptStoreError, whose message begins with `what`.
    """
    frame, columns, checksums = read_columns(batch, what)
    payload = batch.column(0)
    _, offsets_buffer, data = payload.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int64, len(payload) + 1, 8 * payload.offset)
    low, high = int(offsets[0]), int(offsets[-1])
    stored = np.frombuffer(data, np.uint8)[low:high] if high > low else np.zeros(0, np.uint8)
    return frame, TileRows(**columns, offsets=offsets - low, payload=stored), checksums


def read_columns(batch: pa.RecordBatch, what: str) -> tuple[int, dict[str, Any], NDArray[np.uint32]]:
    """Parse a record batch without its payload: the frame row, the other fields of TileRows, the stored CRC32Cs.

    Raises CorruptStoreError, whose message begins with `what`.
    """
    try:
        batch.validate(full=True)
    except pa.ArrowException as e:
        raise CorruptStoreError(f"{what}: {e}") from e
    frame, plane, codec = (_single(batch, name, what) for name in ("frame", "plane", "codec"))
    columns: dict[str, Any] = {
        name: numbers_of(batch.column(name)) for name in ("level", "x", "y", "width", "height", "row_pitch", "raw_size")
    }
    ranges = np.stack([numbers_of(batch.column(name), null=np.nan) for name in ("value_min", "value_max")], 1)
    columns |= {"plane": plane, "codec": cast("Codec", codec), "value_range": ranges.astype(np.float64, copy=False)}
    return frame, columns, numbers_of(batch.column("crc32c"))


def _single(batch: pa.RecordBatch, name: str, what: str) -> Any:
    """Return the one value that all rows of a column of a batch have. Raises CorruptStoreError."""
    column = batch.column(name)
    values = column.unique()
    if len(values) != 1 or column.null_count:
        raise CorruptStoreError(f"{what}: {name} must be one value, not {len(values)}")
    return values[0].as_py()
