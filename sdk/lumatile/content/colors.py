"""Conversion of colors as a caller gives them to uint8 sRGB, which is what is drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumatile.errors import InvalidValueError, warn
from lumatile.settings import FloatColors
from lumatile_kernels.tables import encode_srgb, encode_unorm8

OPAQUE = 255


def as_rgba8(name: str, colors: NDArray[Any], float_colors: FloatColors) -> NDArray[np.uint8]:
    """Return one color, (3,) or (4,), or N colors, (N, 3) or (N, 4), as (N, 4) uint8 sRGB with straight alpha.

    `colors`: integers are 0-255, sRGB gamma, with linear alpha; floats are 0-1, linear light, or sRGB gamma with
    `float_colors` "srgb". Values out of range are clamped, with a warning; NaN is 0. An empty array is N = 0.
    `name`: the argument's, for messages. Raises InvalidValueError for another shape.
    """
    if not colors.size and colors.ndim < 3:
        return np.empty((0, 4), np.uint8)
    rows = colors[np.newaxis] if colors.ndim == 1 else colors
    if rows.ndim != 2 or rows.shape[1] not in (3, 4):
        raise InvalidValueError(f"{name} must be RGB or RGBA, one or one per point, not of shape {colors.shape}")
    if rows.dtype != np.uint8:
        rows = _from_floats(name, rows, float_colors) if rows.dtype.kind == "f" else _from_integers(name, rows)
    if rows.shape[1] == 4:
        return rows
    return np.concatenate([rows, np.full((len(rows), 1), OPAQUE, np.uint8)], axis=1)


def _from_integers(name: str, rows: NDArray[Any]) -> NDArray[np.uint8]:
    if rows.min() < 0 or rows.max() > 255:
        warn(f"{name}: integers outside 0-255 were clamped")
        rows = rows.clip(0, 255)
    return rows.astype(np.uint8)


def _from_floats(name: str, rows: NDArray[Any], float_colors: FloatColors) -> NDArray[np.uint8]:
    if not (rows.min() >= 0 and rows.max() <= 1):
        warn(f"{name}: floats outside 0-1 were clamped (colors of 0-255 are uint8)")
        rows = np.where(rows > 0, np.minimum(rows, 1), 0)
    rows = rows.astype(np.float32)
    if float_colors == "srgb":
        return encode_unorm8(rows)
    return np.concatenate([encode_srgb(rows[:, :3]), encode_unorm8(rows[:, 3:])], axis=1)
