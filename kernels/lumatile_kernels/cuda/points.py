"""The order of a point cloud, on a GPU: equal to the result of numpy_points bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumatile_kernels.backend import PointOrder
from lumatile_kernels.cuda.passes import page_ceil
from lumatile_kernels.cuda.slots import Slots
from lumatile_kernels.cuda.sources import points_kernel
from lumatile_kernels.device import Device, Memory, Stream, settle
from lumatile_kernels.layout import level_counts

MAX_LEVELS = 16

CLOUD = np.dtype(
    [
        ("points", np.int64),
        ("coarsest", np.int64),
        ("starts", np.int64, MAX_LEVELS),
        ("positions", np.uint64),
        ("origin", np.uint64),
        ("extent", np.uint64),
        ("offsets", np.uint64),
        ("keys", np.uint64),
        ("by_key", np.uint64),
        ("order", np.uint64),
        ("stored", np.uint64),
    ],
    align=True,
)
"""The struct Cloud of points.cu."""

POINTS_PER_BLOCK = 1024


def order_points(device: Device, slots: Slots, stream: Stream, positions: NDArray[Any]) -> PointOrder:
    """Return the order of at least one position; see `numpy_points.order_points`. Raises DeviceError."""
    sizes = _sizes(positions)
    memory = slots.take(device_bytes(positions))
    try:
        order = _ordered(device, memory, stream, positions, sizes)
    except BaseException:
        settle(device, stream)  # pending operations use the memory and the positions
        raise
    slots.give_back(memory)
    return order


def device_bytes(positions: NDArray[Any]) -> int:
    """Return the device memory that a cloud takes, in bytes, without the memory for sorting."""
    return sum(page_ceil(size) for size in _sizes(positions).values())


def _sizes(positions: NDArray[Any]) -> dict[str, int]:
    points, axes = positions.shape
    return {
        "origin": 32,
        "extent": 4,
        "positions": positions.nbytes,
        "offsets": 4 * axes * points,
        "keys": 8 * points,
        "by_key": 8 * points,
        "order": 8 * points,
        "stored": 4 * axes * points,
    }


def _ordered(
    device: Device, memory: Memory, stream: Stream, positions: NDArray[Any], sizes: dict[str, int]
) -> PointOrder:
    points, axes = positions.shape
    counts = level_counts(points)
    cloud = np.zeros(1, CLOUD)
    at = memory.pointer
    for name, size in sizes.items():
        cloud[name] = at
        at += page_ceil(size)
    cloud["points"], cloud["coarsest"] = points, len(counts) - 1
    cloud["starts"][0, : len(counts)] = [sum(counts[level + 1 :]) for level in range(len(counts))]

    where = {name: int(cloud[name][0]) for name in sizes}
    blocks = -(-points // POINTS_PER_BLOCK)
    device.zero(where["origin"], 2 * page_ceil(1), stream)  # and the extent, which follows it
    device.upload(where["positions"], positions, stream)
    for name in ("find_origin", "subtract_origin", "encode_keys"):
        device.launch(points_kernel(name, positions.dtype, axes), cloud, blocks, stream)
    device.argsort(where["by_key"], where["keys"], points, stream)
    device.launch(points_kernel("store_points", positions.dtype, axes), cloud, blocks, stream)

    origin, order, stored = np.empty(4, np.uint64), np.empty(points, np.int64), np.empty((points, axes), np.float32)
    for name, array in (("origin", origin), ("order", order), ("stored", stored)):
        device.download(array.view(np.uint8).reshape(-1), where[name], stream)
    device.synchronize(device.record(stream))
    return PointOrder(origin=_decoded(origin[:axes]), positions=stored, order=order, counts=counts)


def _decoded(complements: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return coordinates from the complements of their ordered bits; 0 means that there is none, and becomes 0."""
    bits = ~complements
    sign = np.uint64(1 << 63)
    values = np.where(bits & sign, bits & ~sign, ~bits).view(np.float64)
    return np.where(complements == 0, 0.0, values)
