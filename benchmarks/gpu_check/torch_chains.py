"""The work of the kernels as PyTorch users write it: levels that are not cut into tiles; eager, or with torch.compile.

Frames are stacked: (n, height, width[, channels]).
"""

from __future__ import annotations

from typing import Any

TILE = 256


def image(torch: Any, light: Any, photos: Any) -> list[Any]:
    """Return levels, (n, h, w, 4) float16 linear light; `photos`: (n, h, w, 3) uint8; `light`: (256,) float32."""
    linear = torch.index_select(light, 0, photos.reshape(-1).int()).reshape(photos.shape)
    levels = [_opaque(torch, linear)]
    while max(linear.shape[1:3]) > TILE:
        # channels last, as they are; with ceil_mode an odd edge counts once more, which is the same mean
        pooled = torch.nn.functional.avg_pool2d(linear.permute(0, 3, 1, 2), 2, ceil_mode=True)
        linear = pooled.permute(0, 2, 3, 1)
        levels.append(_opaque(torch, linear))
    return levels


def depth(torch: Any, values: Any, meter: float) -> list[Any]:
    """Return levels, (n, h, w) float32 metres, 0 = invalid; `values`: (n, h, w) of any type."""
    metres = values.to(torch.float32) / meter
    metres = torch.where((metres > 0) & (metres < torch.inf), metres, 0.0)
    levels = [metres]
    while max(metres.shape[1:3]) > TILE:
        a, b, c, d = (torch.where(quad > 0, quad, torch.inf) for quad in _quads(torch, metres))
        low, high = torch.minimum, torch.maximum
        one, other = high(low(a, b), low(c, d)), low(high(a, b), high(c, d))
        smallest, second, third = low(low(a, b), low(c, d)), low(one, other), high(one, other)
        median = torch.where(third < torch.inf, second, smallest)
        metres = torch.where(median < torch.inf, median, 0.0)
        levels.append(metres)
    return levels


def segmentation(torch: Any, palette: Any, ids: Any) -> list[Any]:
    """Return ids and colors of each level; `ids`: (n, h, w) uint8; `palette`: (256,) int32, four bytes each."""
    levels = [ids, _colors(torch, palette, ids)]
    while max(ids.shape[1:3]) > TILE:
        a, b, c, d = _quads(torch, ids)
        rest = torch.where((b == c) | (b == d), b, torch.where(c == d, c, a))
        ids = torch.where((a == b) | (a == c) | (a == d), a, rest)
        levels += [ids, _colors(torch, palette, ids)]
    return levels


def _colors(torch: Any, palette: Any, ids: Any) -> Any:
    return torch.index_select(palette, 0, ids.reshape(-1).int()).reshape(ids.shape)


def _opaque(torch: Any, linear: Any) -> Any:
    texels = torch.ones((*linear.shape[:3], 4), dtype=torch.float16, device=linear.device)
    texels[..., :3] = linear
    return texels


def _quads(torch: Any, level: Any) -> tuple[Any, Any, Any, Any]:
    """Return the upper left, upper right, lower left and lower right of each 2x2 square; an odd edge is repeated."""
    if level.shape[1] % 2:
        level = torch.cat([level, level[:, -1:]], dim=1)
    if level.shape[2] % 2:
        level = torch.cat([level, level[:, :, -1:]], dim=2)
    return level[:, ::2, ::2], level[:, ::2, 1::2], level[:, 1::2, ::2], level[:, 1::2, 1::2]
