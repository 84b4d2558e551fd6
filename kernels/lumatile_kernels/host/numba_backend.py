"""The fast host backend: the same bytes as the numpy backend, from fused, compiled, multithreaded kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumatile_kernels import tables
from lumatile_kernels.backend import Allocate, BackendName, PointOrder, TileBlock, TileFormat, allocate_array
from lumatile_kernels.host import numba_depth, numba_segmentation
from lumatile_kernels.host.host_backend import HostBackend
from lumatile_kernels.host.numba_image import alpha_code_rows, carried_rows, float_rows, opaque_code_rows
from lumatile_kernels.host.numba_points import order_points
from lumatile_kernels.host.numba_workers import Workers
from lumatile_kernels.host.numpy_backend import linear_light, source_texels
from lumatile_kernels.layout import TILE
from lumatile_kernels.pyramid import depth_plan, image_plan, segmentation_plan, stream_tiles


class NumbaBackend(HostBackend):
    """The backend that runs compiled kernels on its own threads; see `Backend`."""

    name: BackendName = "numba"

    def __init__(self, threads: int | None = None) -> None:
        """Compute with `threads` threads; None: one for each core that this process may use."""
        self._workers = Workers(threads)

    def image(
        self, image: NDArray[Any], *, tile_format: TileFormat = "linear", allocate: Allocate = allocate_array
    ) -> Iterator[TileBlock]:
        """Return plane `pixels` of an image; see `Backend.image`."""
        _, width, channels = image.shape
        plan = image_plan(tile_format, channels)
        words = plan.planes[0].texel_bytes // 4
        buckets = tables.srgb_buckets()
        scratch = self._workers.threads, 2, channels, width
        source_kernel: Callable[..., None]
        args: tuple[Any, ...]
        if image.dtype.itemsize > 2:
            source_kernel = float_rows
            args = (*tables.COLOR_LIMITS[tile_format], buckets, words, np.empty(scratch, np.float32))
        else:
            linear, alpha, stored = code_tables(image.dtype, tile_format)
            image = image.view(f"u{image.dtype.itemsize}")
            codes = np.empty(scratch, image.dtype)
            if channels == 4:
                source_kernel = alpha_code_rows
                args = linear, alpha, buckets, words, codes, np.empty(scratch, np.float32)
            else:
                source_kernel = opaque_code_rows
                args = linear, stored, words, codes

        def source(band: NDArray[Any], payloads: Sequence[NDArray[np.uint8]], half: NDArray[Any]) -> None:
            pixels, texels = _frozen(band.reshape(len(band), -1)), payloads[0].view(np.uint32)
            self._workers.run(source_kernel, pixels, *args, texels, half, rows=len(band), width=width)

        def carried(band: NDArray[Any], payloads: Sequence[NDArray[np.uint8]], half: NDArray[Any]) -> None:
            rows, _, width = band.shape
            texels = payloads[0].view(np.uint32)
            self._workers.run(carried_rows, band, buckets, words, texels, half, rows=rows, width=width)

        return stream_tiles(image, plan, source, carried, allocate)

    def depth(self, depth: NDArray[Any], *, meter: float, allocate: Allocate = allocate_array) -> Iterator[TileBlock]:
        """Return plane `pixels` of a depth image; see `Backend.depth`."""
        scratch = np.empty((self._workers.threads, 2, depth.shape[1]), np.int32)

        def step(kernel: Any, band: Any, payload: Any, half: Any, *args: Any) -> NDArray[np.float64]:
            rows, width = band.shape
            shape = -(-rows // 2), -(-width // TILE)
            lows, highs = np.full(shape, numba_depth.NOTHING), np.zeros(shape, np.int32)
            bits = payload.view(np.int32), half[:, 0].view(np.int32)
            self._workers.run(kernel, band, *args, *bits, lows, highs, rows=rows, width=width)
            ranges = np.stack([lows.min(axis=0), highs.max(axis=0)], axis=1).view(np.float32).astype(np.float64)
            ranges[ranges[:, 1] == 0] = np.nan
            return ranges

        def source(
            band: NDArray[Any], payloads: Sequence[NDArray[np.uint8]], half: NDArray[Any]
        ) -> NDArray[np.float64]:
            values = _frozen(band.astype(np.float32) if band.dtype == np.float16 else band)
            return step(numba_depth.depth_rows, values, payloads[0], half, np.float32(meter), scratch)

        def carried(
            band: NDArray[Any], payloads: Sequence[NDArray[np.uint8]], half: NDArray[Any]
        ) -> NDArray[np.float64]:
            return step(numba_depth.carried_rows, band[:, 0].view(np.int32), payloads[0], half)

        return stream_tiles(depth, depth_plan(), source, carried, allocate)

    def segmentation(
        self, ids: NDArray[Any], *, palette: NDArray[np.uint8], allocate: Allocate = allocate_array
    ) -> Iterator[TileBlock]:
        """Return planes `ids` and `colors` of a segmentation; see `Backend.segmentation`."""
        colors = _frozen(np.ascontiguousarray(palette).view(np.uint32)[:, 0])

        def step(band: NDArray[Any], payloads: Sequence[NDArray[np.uint8]], half: NDArray[Any]) -> NDArray[np.float64]:
            rows, width = len(band), band.shape[-1]
            shape = -(-rows // 2), -(-width // TILE)
            lows, highs = np.full(shape, np.iinfo(band.dtype).max, band.dtype), np.zeros(shape, band.dtype)
            texels = payloads[0].view(band.dtype), payloads[1].view(np.uint32)
            args = _frozen(band.reshape(rows, width)), colors, *texels, half[:, 0], lows, highs
            self._workers.run(numba_segmentation.id_rows, *args, rows=rows, width=width)
            return np.stack([lows.min(axis=0), highs.max(axis=0)], axis=1).astype(np.float64)

        return stream_tiles(ids, segmentation_plan(ids.dtype), step, step, allocate)

    def points(self, positions: NDArray[Any]) -> PointOrder:
        """Return the order of a cloud; see `Backend.points`."""
        return order_points(positions)


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    """Return a read-only view: numba compiles separately for read-only arrays and for others, so all are read-only."""
    view = array.view()
    view.flags.writeable = False
    return view


@cache
def code_tables(
    dtype: np.dtype[Any], tile_format: TileFormat
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint32]]:
    """Return the results of the specification for every code of a dtype of 8 or 16 bits, each (256,) or (65536,).

    They are the linear light, the alpha, and the bits of a stored opaque channel; the last is empty if the bits are
    equal to the code.
    """
    codes = np.arange(256**dtype.itemsize).astype(f"u{dtype.itemsize}").view(dtype)
    gray = codes[:, None, None]
    linear = linear_light(gray, tile_format)[:, 0, 0]
    alpha = linear_light(np.repeat(gray, 4, axis=2), tile_format)[:, 0, 3].copy()
    channel = source_texels(gray, tile_format)[:, 0, 0]
    stored = channel.view(f"u{channel.itemsize}").astype(np.uint32)
    if np.array_equal(stored, np.arange(256)):
        stored = stored[:0]
    for table in (linear, alpha, stored):
        table.flags.writeable = False
    return linear, alpha, stored
