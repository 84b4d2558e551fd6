"""The order of a point cloud, fast: equal to the result of numpy_points bit for bit.

Morton codes are sorted by a least-significant-digit radix sort (Knuth, TAOCP 5.2.5, algorithm R), which is stable.
Digits that are equal in all codes are skipped.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumatile_kernels.backend import PointOrder
from lumatile_kernels.host.numba_jit import kernel
from lumatile_kernels.host.numpy_points import AXIS_BITS, MIN_EXTENT, NAN
from lumatile_kernels.layout import level_counts

DIGIT_BITS = 8
DIGIT_MASK = np.uint64((1 << DIGIT_BITS) - 1)
DIGITS = 8


def order_points(positions: NDArray[Any]) -> PointOrder:
    """Return the order of a cloud; see `numpy_points.order_points`."""
    points, dimensions = positions.shape
    origin = np.zeros(dimensions)
    offsets = np.empty((points, dimensions), np.float32)
    _find_origin(positions, origin)
    extent = _subtract_origin(positions, origin, offsets)

    keys = np.empty(points, np.uint64)
    histograms = np.zeros((DIGITS, 1 << DIGIT_BITS), np.int64)
    scale = np.float32(1 << AXIS_BITS) / extent if extent >= MIN_EXTENT else np.float32(0)
    _encode(offsets, scale, keys, histograms)

    rows = np.arange(points, dtype=np.uint32 if points < 1 << 32 else np.uint64)
    spare_keys, spare_rows = np.empty_like(keys), np.empty_like(rows)
    for digit, histogram in enumerate(histograms):
        if histogram.max() < points:
            _sort_by_digit(keys, rows, spare_keys, spare_rows, histogram, np.uint64(digit * DIGIT_BITS))
            keys, spare_keys = spare_keys, keys
            rows, spare_rows = spare_rows, rows

    counts = level_counts(points)
    order = np.empty(points, np.int64)
    stored = np.empty_like(offsets)
    _store(rows, offsets, np.array(counts), order, stored)
    return PointOrder(origin=origin, positions=stored, order=order, counts=counts)


@kernel
def _find_origin(positions: NDArray[Any], origin: NDArray[np.float64]) -> None:
    """Write the least coordinate of the finite positions on each axis to `origin` (d,), which holds zeros."""
    points, dimensions = positions.shape
    found = False
    for i in range(points):
        finite = True
        for axis in range(dimensions):
            finite &= np.isfinite(positions[i, axis])
        if finite:
            for axis in range(dimensions):
                x = np.float64(positions[i, axis]) + 0.0  # -0 becomes +0
                if not found or x < origin[axis]:
                    origin[axis] = x
            found = True


@kernel
def _subtract_origin(positions: NDArray[Any], origin: NDArray[np.float64], offsets: NDArray[np.float32]) -> np.float32:
    """Write float32 offsets (N, d), NAN on every axis of a non-finite one; return the greatest offset."""
    points, dimensions = positions.shape
    extent = np.float32(0)
    for i in range(points):
        finite = True
        for axis in range(dimensions):
            offset = np.float32(np.float64(positions[i, axis]) - origin[axis]) + np.float32(0)
            offsets[i, axis] = offset
            finite &= np.isfinite(offset)
        for axis in range(dimensions):
            if finite:
                extent = max(extent, offsets[i, axis])
            else:
                offsets[i, axis] = NAN
    return extent


@kernel
def _encode(
    offsets: NDArray[np.float32], scale: np.float32, keys: NDArray[np.uint64], histograms: NDArray[np.int64]
) -> None:
    """Write Morton codes (N,), 2^63 for non-finite positions, and count their digits."""
    points, dimensions = offsets.shape
    for i in range(points):
        key = np.uint64(0)
        if np.isnan(offsets[i, 0]):
            key = np.uint64(1 << 63)
        else:
            for axis in range(dimensions):
                cell = np.uint64(min(offsets[i, axis] * scale, np.float32((1 << AXIS_BITS) - 1)))
                key |= (_spread_by_3(cell) if dimensions == 3 else _spread_by_2(cell)) << np.uint64(axis)
        keys[i] = key
        for digit in range(DIGITS):
            histograms[digit, key & DIGIT_MASK] += 1
            key >>= np.uint64(DIGIT_BITS)


@kernel
def _spread_by_2(bits: np.uint64) -> np.uint64:
    """Return the low 32 bits, with a zero after each."""
    bits = (bits | bits << np.uint64(16)) & np.uint64(0x0000FFFF0000FFFF)
    bits = (bits | bits << np.uint64(8)) & np.uint64(0x00FF00FF00FF00FF)
    bits = (bits | bits << np.uint64(4)) & np.uint64(0x0F0F0F0F0F0F0F0F)
    bits = (bits | bits << np.uint64(2)) & np.uint64(0x3333333333333333)
    return (bits | bits << np.uint64(1)) & np.uint64(0x5555555555555555)


@kernel
def _spread_by_3(bits: np.uint64) -> np.uint64:
    """Return the low 21 bits, with two zeros after each."""
    bits = (bits | bits << np.uint64(32)) & np.uint64(0x001F00000000FFFF)
    bits = (bits | bits << np.uint64(16)) & np.uint64(0x001F0000FF0000FF)
    bits = (bits | bits << np.uint64(8)) & np.uint64(0x100F00F00F00F00F)
    bits = (bits | bits << np.uint64(4)) & np.uint64(0x10C30C30C30C30C3)
    return (bits | bits << np.uint64(2)) & np.uint64(0x1249249249249249)


@kernel
def _sort_by_digit(  # noqa: PLR0917
    keys: NDArray[np.uint64],
    rows: NDArray[Any],
    sorted_keys: NDArray[np.uint64],
    sorted_rows: NDArray[Any],
    histogram: NDArray[np.int64],
    shift: np.uint64,
) -> None:
    """Sort stably by one digit; `histogram` becomes the place of the next row of each digit."""
    total = 0
    for digit in range(len(histogram)):
        count = histogram[digit]
        histogram[digit] = total
        total += count
    for i in range(len(keys)):
        digit = keys[i] >> shift & DIGIT_MASK
        to = histogram[digit]
        histogram[digit] = to + 1
        sorted_keys[to] = keys[i]
        sorted_rows[to] = rows[i]


@kernel
def _store(
    rows: NDArray[Any],
    offsets: NDArray[np.float32],
    counts: NDArray[np.int64],
    order: NDArray[np.int64],
    stored: NDArray[np.float32],
) -> None:
    """Write rows and offsets, which are given by rank, in stored order: the coarsest level first."""
    coarsest = len(counts) - 1
    for rank in range(len(rows)):
        level, place = 0, rank
        while level < coarsest and place % 4 == 0:
            level, place = level + 1, place // 4
        if level < coarsest:
            place -= (place + 3) // 4  # those are in coarser levels
        for coarser in range(level + 1, coarsest + 1):
            place += counts[coarser]
        row = rows[rank]
        order[place] = row
        for axis in range(offsets.shape[1]):
            stored[place, axis] = offsets[row, axis]
