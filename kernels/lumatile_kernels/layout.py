"""Pyramid geometry: the levels, tiles and bytes that an array of a given size becomes, and the levels of a cloud.

All of it is arithmetic on sizes, so it is the same for every backend and known before any texel is computed.

Tile rows are ordered by completion when the array is read from top to bottom: rows 0 and 1 of level 0, then row 0 of
level 1, and so on; the coarsest level is last. A payload in this order can be written while the rest of it is still
being computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

TILE = 256
"""The edge of a tile in texels; tiles at the right and bottom edges are cropped."""

PITCH = 256
"""The row pitch is a multiple of this number of bytes: WebGPU's rule for copies from buffers to textures."""


def level_sizes(height: int, width: int) -> tuple[tuple[int, int], ...]:
    """Return the (height, width) of all levels: level n+1 is level n halved, rounded up, until both are <= 256."""
    sizes = [(height, width)]
    while max(sizes[-1]) > TILE:
        h, w = sizes[-1]
        sizes.append((-(-h // 2), -(-w // 2)))
    return tuple(sizes)


def row_pitch(width: int, texel_bytes: int) -> int:
    """Return the bytes from one texel row of a tile to the next."""
    return -(-width * texel_bytes // PITCH) * PITCH


@dataclass(frozen=True, kw_only=True, eq=False)
class TileIndex:
    """The positions of the tiles of a payload: one entry per tile, in payload order; every field has shape (n,)."""

    level: NDArray[np.int32]
    x: NDArray[np.int32]
    """The tile column."""
    y: NDArray[np.int32]
    """The tile row."""
    width: NDArray[np.int32]
    """In texels."""
    height: NDArray[np.int32]
    """In texels."""
    row_pitch: NDArray[np.int64]
    """The bytes from one row of texels to the next."""
    offset: NDArray[np.int64]
    """The byte offset in the payload."""
    size: NDArray[np.int64]
    """The size in bytes: height * row_pitch."""

    def __len__(self) -> int:
        return len(self.level)

    def __getitem__(self, part: slice) -> TileIndex:
        """Return the entries of `part`; offsets stay relative to the whole payload."""
        return TileIndex(**{f.name: getattr(self, f.name)[part] for f in fields(self)})


@dataclass(frozen=True, kw_only=True)
class TileRow:
    """A row of tiles of one level: up to 256 texel rows over the whole width of the level."""

    level: int
    y: int
    """The number of the tile row within the level."""
    width: int
    """The width of the level, in texels."""
    height: int
    """The height of this tile row, in texels: 256, or less for the last of the level."""
    offset: int
    """The byte offset of the first tile in the payload."""
    nbytes: int
    """The size of all its tiles in bytes; they follow each other from left to right."""
    tiles: slice
    """The entries of its tiles in the TileIndex of the payload."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PyramidLayout:
    """The layout of the payload of one plane of one frame."""

    height: int
    width: int
    texel_bytes: int
    levels: tuple[tuple[int, int], ...]
    """The (height, width) of each level, in texels."""
    rows: tuple[TileRow, ...]
    """All tile rows, in payload order (the order in which they complete)."""
    index: TileIndex
    """All tiles, in payload order."""
    nbytes: int
    """The size of the whole payload in bytes; a multiple of 256."""


def _completion_order(levels: tuple[tuple[int, int], ...]) -> Iterator[tuple[int, int]]:
    """Yield each (level, tile row) in the order in which they complete when level 0 is read from top to bottom."""
    counts = [-(-h // TILE) for h, _ in levels]
    done = [0] * len(levels)
    for y0 in range(counts[0]):
        yield 0, y0
        done[0] += 1
        for level in range(1, len(levels)):
            # a tile row needs two rows of the finer level, or only its last one
            if done[level - 1] < counts[level - 1] and done[level - 1] % 2:
                break
            yield level, done[level]
            done[level] += 1


@lru_cache(maxsize=256)
def pyramid_layout(height: int, width: int, texel_bytes: int) -> PyramidLayout:
    """Return the layout of the full pyramid of a (height, width) array with `texel_bytes` bytes per texel.

    An array without texels has one level and no tiles.
    """
    levels = level_sizes(height, width)
    rows: list[TileRow] = []
    columns: list[tuple[int, ...]] = []
    offset = 0
    for level, y in _completion_order(levels) if height and width else ():
        h, w = levels[level]
        tile_height = min(TILE, h - y * TILE)
        first, start = len(columns), offset
        for x in range(-(-w // TILE)):
            tile_width = min(TILE, w - x * TILE)
            pitch = row_pitch(tile_width, texel_bytes)
            columns.append((level, x, y, tile_width, tile_height, pitch, offset, tile_height * pitch))
            offset += tile_height * pitch
        rows.append(
            TileRow(
                level=level,
                y=y,
                width=w,
                height=tile_height,
                offset=start,
                nbytes=offset - start,
                tiles=slice(first, len(columns)),
            )
        )
    table = np.array(columns, np.int64).reshape(-1, 8).T
    table.flags.writeable = False
    index = TileIndex(
        level=table[0].astype(np.int32),
        x=table[1].astype(np.int32),
        y=table[2].astype(np.int32),
        width=table[3].astype(np.int32),
        height=table[4].astype(np.int32),
        row_pitch=table[5],
        offset=table[6],
        size=table[7],
    )
    return PyramidLayout(
        height=height, width=width, texel_bytes=texel_bytes, levels=levels, rows=tuple(rows), index=index, nbytes=offset
    )


COARSEST_POINTS = 1 << 16
"""The most points that the coarsest level of a cloud may have."""


def level_counts(points: int) -> tuple[int, ...]:
    """Return the number of points in levels 0, 1 ... k of a cloud of `points` points.

    The point of rank i belongs to level n, where 4^n is the greatest power of 4, at most 4^k, that divides i; rank 0
    belongs to level k. k is the least number that leaves at most 65,536 points in level k.
    """
    counts = []
    while points > COARSEST_POINTS:
        coarser = -(-points // 4)
        counts.append(points - coarser)
        points = coarser
    return (*counts, points)
