"""Tile rows through a codec, row by row, so that any one can be read alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa

from lumatile.buffers import POOL
from lumatile.tile_rows import Codec, TileRows


def compress(rows: TileRows, codec: Codec) -> TileRows:
    """`rows`, which are raw, with each payload compressed: lz4 (frame format) or zstd."""
    if codec == "raw":
        return rows
    encoder = pa.Codec(codec)
    parts = [
        encoder.compress(pa.py_buffer(rows.payload[first:last]))
        for first, last in zip(rows.offsets[:-1], rows.offsets[1:], strict=True)
    ]
    offsets = np.cumsum([0, *(part.size for part in parts)], dtype=np.int64)
    payload = POOL.take(int(offsets[-1]))
    for part, first, last in zip(parts, offsets[:-1], offsets[1:], strict=True):
        payload[first:last] = np.frombuffer(part, np.uint8)
    return replace(rows, codec=codec, offsets=offsets, payload=payload)
