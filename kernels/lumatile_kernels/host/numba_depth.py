"""Depth kernels. Metres are handled as the bits of float32: those of valid depths are positive and sort as integers.

A kernel takes row pairs `first` to `last` of a band, in thread `part`. `texels` are the band's tiles as int32; `half`
is empty where the band is not halved; `lows` and `highs`, (pairs, tiles), hold NOTHING and 0 and take the least and
greatest valid depth of each row pair in each tile.
"""

# ruff: noqa: ARG001, PLR0917 - compiled functions take many arrays; all kernels are called alike

from __future__ import annotations

from typing import Any

import numpy as np

from lumatile_kernels.host.numba_jit import kernel
from lumatile_kernels.layout import PITCH, TILE

PITCH_TEXELS = PITCH // 4
f32 = np.float32
i32 = np.int32

NOTHING = i32(0x7F800000)
"""The bits of infinity."""


@kernel
def metres(out: Any, values: Any, meter: Any) -> None:
    """Convert a row of values to metres, 0 where invalid."""
    for x in range(len(values)):
        depth = f32(f32(values[x]) / meter).view(np.int32)
        finite = depth if depth < NOTHING else i32(0)
        out[x] = max(finite, i32(0))  # the bits of negative ones are negative


@kernel
def store_row(texels: Any, y: Any, rows: Any, depths: Any, lows: Any, highs: Any) -> None:
    """Store row `y` of a band; `lows` and `highs`: (tiles,)."""
    width = len(depths)
    for tile in range(len(lows)):
        left, right = tile * TILE, min(tile * TILE + TILE, width)
        pitch = -(-(right - left) // PITCH_TEXELS) * PITCH_TEXELS
        start = left * rows + y * pitch
        out, line = texels[start : start + pitch], depths[left:right]
        low, high = lows[tile], highs[tile]
        for x in range(len(line)):
            out[x] = line[x]
            high = max(high, line[x])
            low = min(low, line[x] if line[x] > 0 else NOTHING)
        for x in range(len(line), pitch):
            out[x] = i32(0)
        lows[tile], highs[tile] = low, high


@kernel
def lower_median(a: Any, b: Any, c: Any, d: Any) -> Any:
    """Return the lower median of the valid values among four, 0 if none is valid."""
    a = a if a > 0 else NOTHING
    b = b if b > 0 else NOTHING
    c = c if c > 0 else NOTHING
    d = d if d > 0 else NOTHING
    one, other = max(min(a, b), min(c, d)), min(max(a, b), max(c, d))
    smallest, second, third = min(a, b, c, d), min(one, other), max(one, other)
    median = second if third < NOTHING else smallest
    return median if median < NOTHING else i32(0)


@kernel
def halve(out: Any, upper: Any, lower: Any) -> None:
    """Write the lower median of each 2x2 square of two rows."""
    last = len(upper) - 1
    for x in range(len(upper) // 2):
        out[x] = lower_median(upper[2 * x], upper[2 * x + 1], lower[2 * x], lower[2 * x + 1])
    if last % 2 == 0:
        out[last // 2] = lower_median(upper[last], upper[last], lower[last], lower[last])


@kernel
def depth_rows(
    band: Any,
    meter: Any,
    scratch: Any,
    texels: Any,
    half: Any,
    lows: Any,
    highs: Any,
    part: int,
    first: int,
    last: int,
) -> None:
    """Store and halve level 0, (rows, width), of any real dtype; `scratch`: (parts, 2, width) int32."""
    rows, depths = len(band), scratch[part]
    for pair in range(first, last):
        for y in range(2 * pair, min(2 * pair + 2, rows)):
            metres(depths[y % 2], band[y], meter)
            store_row(texels, y, rows, depths[y % 2], lows[pair], highs[pair])
        if len(half):
            halve(half[pair], depths[0], depths[min(2 * pair + 1, rows - 1) % 2])


@kernel
def carried_rows(
    band: Any,
    texels: Any,
    half: Any,
    lows: Any,
    highs: Any,
    part: int,
    first: int,
    last: int,
) -> None:
    """Store and halve any other level, (rows, width) int32."""
    rows = len(band)
    for pair in range(first, last):
        lower = min(2 * pair + 1, rows - 1)
        for y in range(2 * pair, lower + 1):
            store_row(texels, y, rows, band[y], lows[pair], highs[pair])
        if len(half):
            halve(half[pair], band[2 * pair], band[lower])
