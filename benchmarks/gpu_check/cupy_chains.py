"""The work of the kernels as elementwise operations on arrays of numpy or CuPy (`xp`): levels, not cut into tiles.

Frames are stacked: (n, height, width[, channels]).
"""

from __future__ import annotations

from typing import Any

TILE = 256


def image(xp: Any, light: Any, photos: Any) -> list[Any]:
    """Return levels, (n, h, w, 4) float16 linear light; `photos`: (n, h, w, 3) uint8; `light`: (256,) float32."""
    linear = xp.take(light, photos)
    levels = [_opaque(xp, linear)]
    while max(linear.shape[1:3]) > TILE:
        a, b, c, d = _quads(xp, linear)
        linear = ((a + b) + (c + d)) * xp.float32(0.25)
        levels.append(_opaque(xp, linear))
    return levels


def depth(xp: Any, values: Any, meter: float) -> list[Any]:
    """Return levels, (n, h, w) float32 metres, 0 = invalid; `values`: (n, h, w) of any type."""
    metres = values.astype(xp.float32) / xp.float32(meter)
    metres = xp.where((metres > 0) & (metres < xp.inf), metres, xp.float32(0))
    levels = [metres]
    while max(metres.shape[1:3]) > TILE:
        a, b, c, d = (xp.where(quad > 0, quad, xp.float32(xp.inf)) for quad in _quads(xp, metres))
        one, other = xp.maximum(xp.minimum(a, b), xp.minimum(c, d)), xp.minimum(xp.maximum(a, b), xp.maximum(c, d))
        smallest = xp.minimum(xp.minimum(a, b), xp.minimum(c, d))
        second, third = xp.minimum(one, other), xp.maximum(one, other)
        median = xp.where(third < xp.inf, second, smallest)
        metres = xp.where(median < xp.inf, median, xp.float32(0))
        levels.append(metres)
    return levels


def segmentation(xp: Any, palette: Any, ids: Any) -> list[Any]:
    """Return ids and colors of each level; `ids`: (n, h, w) uint8; `palette`: (256,) uint32, four bytes each."""
    levels = [ids, xp.take(palette, ids)]
    while max(ids.shape[1:3]) > TILE:
        a, b, c, d = _quads(xp, ids)
        rest = xp.where((b == c) | (b == d), b, xp.where(c == d, c, a))
        ids = xp.where((a == b) | (a == c) | (a == d), a, rest)
        levels += [ids, xp.take(palette, ids)]
    return levels


def _opaque(xp: Any, linear: Any) -> Any:
    texels = xp.empty((*linear.shape[:3], 4), xp.float16)
    texels[..., :3] = linear
    texels[..., 3] = 1
    return texels


def _quads(xp: Any, level: Any) -> tuple[Any, Any, Any, Any]:
    """Return the upper left, upper right, lower left and lower right of each 2x2 square; an odd edge is repeated."""
    if level.shape[1] % 2:
        level = xp.concatenate([level, level[:, -1:]], axis=1)
    if level.shape[2] % 2:
        level = xp.concatenate([level, level[:, :, -1:]], axis=2)
    return level[:, ::2, ::2], level[:, ::2, 1::2], level[:, 1::2, ::2], level[:, 1::2, 1::2]
