"""A tiles file that is mapped into memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lumatile.errors import CorruptStoreError
from lumatile.format.schema import TILES
from lumatile.format.tile_rows import TileRows
from lumatile.format.tiles_reader import RowsOfFrame, Where, read_batch


class MappedTiles:
    """A mapped tiles file, a `TilesReader`: payloads are views of the map."""

    def __init__(self, path: Path) -> None:
        """Map `path`. Raises FileNotFoundError where it is gone, CorruptStoreError where it is not a tiles file."""
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
        """Return the number of its record batches."""
        return int(self._reader.num_record_batches)

    def batch(self, i: int) -> tuple[int, TileRows, NDArray[np.uint32]]:
        """Read record batch `i`; the payload is a view of the map."""
        try:
            batch = self._reader.get_batch(i)
        except (pa.ArrowException, OSError) as e:
            raise CorruptStoreError(f"{self.path}: record batch {i}: {e}") from e
        return read_batch(batch, f"{self.path}: record batch {i}")

    def rows_of_frame(self, frame: int) -> Iterator[RowsOfFrame]:
        """Yield the record batches of frame row `frame`."""
        for i in self.batches_of_frame(frame):
            _, rows, checksums = self.batch(i)
            yield rows, checksums, [rows.payload[a:b] for a, b in pairwise(rows.offsets.tolist())]

    def payloads(self, where: Sequence[Where]) -> list[NDArray[np.uint8]]:
        """Return the bytes, which are views already."""
        return list(where)

    def frame_of_batch(self, i: int) -> int:
        """Return the frame row that record batch `i` belongs to."""
        try:
            batch = self._reader.get_batch(i)
        except (pa.ArrowException, OSError) as e:
            raise CorruptStoreError(f"{self.path}: record batch {i}: {e}") from e
        frame = batch.column("frame")[0].as_py() if len(batch) else None
        if frame is None:
            raise CorruptStoreError(f"{self.path}: record batch {i} belongs to no frame")
        return int(frame)

    def batches_of_frame(self, frame: int) -> range:
        """Return the record batches of frame row `frame`, found by bisection: they are in the order of their frames."""
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
