"""The specification of all backends, in plain numpy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumatile_kernels import tables
from lumatile_kernels.backend import Allocate, BackendName, PointOrder, TileBlock, TileFormat, allocate_array
from lumatile_kernels.host.host_backend import HostBackend
from lumatile_kernels.host.numpy_points import order_points
from lumatile_kernels.layout import TILE, row_pitch
from lumatile_kernels.pyramid import depth_plan, image_plan, segmentation_plan, stream_tiles


class NumpyBackend(HostBackend):
    """The backend that is the specification; see `Backend`."""

    name: BackendName = "numpy"

    def image(
        self, image: NDArray[Any], *, tile_format: TileFormat = "linear", allocate: Allocate = allocate_array
    ) -> Iterator[TileBlock]:
        """Return plane `pixels` of an image; see `Backend.image`."""
        source, carried = partial(image_source, tile_format), partial(image_carried, tile_format)
        return stream_tiles(image, image_plan(tile_format, image.shape[2]), source, carried, allocate)

    def depth(self, depth: NDArray[Any], *, meter: float, allocate: Allocate = allocate_array) -> Iterator[TileBlock]:
        """Return plane `pixels` of a depth image; see `Backend.depth`."""
        return stream_tiles(depth, depth_plan(), partial(depth_source, np.float32(meter)), depth_carried, allocate)

    def segmentation(
        self, ids: NDArray[Any], *, palette: NDArray[np.uint8], allocate: Allocate = allocate_array
    ) -> Iterator[TileBlock]:
        """Return planes `ids` and `colors` of a segmentation; see `Backend.segmentation`."""
        source, carried = partial(ids_source, palette), partial(ids_carried, palette)
        return stream_tiles(ids, segmentation_plan(ids.dtype), source, carried, allocate)

    def points(self, positions: NDArray[Any]) -> PointOrder:
        """Return the order of a cloud; see `Backend.points`."""
        return order_points(positions)


def image_source(
    tile_format: TileFormat, band: NDArray[Any], payloads: Sequence[NDArray[np.uint8]], half: NDArray[Any]
) -> None:
    """Store and halve rows of level 0 of an image; `band`: (rows, width, channels); see `Step`."""
    write_tiles(source_texels(band, tile_format), payloads[0])
    if half.size:
        half[:] = mean(np.moveaxis(linear_light(band, tile_format), 2, 1))


def image_carried(
    tile_format: TileFormat, band: NDArray[Any], payloads: Sequence[NDArray[np.uint8]], half: NDArray[Any]
) -> None:
    """Store and halve rows of another level of an image; see `Step`."""
    write_tiles(texels_of(np.moveaxis(band, 1, 2), tile_format), payloads[0])
    if half.size:
        half[:] = mean(band)


def linear_light(image: NDArray[Any], tile_format: TileFormat) -> NDArray[np.float32]:
    """Return the linear light, premultiplied by alpha, that is filtered: (rows, width, channels), as `image`."""
    color, alpha = image[..., :3], image[..., 3:]
    if image.dtype.kind == "u":
        color = tables.srgb_to_linear(image.dtype)[color]
        alpha = tables.unit_interval(image.dtype)[alpha]
    else:
        color = _clamped(color, *tables.COLOR_LIMITS[tile_format])
        alpha = _clamped(alpha, np.float32(0), np.float32(1))
    if image.shape[2] == 4:
        color = color * alpha + np.float32(0)
    return np.concatenate([color, alpha], axis=2)


def source_texels(image: NDArray[Any], tile_format: TileFormat) -> NDArray[Any]:
    """Return the texels of level 0: (rows, width, 4)."""
    texels = texels_of(linear_light(image, tile_format), tile_format)
    if tile_format == "linear" and image.dtype.kind == "u" and image.shape[2] != 4:
        texels[..., :3] = tables.srgb_to_half(image.dtype)[image]  # rounded once, not twice
    return texels


def _clamped(values: NDArray[Any], low: np.float32, high: np.float32) -> NDArray[np.float32]:
    """Return values narrowed to float32 and clamped; NaN and -0.0 become +0."""
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = values.astype(np.float32)
    return np.clip(np.where(np.isnan(narrow), np.float32(0), narrow) + np.float32(0), low, high)


def texels_of(linear: NDArray[np.float32], tile_format: TileFormat) -> NDArray[Any]:
    """Return the texels, (rows, width, 4), of premultiplied linear light with 1, 3 or 4 channels."""
    texels = np.ones((*linear.shape[:2], 4), np.float32)
    texels[..., :3] = linear[..., :3]
    if linear.shape[2] == 4:
        texels[..., 3] = linear[..., 3]
    if tile_format == "srgb8":
        return np.concatenate([tables.encode_srgb(texels[..., :3]), tables.encode_unorm8(texels[..., 3:])], axis=2)
    return texels.astype(np.float16) if tile_format == "linear" else texels


def mean(band: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean of each 2x2 square."""
    a, b, c, d = _quads(band)
    average: NDArray[np.float32] = ((a + b) + (c + d)) * np.float32(0.25)
    return average


def depth_source(
    meter: np.float32, band: NDArray[Any], payloads: Sequence[NDArray[np.uint8]], half: NDArray[Any]
) -> NDArray[np.float64]:
    """Store and halve rows of level 0 of a depth image; `band`: (rows, width); see `Step`."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        metres = band.astype(np.float32) / meter
    valid = (metres > 0) & (metres < np.inf)
    return depth_carried(np.where(valid, metres, np.float32(0))[:, None], payloads, half)


def depth_carried(band: NDArray[Any], payloads: Sequence[NDArray[np.uint8]], half: NDArray[Any]) -> NDArray[np.float64]:
    """Store and halve rows of another level of a depth image; see `Step`."""
    write_tiles(np.moveaxis(band, 1, 2), payloads[0])
    if half.size:
        half[:] = lower_median(band)
    ranges = []
    for tile in _tiles(band[:, 0]):
        valid = tile[tile > 0]
        ranges.append((valid.min(), valid.max()) if valid.size else (np.nan, np.nan))
    return np.array(ranges, np.float64)


def lower_median(band: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the lower median of the valid values (greater than 0) of each 2x2 square, 0 if none is valid."""
    quads = np.stack(_quads(band))
    valid = quads > 0
    ascending = np.sort(np.where(valid, quads, np.inf), axis=0)
    middle = np.maximum(valid.sum(axis=0, keepdims=True) - 1, 0) // 2
    median = np.take_along_axis(ascending, middle, axis=0)[0]
    return np.where(np.isinf(median), np.float32(0), median)


def ids_source(
    palette: NDArray[np.uint8], band: NDArray[Any], payloads: Sequence[NDArray[np.uint8]], half: NDArray[Any]
) -> NDArray[np.float64]:
    """Store and halve rows of level 0 of a segmentation; `band`: (rows, width); see `Step`."""
    return ids_carried(palette, band[:, None], payloads, half)


def ids_carried(
    palette: NDArray[np.uint8], band: NDArray[Any], payloads: Sequence[NDArray[np.uint8]], half: NDArray[Any]
) -> NDArray[np.float64]:
    """Store and halve rows of another level of a segmentation; see `Step`."""
    write_tiles(np.moveaxis(band, 1, 2), payloads[0])
    write_tiles(palette[band[:, 0]], payloads[1])
    if half.size:
        half[:] = mode(band)
    return np.array([(tile.min(), tile.max()) for tile in _tiles(band[:, 0])], np.float64)


def mode(band: NDArray[Any]) -> NDArray[Any]:
    """Return the most frequent value of each 2x2 square; of equally frequent values the first in raster order."""
    quads = np.stack(_quads(band))
    counts = (quads[:, None] == quads[None]).sum(axis=1)
    most_frequent: NDArray[Any] = np.take_along_axis(quads, counts.argmax(axis=0)[None], axis=0)[0]
    return most_frequent


def _quads(band: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return the upper left, upper right, lower left and lower right of each 2x2 square; edges are repeated."""
    rows, _, width = band.shape
    even = np.pad(band, ((0, rows % 2), (0, 0), (0, width % 2)), mode="edge")
    return even[0::2, :, 0::2], even[0::2, :, 1::2], even[1::2, :, 0::2], even[1::2, :, 1::2]


def _tiles(texels: NDArray[Any]) -> list[NDArray[Any]]:
    """Return texel rows, (rows, width, ...), cut into tiles."""
    return [texels[:, x : x + TILE] for x in range(0, texels.shape[1], TILE)]


def write_tiles(texels: NDArray[Any], payload: NDArray[np.uint8]) -> None:
    """Write texels, (rows, width, channels), as a row of tiles: one tile after another, rows padded with zeros."""
    start = 0
    for tile in _tiles(texels):
        rows, width, channels = tile.shape
        texel_bytes = channels * tile.itemsize
        pitch = row_pitch(width, texel_bytes)
        stored = payload[start : start + rows * pitch].reshape(rows, pitch)
        stored[:, : width * texel_bytes] = np.ascontiguousarray(tile).view(np.uint8).reshape(rows, width * texel_bytes)
        stored[:, width * texel_bytes :] = 0
        start += rows * pitch
