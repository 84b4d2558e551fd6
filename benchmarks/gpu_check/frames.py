"""Random frames, the hardest to compress and to cache; and the extreme values that all backends must agree on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

HEIGHT_4K, WIDTH_4K = 2160, 3840
HEIGHT_HD, WIDTH_HD = 1080, 1920
SIZES = {"4K": (HEIGHT_4K, WIDTH_4K), "1080p": (HEIGHT_HD, WIDTH_HD)}

METER = 1000.0
"""The units per metre of integer depth frames."""

EXTREMES = np.array(
    [
        *(0.0, -0.0, 1.0, -1.0, 1e-45, -1e-45, 6e-8, -6e-8, 2**-14, 65504, 65519.99, -65520),
        *(3.4e38, -3.4e38, 1e300, -1e300, np.nan, -np.nan, np.inf, -np.inf),
    ]
)


def random_frame(shape: tuple[int, ...], dtype: str, seed: int) -> NDArray[Any]:
    """Return an array of random bits; floats are linear light in [0, 1)."""
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return rng.random(shape, np.float32).astype(kind, copy=False)
    nbytes = int(np.prod(shape)) * kind.itemsize
    return np.frombuffer(rng.bytes(nbytes), kind).reshape(shape).copy()


def extreme_frame(shape: tuple[int, ...], dtype: str, seed: int) -> NDArray[Any]:
    """Return a mixture of random bits, numbers near 1 and extreme numbers; a quarter has one value."""
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    nbytes = int(np.prod(shape)) * kind.itemsize
    frame: NDArray[Any] = np.frombuffer(rng.bytes(nbytes), kind).reshape(shape).copy()
    if kind.kind == "f":
        with np.errstate(over="ignore", invalid="ignore"):
            extremes = rng.choice(EXTREMES, shape).astype(kind)
            mild = rng.normal(0.5, 0.5, shape).astype(kind)
        frame = np.choose(rng.integers(0, 3, shape), [frame, mild, extremes])
    frame[rng.random(shape) < 0.25] = frame.flat[0]
    return np.ascontiguousarray(frame)


def random_palette(ids: int, seed: int) -> NDArray[np.uint8]:
    """Return (ids, 4) sRGB with straight alpha; half of the classes are transparent or translucent."""
    rng = np.random.default_rng(seed)
    palette = rng.integers(0, 256, (ids, 4), np.uint8)
    palette[rng.random(ids) < 0.5, 3] = 255
    palette[rng.random(ids) < 0.25] = 0
    return palette


def cloud(points: int, axes: int, dtype: str, seed: int) -> NDArray[Any]:
    """Return (points, axes) positions, normally distributed."""
    return np.random.default_rng(seed).normal(0, 10, (points, axes)).astype(dtype)
