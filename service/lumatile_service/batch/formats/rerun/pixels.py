"""Rerun's images, whose format is stored in addition to the bytes, as arrays.

Numbers and layouts: Rerun's documentation of ChannelDatatype, ColorModel and PixelFormat. YUV becomes RGB
as in its viewer (rerun: re_sdk_types, pixel_format_ext.rs and image_format's rgb_from_yuv): BT.601 for NV12 and YUY2,
BT.709 for others, chroma of the nearest pixel, float32, truncated to whole numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumatile.errors import ImageFileError

DTYPES = {
    6: "u1",
    7: "i1",
    8: "<u2",
    9: "<i2",
    10: "<u4",
    11: "<i4",
    12: "<u8",
    13: "<i8",
    33: "<f2",
    34: "<f4",
    35: "<f8",
}
"""ChannelDatatype -> dtype."""

CHANNELS: Mapping[int, tuple[int, ...]] = {1: (0,), 2: (0, 1, 2), 3: (0, 1, 2, 3), 4: (2, 1, 0), 5: (2, 1, 0, 3)}
"""ColorModel (L, RGB, RGBA, BGR, BGRA) -> positions of R, G, B and A."""

LIMITED = (20, 26, 27, 39, 41, 49)
"""PixelFormats with luma from 16 to 235 and chroma from 16 to 240; the others use 0 to 255."""

NV12, YUY2 = 26, 27

PLANES = {20: (2, 2), 44: (2, 2), 49: (1, 2), 50: (1, 2), 39: (1, 1), 40: (1, 1)}
"""PixelFormats of three planes -> factors (rows, columns) by which the two of chroma are smaller."""

LUMA = (30, 41)
"""PixelFormats without chroma."""


def rerun_pixels(content: bytes, image_format: Mapping[str, Any]) -> NDArray[Any]:
    """Return an image's buffer as (h, w) or (h, w, 3 or 4) of the dtype in its format; BGR(A) becomes RGB(A).

    `image_format`: Rerun's ImageFormat: width, height, and pixel_format, or color_model and channel_datatype, by
    default L and U8. YUV becomes uint8 RGB, or gray. Raises ImageFileError if the bytes do not fit, and for raw Bayer
    images.
    """
    width, height = image_format["width"], image_format["height"]
    pixel_format = image_format["pixel_format"]
    if pixel_format is not None:
        return _from_yuv(np.frombuffer(content, np.uint8), pixel_format, height, width)
    channels = CHANNELS.get(image_format["color_model"] or 1)
    name = DTYPES.get(image_format["channel_datatype"] or 6)
    if channels is None or name is None:
        raise ImageFileError(f"Rerun's ImageFormat must be one of version 0.41 or older, not {dict(image_format)}")
    dtype = np.dtype(name)
    shape = (height, width) if len(channels) == 1 else (height, width, len(channels))
    if len(content) != math.prod(shape) * dtype.itemsize:
        raise ImageFileError(f"an image of {shape} {dtype.name} must not have {len(content)} bytes")
    pixels = np.frombuffer(content, dtype).astype(dtype.newbyteorder("="), copy=False).reshape(shape)
    return pixels if channels == tuple(range(len(channels))) else np.ascontiguousarray(pixels[..., channels])


def _from_yuv(data: NDArray[np.uint8], pixel_format: int, height: int, width: int) -> NDArray[np.uint8]:
    if pixel_format in LUMA:
        (luma,) = _planes(data, [(height, width)])
        return luma if pixel_format not in LIMITED else _unorm8((luma.astype(np.float32) - 16) / np.float32(219))
    if pixel_format == NV12:
        luma, chroma = _planes(data, [(height, width), (height // 2, width)])
        u, v = chroma[:, ::2], chroma[:, 1::2]
        factors = (2, 2)
    elif pixel_format == YUY2:
        (packed,) = _planes(data, [(height, width * 2)])
        luma, u, v = packed[:, ::2], packed[:, 1::4], packed[:, 3::4]
        factors = (1, 2)
    elif pixel_format in PLANES:
        factors = PLANES[pixel_format]
        small = (height // factors[0], width // factors[1])
        luma, u, v = _planes(data, [(height, width), small, small])
    else:
        raise ImageFileError(f"images of Rerun's pixel format {pixel_format} (128 to 131: raw Bayer) cannot be logged")
    if height % factors[0] or width % factors[1]:
        raise ImageFileError(f"an image with smaller chroma must have even sides, not {width}x{height}")
    u, v = (np.repeat(np.repeat(plane, factors[0], axis=0), factors[1], axis=1) for plane in (u, v))
    return _rgb(luma, u, v, limited=pixel_format in LIMITED, bt601=pixel_format in (NV12, YUY2))


def _planes(data: NDArray[np.uint8], shapes: list[tuple[int, int]]) -> list[NDArray[np.uint8]]:
    sizes = [math.prod(shape) for shape in shapes]
    if len(data) != sum(sizes):
        raise ImageFileError(f"an image of planes {shapes} must not have {len(data)} bytes")
    ends = np.cumsum(sizes)
    return [data[end - size : end].reshape(shape) for end, size, shape in zip(ends, sizes, shapes, strict=True)]


def _rgb(
    luma: NDArray[np.uint8], blue: NDArray[np.uint8], red: NDArray[np.uint8], *, limited: bool, bt601: bool
) -> NDArray[np.uint8]:
    y, u, v = (plane.astype(np.float32) for plane in (luma, blue, red))
    zero, y_range, c_range = (16, 219, 224) if limited else (0, 255, 255)
    y = (y - zero) / np.float32(y_range)
    u, v = ((plane - 128) / np.float32(c_range) for plane in (u, v))
    vr, ug, vg, ub = map(np.float32, (1.402, 0.344, 0.714, 1.772) if bt601 else (1.575, 0.187, 0.468, 1.856))
    return _unorm8(np.stack([y + vr * v, y - ug * u - vg * v, y + ub * u], axis=2))


def _unorm8(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return 0-1 as 0-255, truncated, as Rust's `as u8` does."""
    codes: NDArray[np.uint8] = np.clip(values * np.float32(255), 0, 255).astype(np.uint8)
    return codes
