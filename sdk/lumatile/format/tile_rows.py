"""Rows of a tiles file, as a pipeline hands them to a segment writer."""

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
    """pixels, ids, colors, source; points: position, color, radius, class_id, keypoint_id, identifier, label,
    source_index."""
    codec: Codec
    level: NDArray[np.int32]
    """(n,)"""
    x: NDArray[np.int32]
    """(n,): tile column; points: chunk within the level."""
    y: NDArray[np.int32]
    """(n,): tile row; source: part; points: 0."""
    width: NDArray[np.int32]
    """(n,): texels; points: points in the chunk; source: 0."""
    height: NDArray[np.int32]
    """(n,): texels; points: 1; source: 0."""
    row_pitch: NDArray[np.int64]
    """(n,): bytes; points and source: raw_size."""
    raw_size: NDArray[np.int64]
    """(n,): bytes of the payload before its codec."""
    offsets: NDArray[np.int64]
    """(n+1,): where each row's stored bytes begin and end in `payload`; offsets[0] is 0."""
    payload: NDArray[np.uint8]
    """(offsets[-1],), contiguous: the stored bytes, row after row."""
    value_range: NDArray[np.float64] | None = None
    """(n, 2): least and greatest valid value; NaN, or None for all, where there is none."""
