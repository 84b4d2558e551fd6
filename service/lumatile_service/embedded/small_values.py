"""Small values: many of them are converted together, and share the record batches of a segment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from crc32c import crc32c

from lumatile.buffers import POOL
from lumatile.format.tile_batches import index_rows
from lumatile.format.tile_rows import INDEX_ROW, IndexedRows, TileRows
from lumatile.values import OVERHEAD, LoggedValue
from lumatile_service.embedded.clouds import SmallCloud
from lumatile_service.embedded.decoding import DecodedValue

SMALL_BYTES = 64 << 10
"""The most bytes of the content of a small value, decoded."""

SMALL_TEXELS = 64 * 64
"""The most texels of a small image, depth image or segmentation."""

SMALL_POINTS = 4096
"""The most points of a small cloud."""


def is_small(decoded: DecodedValue) -> bool:
    """Return whether a value is converted together with others, and its tiles share record batches with theirs."""
    if decoded.nbytes > OVERHEAD + SMALL_BYTES:
        return False
    if (points := decoded.value.points) is not None:
        return len(points) <= SMALL_POINTS
    array = decoded.array
    return array is None or (isinstance(array, np.ndarray) and array.shape[0] * array.shape[1] <= SMALL_TEXELS)


@dataclass(frozen=True, kw_only=True, eq=False)
class SmallFrames:
    """Small values that were converted together."""

    numbers: Sequence[int]
    """The numbers of the values in the sink's queue, from 1."""
    values: Sequence[LoggedValue]
    rows: Sequence[dict[str, Any]]
    """The frames rows, complete."""
    tiles: IndexedRows
    """The tiles rows of all of them; `frame` is the position in `rows`."""

    @property
    def nbytes(self) -> int:
        """The size of the tiles, in bytes."""
        return self.tiles.payload.nbytes


class SmallTiles:
    """The tiles rows of small frames, collected one after another."""

    def __init__(self) -> None:
        """Begin with no rows."""
        self._frames: list[int] = []
        self._entries: list[tuple[Any, ...]] = []
        """The index rows of tiles that were added since."""
        self._indexes: list[bytes] = []
        """The index rows of earlier tiles, packed: to join them as bytes is faster than as arrays of structs."""
        self._payloads: list[Any] = []

    def add_cloud(self, frame: int, cloud: SmallCloud) -> None:
        """Add the planes of a cloud."""
        nan = np.nan
        for plane, payload in cloud.planes:
            size = len(payload)
            width, height = (0, 0) if plane == "source" else (cloud.count, 1)
            entry = (plane.encode(), b"raw", 0, 0, 0, width, height, size, size, size, nan, nan, crc32c(payload))
            self._frames.append(frame)
            self._entries.append(entry)
            self._payloads.append(payload)

    def add(self, frame: int, rows: TileRows) -> None:
        """Add rows of any kind."""
        self._settle()
        self._frames += [frame] * len(rows.level)
        self._indexes.append(index_rows(rows).tobytes())
        self._payloads.append(rows.payload)

    def _settle(self) -> None:
        if self._entries:
            self._indexes.append(np.array(self._entries, INDEX_ROW).tobytes())
            self._entries = []

    def rows(self) -> IndexedRows:
        """Return all rows."""
        self._settle()
        index = np.frombuffer(b"".join(self._indexes), INDEX_ROW)
        offsets = np.zeros(len(index) + 1, np.int64)
        np.cumsum(index["size"], out=offsets[1:])
        payload = POOL.take(int(offsets[-1]))
        if self._payloads:
            np.concatenate([np.frombuffer(each, np.uint8) for each in self._payloads], out=payload)
        return IndexedRows(frame=np.array(self._frames, np.int64), index=index, offsets=offsets, payload=payload)
