"""Rows of a tiles file, as a pipeline passes them to a segment writer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Codec = Literal["raw", "lz4", "zstd"]

INDEX_ROW = np.dtype(
    [
        ("plane", "S16"),
        ("codec", "S8"),
        ("level", "<i4"),
        ("x", "<i4"),
        ("y", "<i4"),
        ("width", "<i4"),
        ("height", "<i4"),
        ("row_pitch", "<i8"),
        ("raw_size", "<i8"),
        ("size", "<i8"),
        ("value_min", "<f8"),
        ("value_max", "<f8"),
        ("crc32c", "<u4"),
    ]
)
"""One tiles row without its payload, packed. A frame's `index_crc32c` is the checksum of these, row after row."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TileRows:
    """n consecutive rows of a tiles file, all of one frame, one plane and one codec: they become one record batch."""

    plane: str
    """The plane: pixels, ids, colors, source; points: position, color, radius, class_id, keypoint_id, identifier,
    label, source_index."""
    codec: Codec
    level: NDArray[np.int32]
    """(n,): the level; 0 is the finest."""
    x: NDArray[np.int32]
    """(n,): the column of the tile; points: the chunk within the level."""
    y: NDArray[np.int32]
    """(n,): the row of the tile; source: the part; points: 0."""
    width: NDArray[np.int32]
    """(n,): the width in texels; points: the number of points in the chunk; source: 0."""
    height: NDArray[np.int32]
    """(n,): the height in texels; points: 1; source: 0."""
    row_pitch: NDArray[np.int64]
    """(n,): the bytes from one row of texels to the next; points and source: raw_size."""
    raw_size: NDArray[np.int64]
    """(n,): the bytes of the payload before its codec."""
    offsets: NDArray[np.int64]
    """(n+1,): row i has the bytes offsets[i] to offsets[i+1] (exclusive) of `payload`; offsets[0] is 0."""
    payload: NDArray[np.uint8]
    """(offsets[-1],): the stored bytes, row after row; contiguous."""
    value_range: NDArray[np.float64] | None = None
    """(n, 2): the least and the greatest valid value; NaN where there is none, None where there are none at all."""


@dataclass(frozen=True, kw_only=True, eq=False)
class IndexedRows:
    """n consecutive rows of a tiles file, of any frames and planes, with their checksums."""

    frame: NDArray[np.int64]
    """(n,): the row of its frame in the segment's frames file; ascending."""
    index: NDArray[np.void]
    """(n,) of dtype INDEX_ROW."""
    offsets: NDArray[np.int64]
    """(n+1,): row i has the bytes offsets[i] to offsets[i+1] (exclusive) of `payload`; offsets[0] is 0."""
    payload: NDArray[np.uint8]
    """(offsets[-1],): the stored bytes, row after row; contiguous."""

    def of_frame(self, frame: int) -> IndexedRows:
        """Return the rows of one frame; they share the arrays of these."""
        first, last = np.searchsorted(self.frame, [frame, frame + 1]).tolist()
        start, stop = self.offsets[[first, last]].tolist()
        return IndexedRows(
            frame=self.frame[first:last],
            index=self.index[first:last],
            offsets=self.offsets[first : last + 1] - start,
            payload=self.payload[start:stop],
        )

    def frames(self) -> list[int]:
        """Return the different frames, ascending."""
        different: list[int] = np.unique(self.frame).tolist()
        return different


def no_rows() -> IndexedRows:
    """Return 0 rows."""
    return IndexedRows(
        frame=np.zeros(0, np.int64),
        index=np.zeros(0, INDEX_ROW),
        offsets=np.zeros(1, np.int64),
        payload=np.zeros(0, np.uint8),
    )
