"""The processing of a frame on the host: from top to bottom, one row of tiles after another, in bounded memory.

Each level keeps one band of at most 256 texel rows. A full band is stored as a row of tiles and halved into the band of
the next level, so the rows of all levels complete in the order of `pyramid_layout`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lumatile_kernels.backend import BLOCK_BYTES, Allocate, Plane, TileBlock, TileFormat
from lumatile_kernels.layout import TILE, PyramidLayout, TileRow, level_sizes, pyramid_layout


@dataclass(frozen=True, kw_only=True)
class PlaneFormat:
    """The format of a plane."""

    plane: Plane
    texel_bytes: int
    ranges: bool
    """Whether the least and the greatest value of each tile are kept."""


@dataclass(frozen=True, kw_only=True)
class PyramidPlan:
    """The planes that one kind of array becomes, and the form of its levels until they are stored."""

    planes: tuple[PlaneFormat, ...]
    carried: np.dtype[Any]
    """The type of levels above 0, which are (rows, channels, width) arrays until they are stored."""
    channels: int


@cache
def image_plan(tile_format: TileFormat, channels: int) -> PyramidPlan:
    """Return the plan of an image.

    Levels are carried as linear light premultiplied by alpha, with the channels that the image has.
    """
    texel_bytes = {"linear": 8, "srgb8": 4, "rgba32float": 16}[tile_format]
    pixels = PlaneFormat(plane="pixels", texel_bytes=texel_bytes, ranges=False)
    return PyramidPlan(planes=(pixels,), carried=np.dtype(np.float32), channels=channels)


def depth_plan() -> PyramidPlan:
    """Return the plan of a depth image; levels are carried in metres, 0 where invalid."""
    pixels = PlaneFormat(plane="pixels", texel_bytes=4, ranges=True)
    return PyramidPlan(planes=(pixels,), carried=np.dtype(np.float32), channels=1)


def segmentation_plan(dtype: np.dtype[Any]) -> PyramidPlan:
    """Return the plan of a segmentation; levels are carried as ids of its own dtype."""
    ids = PlaneFormat(plane="ids", texel_bytes=dtype.itemsize, ranges=True)
    colors = PlaneFormat(plane="colors", texel_bytes=4, ranges=False)
    return PyramidPlan(planes=(ids, colors), carried=dtype, channels=1)


class Step(Protocol):
    """A function that stores and halves a band: at most 256 rows of a level."""

    def __call__(
        self, band: NDArray[Any], payloads: Sequence[NDArray[np.uint8]], half: NDArray[Any]
    ) -> NDArray[np.float64] | None:
        """Store and halve a band.

        Args:
            band: level 0: rows of the array that was given to the backend; else (rows, channels, width), as carried.
            payloads: the row of tiles that the band becomes, one (nbytes,) uint8 array per plane, padding included.
            half: the band halved, (ceil(rows/2), channels, ceil(width/2)); the last row or column is repeated if a size
                is odd. Nothing is written if it is empty.

        Returns:
            The least and the greatest valid value of each tile, (n, 2) float64, NaN if it has no valid value; None if
            no plane keeps ranges.
        """
        ...


def stream_tiles(
    array: NDArray[Any], plan: PyramidPlan, source_step: Step, carried_step: Step, allocate: Allocate
) -> Iterator[TileBlock]:
    """Yield the blocks of all planes of `array`, (height, width[, channels]), in the order in which they complete.

    `source_step` processes level 0, and `carried_step` the other levels.
    """
    height, width = array.shape[:2]
    levels = level_sizes(height, width)
    coarsest = np.empty((0, plan.channels, 0), plan.carried)
    layouts = [pyramid_layout(height, width, plane.texel_bytes) for plane in plan.planes]
    if len(levels) == 1 and array.size:  # one tile, and so one block, a plane
        payloads = [allocate(layout.nbytes) for layout in layouts]
        ranges = source_step(array, payloads, coarsest)
        for plane, layout, payload in zip(plan.planes, layouts, payloads, strict=True):
            kept = ranges if plane.ranges else None
            yield TileBlock(plane=plane.plane, tiles=layout.index, payload=payload, value_range=kept)
        return
    bands = [array, *(_band(size, plan, allocate) for size in levels[1:])]
    blocks = [_Blocks(plane, layout, allocate) for plane, layout in zip(plan.planes, layouts, strict=True)]
    for rows in zip(*(b.layout.rows for b in blocks), strict=True):
        row = rows[0]
        half = coarsest
        if row.level + 1 < len(levels):
            start = row.y % 2 * (TILE // 2)
            half = bands[row.level + 1][start : start + -(-row.height // 2)]
        payloads = [b.payload(r) for b, r in zip(blocks, rows, strict=True)]
        if row.level == 0:
            ranges = source_step(array[row.y * TILE :][: row.height], payloads, half)
        else:
            ranges = carried_step(bands[row.level][: row.height], payloads, half)
        for b, r in zip(blocks, rows, strict=True):
            yield from b.complete(r, ranges)


def _band(size: tuple[int, int], plan: PyramidPlan, allocate: Allocate) -> NDArray[Any]:
    """Return the band of a level; its memory comes from `allocate`, which reuses memory, as that of payloads does."""
    height, width = size
    shape = (min(TILE, height), plan.channels, width)
    return allocate(int(np.prod(shape)) * plan.carried.itemsize).view(plan.carried).reshape(shape)


class _Blocks:
    """Gathers the tile rows of one plane into blocks of consecutive rows."""

    def __init__(self, plane: PlaneFormat, layout: PyramidLayout, allocate: Allocate) -> None:
        self.layout = layout
        self._plane = plane
        self._allocate = allocate
        self._ends = block_ends(layout)
        self._first: TileRow | None = None
        """The first row of the block that is being filled; None: there is no such block."""
        self._payload = np.empty(0, np.uint8)
        self._ranges: list[NDArray[np.float64]] = []

    def payload(self, row: TileRow) -> NDArray[np.uint8]:
        """Return the memory for the tiles of `row`."""
        if self._first is None:
            self._first = row
            self._payload = self._allocate(self._ends[0] - row.offset)
        start = row.offset - self._first.offset
        return self._payload[start : start + row.nbytes]

    def complete(self, row: TileRow, ranges: NDArray[np.float64] | None) -> Iterator[TileBlock]:
        """Yield the block that `row` completes, if it completes one."""
        if self._plane.ranges and ranges is not None:
            self._ranges.append(ranges)
        if row.offset + row.nbytes < self._ends[0] or self._first is None:
            return
        tiles = self.layout.index[self._first.tiles.start : row.tiles.stop]
        yield TileBlock(
            plane=self._plane.plane,
            tiles=replace(tiles, offset=tiles.offset - self._first.offset),
            payload=self._payload,
            value_range=np.concatenate(self._ranges) if self._plane.ranges else None,
        )
        del self._ends[0]
        self._first, self._payload, self._ranges = None, np.empty(0, np.uint8), []


def block_ends(layout: PyramidLayout) -> list[int]:
    """Return the byte offsets at which the blocks of a payload end."""
    ends, start = [], 0
    for row in layout.rows:
        end = row.offset + row.nbytes
        if end - start >= BLOCK_BYTES or end == layout.nbytes:
            ends.append(end)
            start = end
    return ends
