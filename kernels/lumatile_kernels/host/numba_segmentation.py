"""Segmentation kernels.

A kernel takes row pairs `first` to `last` of a band, in thread `part`. `texels` are the band's tiles of ids, `colors`
those of colors as uint32; `half` is empty where the band is not halved; `lows` and `highs`, (pairs, tiles), hold the
greatest possible id and 0 and take the least and greatest id of each row pair in each tile.
"""

# ruff: noqa: ARG001, PLR0917 - compiled functions take many arrays; all kernels are called alike

from __future__ import annotations

from typing import Any

from lumatile_kernels.host.numba_jit import kernel
from lumatile_kernels.layout import PITCH, TILE

COLOR_UNIT = PITCH // 4
"""Rows of colors are padded to a multiple of this number of texels."""


@kernel
def store_row(texels: Any, colors: Any, y: Any, rows: Any, ids: Any, palette: Any, lows: Any, highs: Any) -> None:
    """Store row `y` of a band, as ids and as colors; `lows` and `highs`: (tiles,)."""
    width, id_unit = len(ids), PITCH // ids.itemsize
    for tile in range(len(lows)):
        line = ids[tile * TILE : min(tile * TILE + TILE, width)]
        pitch = -(-len(line) // id_unit) * id_unit
        start = tile * TILE * rows + y * pitch
        out = texels[start : start + pitch]
        low, high = lows[tile], highs[tile]
        for x in range(len(line)):
            out[x] = line[x]
            low, high = min(low, line[x]), max(high, line[x])
        for x in range(len(line), pitch):
            out[x] = 0
        lows[tile], highs[tile] = low, high
        pitch = -(-len(line) // COLOR_UNIT) * COLOR_UNIT
        start = tile * TILE * rows + y * pitch
        shown = colors[start : start + pitch]
        for x in range(len(line)):
            shown[x] = palette[line[x]]
        for x in range(len(line), pitch):
            shown[x] = 0


@kernel
def mode(a: Any, b: Any, c: Any, d: Any) -> Any:
    """Return the most frequent of four values; of equally frequent values the first."""
    if a in (b, c, d):
        return a
    if b in (c, d):
        return b
    return c if c == d else a


@kernel
def halve(out: Any, upper: Any, lower: Any) -> None:
    """Write the mode of each 2x2 square of two rows."""
    last = len(upper) - 1
    for x in range(len(upper) // 2):
        out[x] = mode(upper[2 * x], upper[2 * x + 1], lower[2 * x], lower[2 * x + 1])
    if last % 2 == 0:
        out[last // 2] = mode(upper[last], upper[last], lower[last], lower[last])


@kernel
def id_rows(
    band: Any,
    palette: Any,
    texels: Any,
    colors: Any,
    half: Any,
    lows: Any,
    highs: Any,
    part: int,
    first: int,
    last: int,
) -> None:
    """Store and halve a level, (rows, width) ids; `palette`: (256,) or (65536,) uint32."""
    rows = len(band)
    for pair in range(first, last):
        lower = min(2 * pair + 1, rows - 1)
        for y in range(2 * pair, lower + 1):
            store_row(texels, colors, y, rows, band[y], palette, lows[pair], highs[pair])
        if len(half):
            halve(half[pair], band[2 * pair], band[lower])
