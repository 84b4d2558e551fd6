"""Reading the tiles file of a segment, through a memory map."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lumatile.errors import CorruptStoreError
from lumatile.schema import TILES
from lumatile.tile_rows import Codec, TileRows


class TilesReader:
    """A mapped tiles file. Batches are read, and checked, when they are asked for."""

    def __init__(self, path: Path) -> None:
        """Map `path`. Raises FileNotFoundError where it is gone, CorruptStoreError where it is no tiles file."""
        self.path = path
        try:
            self._reader = pa.ipc.open_file(pa.memory_map(str(path)))
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError) as e:
            raise CorruptStoreError(f"{path}: {e}") from e
        if not self._reader.schema.equals(TILES):
            raise CorruptStoreError(f"{path}: not the columns of a tiles file")

    def __len__(self) -> int:
        """Its record batches."""
        return int(self._reader.num_record_batches)

    def batch(self, i: int) -> tuple[int, TileRows, NDArray[np.uint32]]:
        """Record batch `i`: the frame row it belongs to, its rows, their CRC32Cs as stored.

        The payload is a view of the map. Raises CorruptStoreError.
        """
        try:
            batch = self._reader.get_batch(i)
            batch.validate(full=True)
        except (pa.ArrowException, OSError) as e:
            raise CorruptStoreError(f"{self.path}: record batch {i}: {e}") from e
        frame, plane, codec = (_single(self.path, i, batch, name) for name in ("frame", "plane", "codec"))
        columns: dict[str, Any] = {
            name: batch.column(name).to_numpy()
            for name in ("level", "x", "y", "width", "height", "row_pitch", "raw_size")
        }
        payload = batch.column(0)
        _, offsets_buffer, data = payload.buffers()
        offsets = np.frombuffer(offsets_buffer, np.int64)[payload.offset : payload.offset + len(payload) + 1]
        low, high = int(offsets[0]), int(offsets[-1])
        stored = np.frombuffer(data, np.uint8)[low:high] if high > low else np.zeros(0, np.uint8)
        ranges = np.stack([batch.column(name).to_numpy(zero_copy_only=False) for name in ("value_min", "value_max")], 1)
        tiles = TileRows(
            plane=plane,
            codec=cast("Codec", codec),
            **columns,
            offsets=offsets - low,
            payload=stored,
            value_range=ranges.astype(np.float64, copy=False),
        )
        return frame, tiles, batch.column("crc32c").to_numpy()

    def frame_of_batch(self, i: int) -> int:
        """The frame row that record batch `i` belongs to."""
        try:
            batch = self._reader.get_batch(i)
        except (pa.ArrowException, OSError) as e:
            raise CorruptStoreError(f"{self.path}: record batch {i}: {e}") from e
        frame = batch.column("frame")[0].as_py() if len(batch) else None
        if frame is None:
            raise CorruptStoreError(f"{self.path}: record batch {i} belongs to no frame")
        return int(frame)

    def batches_of_frame(self, frame: int) -> range:
        """The record batches that begin at frame row `frame`: they lie in the order of their frames."""
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self.frame_of_batch(middle) < frame:
                low = middle + 1
            else:
                high = middle
        end = low
        while end < len(self) and self.frame_of_batch(end) == frame:
            end += 1
        return range(low, end)


def _single(path: Path, i: int, batch: pa.RecordBatch, name: str) -> Any:
    """The value that all rows of a column of one batch have."""
    column = batch.column(name)
    values = column.unique()
    if len(values) != 1 or column.null_count:
        raise CorruptStoreError(f"{path}: record batch {i}: {name} must be one value, not {len(values)}")
    return values[0].as_py()
