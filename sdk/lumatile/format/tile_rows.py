"""Rows of a tiles file, as a pipeline passes them to a segment writer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Codec = Literal["raw", "lz4", "zstd"]


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
