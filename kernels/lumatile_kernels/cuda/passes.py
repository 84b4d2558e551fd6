"""The arguments of a launch: the geometry of the pyramid of a frame, in the form that the kernels read.

A pass makes up to six levels from one input; a taller pyramid takes another pass, from the level that the first pass
has carried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumatile_kernels.layout import PyramidLayout, pyramid_layout
from lumatile_kernels.pyramid import PyramidPlan, block_ends

BLOCK = 64
"""The edge of the square of a block, in texels."""

LEVELS = 6
"""The number of levels that a pass stores."""

MAX_FRAMES = 32
"""The most frames of one launch."""

PAGE = 4096
"""Frames and planes begin at multiples of this in device memory, so that they can in the files too."""

PASS = np.dtype(
    [
        ("height", np.int32, LEVELS + 1),
        ("width", np.int32, LEVELS + 1),
        ("first_row", np.int32, LEVELS),
        ("levels", np.int32),
        ("frames", np.int32),
        ("blocks_y", np.int32),
        ("blocks_x", np.int32),
        ("meter", np.float32),
        ("low", np.float32),
        ("high", np.float32),
        ("carries", np.int32),
        ("rows", np.uint64),
        ("out", np.uint64),
        ("out_stride", np.int64),
        ("ranges", np.uint64),
        ("ranges_stride", np.int64),
        ("carry", np.uint64),
        ("carry_stride", np.int64),
        ("light", np.uint64),
        ("halves", np.uint64),
        ("buckets", np.uint64),
        ("palette", np.uint64),
        ("sources", np.uint64, MAX_FRAMES),
    ],
    align=True,
)
"""The struct Pass of pyramid.cu."""


def page_ceil(nbytes: int) -> int:
    """Return `nbytes`, rounded up to whole pages."""
    return -(-nbytes // PAGE) * PAGE


@dataclass(frozen=True, kw_only=True)
class PlannedBlock:
    """A TileBlock that a frame will have."""

    plane: int
    """The index of the plane."""
    start: int
    """The byte offset in the device memory of the frame."""
    nbytes: int
    tiles: slice
    """The entries of its tiles in the TileIndex of the plane."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameLayout:
    """The layout of all planes of one frame in device memory."""

    planes: tuple[PyramidLayout, ...]
    nbytes: int
    """The size of a frame in bytes, in whole pages."""
    rows: NDArray[np.int64]
    """(tile rows, 3), by level and then from top to bottom: the index of the first tile, and its byte offset in plane 0
    and in plane 1 from the beginning of the frame."""
    blocks: tuple[PlannedBlock, ...]
    """The blocks in the order of the host backends: by the completion of their last tile rows, plane by plane."""

    @property
    def tiles(self) -> int:
        """The number of tiles of each plane."""
        return len(self.planes[0].index)

    def passes(self) -> list[NDArray[Any]]:
        """Return a PASS for each pass, without the fields that a launch adds; `carry_stride` is in texels."""
        levels = self.planes[0].levels
        by_level = np.cumsum([0, *(-(-h // 256) for h, _ in levels)])
        passes = []
        for first in range(0, len(levels), LEVELS):
            here = np.zeros(1, PASS)
            own = levels[first : first + LEVELS + 1]
            here["height"][0, : len(own)], here["width"][0, : len(own)] = zip(*own, strict=True)
            stored = min(LEVELS, len(levels) - first)
            here["first_row"][0, :stored] = by_level[first : first + stored]
            here["levels"] = stored
            here["blocks_y"], here["blocks_x"] = (-(-size // BLOCK) for size in own[0])
            if len(own) > LEVELS:
                here["carries"] = 1
                here["carry_stride"] = own[LEVELS][0] * own[LEVELS][1]
            passes.append(here)
        return passes


@lru_cache(maxsize=64)
def frame_layout(height: int, width: int, plan: PyramidPlan) -> FrameLayout:
    """Return the layout of a (height, width) array; both are at least 1."""
    planes = tuple(pyramid_layout(height, width, plane.texel_bytes) for plane in plan.planes)
    starts = [0]
    for plane in planes:
        starts.append(page_ceil(starts[-1] + plane.nbytes))
    order = sorted(range(len(planes[0].rows)), key=lambda i: (planes[0].rows[i].level, planes[0].rows[i].y))
    rows = np.zeros((len(order), 3), np.int64)
    rows[:, 0] = [planes[0].rows[i].tiles.start for i in order]
    for p, plane in enumerate(planes):
        rows[:, 1 + p] = [starts[p] + plane.rows[i].offset for i in order]
    return FrameLayout(planes=planes, nbytes=starts[-1], rows=rows, blocks=_blocks(planes, starts))


def _blocks(planes: Sequence[PyramidLayout], starts: Sequence[int]) -> tuple[PlannedBlock, ...]:
    found: list[tuple[int, PlannedBlock]] = []
    for p, plane in enumerate(planes):
        ends, first = block_ends(plane), 0
        for last, row in enumerate(plane.rows):
            if row.offset + row.nbytes == ends[0]:
                start = plane.rows[first].offset
                block = PlannedBlock(
                    plane=p,
                    start=starts[p] + start,
                    nbytes=ends.pop(0) - start,
                    tiles=slice(plane.rows[first].tiles.start, row.tiles.stop),
                )
                found.append((last, block))
                first = last + 1
    return tuple(block for _, block in sorted(found, key=lambda entry: (entry[0], entry[1].plane)))
