"""Compression of tile rows, each row by itself, so that any one can be read without the others."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lumatile.buffers import POOL
from lumatile.format.tile_rows import Codec, TileRows
from lumatile_kernels.threads import Threads


def compress(rows: TileRows, codec: Codec, threads: Threads) -> TileRows:
    """Return raw `rows` with each payload compressed: lz4 (frame format) or zstd."""
    if codec == "raw":
        return rows
    payloads = [rows.payload[first:last] for first, last in pairwise(rows.offsets.tolist())]
    edges = [len(payloads) * i // threads.count for i in range(threads.count + 1)]
    shares = threads.run([partial(_compress_all, payloads[first:last], codec) for first, last in pairwise(edges)])
    parts = [part for share in shares for part in share]
    offsets = np.cumsum([0, *(part.size for part in parts)], dtype=np.int64)
    payload = POOL.take(int(offsets[-1]))
    for part, first, last in zip(parts, offsets[:-1], offsets[1:], strict=True):
        payload[first:last] = np.frombuffer(part, np.uint8)
    return replace(rows, codec=codec, offsets=offsets, payload=payload)


def _compress_all(payloads: list[NDArray[np.uint8]], codec: Codec) -> list[pa.Buffer]:
    encoder = pa.Codec(codec)
    return [encoder.compress(pa.py_buffer(payload)) for payload in payloads]
