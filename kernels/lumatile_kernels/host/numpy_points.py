"""The order of a point cloud in plain numpy: the specification, which the fast versions equal bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumatile_kernels.backend import PointOrder
from lumatile_kernels.layout import level_counts

NAN = np.uint32(0x7FC00000).view(np.float32)
"""The value that is stored for every axis of a non-finite position."""

AXIS_BITS = 21
"""The bits of the Morton code per axis."""

MIN_EXTENT = 2.0**-100
"""All points of a cloud with a smaller extent have the Morton code 0: 2^21 / extent would not fit float32."""


def order_points(positions: NDArray[Any]) -> PointOrder:
    """Return the origin, the Morton order (Morton, 1966) and the levels of a cloud.

    `positions`: (N, 2 or 3), float32 or float64. A position is finite if all its coordinates are, and so are its
    offsets from the origin in float32. Zeros become +0, in offsets and origin.
    """
    with np.errstate(invalid="ignore"):  # a signalling NaN
        offsets, origin = _offsets(positions.astype(np.float64))
    finite = np.all(np.isfinite(offsets), axis=1)
    keys = np.where(finite, _morton_codes(np.where(finite[:, None], offsets, np.float32(0))), np.uint64(1 << 63))
    by_key = np.argsort(keys, kind="stable")  # non-finite last
    offsets[~finite] = NAN

    ranks = np.arange(len(positions))
    counts = level_counts(len(positions))
    coarsest = len(counts) - 1
    level = np.zeros(len(positions), np.int64)
    for n in range(1, coarsest + 1):
        level[ranks % 4**n == 0] = n
    order = by_key[np.argsort(-level, kind="stable")]
    return PointOrder(origin=origin, positions=offsets[order], order=order, counts=counts)


def _offsets(positions: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return (N, d) offsets from the origin, and the origin (d,): the least coordinates of the finite positions."""
    finite = positions[np.isfinite(positions).all(axis=1)]
    origin = finite.min(axis=0) if len(finite) else np.zeros(positions.shape[1])
    origin += 0.0  # -0 becomes +0
    with np.errstate(over="ignore", invalid="ignore"):
        return (positions - origin).astype(np.float32) + np.float32(0), origin


def _morton_codes(offsets: NDArray[np.float32]) -> NDArray[np.uint64]:
    """Return the codes (N,) of finite offsets >= 0: the bits of x, y and z interleaved, x lowest."""
    extent = offsets.max(initial=np.float32(0))
    codes = np.zeros(len(offsets), np.uint64)
    if extent < MIN_EXTENT:
        return codes
    scale = np.float32(1 << AXIS_BITS) / extent
    cells = np.minimum(np.floor(offsets * scale), np.float32((1 << AXIS_BITS) - 1)).astype(np.uint64)
    dimensions = offsets.shape[1]
    for bit in range(AXIS_BITS):
        for axis in range(dimensions):
            codes |= (cells[:, axis] >> np.uint64(bit) & np.uint64(1)) << np.uint64(bit * dimensions + axis)
    return codes
