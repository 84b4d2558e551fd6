"""A tiles file that is mapped into memory."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lumatile.errors import CorruptStoreError, StoreError
from lumatile.format.schema import TILES
from lumatile.format.tile_rows import IndexedRows
from lumatile.format.tiles_reader import Where, read_batch

KEPT_BATCHES = 16
"""The number of batches that are kept after they were read: many small frames share one, and frames many searches."""

PAD = b"pad"
"""The custom metadata of a batch that is not shared; see docs/store-format.md."""

EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Errors that say nothing about a file: there are too many open or mapped files."""


class MappedPayloads:
    """The payloads of a tiles file that was mapped, which are views: the file need not be open for them."""

    def __init__(self, path: Path) -> None:
        """Note the path, for messages."""
        self.path = path

    def payloads(self, where: Sequence[Where]) -> list[NDArray[np.uint8]]:
        """Return the bytes, which are views already."""
        return list(where)


class MappedTiles(MappedPayloads):
    """A mapped tiles file, a `TilesReader`: payloads are views of the map."""

    def __init__(self, path: Path) -> None:
        """Map `path`.

        Raises FileNotFoundError where it is gone, StoreError where this process may open or map no more files,
        CorruptStoreError where it is not a tiles file.
        """
        super().__init__(path)
        try:
            self._reader = pa.ipc.open_file(pa.memory_map(str(path)))
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError) as e:
            if getattr(e, "errno", None) in EXHAUSTED:
                raise StoreError(f"{path} cannot be read: {e}") from e
            raise CorruptStoreError(f"{path}: {e}") from e
        if not self._reader.schema.equals(TILES):
            raise CorruptStoreError(f"{path}: not the columns of a tiles file")
        self._kept: dict[int, tuple[IndexedRows, bool]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return the number of its record batches."""
        return int(self._reader.num_record_batches)

    def batch(self, i: int) -> tuple[IndexedRows, bool]:
        """Read record batch `i`; the payload of one that is not shared is a view of the map."""
        return self._batch(i)

    def rows_of_frame(self, frame: int) -> Iterator[tuple[NDArray[np.void], Sequence[Where]]]:
        """Yield the rows of frame row `frame`, whose batches are found by bisection: they are in order."""
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self._batch(middle)[0].frame[0] < frame:
                low = middle + 1
            else:
                high = middle
        for i in range(max(0, low - 1), len(self)):  # the frame may begin within the batch before
            rows, _ = self._batch(i)
            if rows.frame[0] > frame:
                return
            rows = rows.of_frame(frame)
            if len(rows.index):
                yield rows.index, [rows.payload[a:b] for a, b in pairwise(rows.offsets.tolist())]

    @property
    def payload_reader(self) -> MappedPayloads:
        """An object that does not keep the file open, as this one does."""
        return MappedPayloads(self.path)

    def _batch(self, i: int) -> tuple[IndexedRows, bool]:
        with self._lock:
            kept = self._kept.get(i)
            if kept is None:
                while len(self._kept) >= KEPT_BATCHES:
                    del self._kept[next(iter(self._kept))]
                kept = self._kept[i] = self._read(i)
            return kept

    def _read(self, i: int) -> tuple[IndexedRows, bool]:
        try:
            batch, metadata = self._reader.get_batch_with_custom_metadata(i)
        except (pa.ArrowException, OSError) as e:
            raise CorruptStoreError(f"{self.path}: record batch {i}: {e}") from e
        return read_batch(batch, f"{self.path}: record batch {i}"), PAD not in (metadata or {})
