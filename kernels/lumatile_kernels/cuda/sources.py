"""The list of the kernels, and their text."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from lumatile_kernels.backend import TileFormat
from lumatile_kernels.device import Kernel

TEXEL_BYTES: dict[TileFormat, int] = {"srgb8": 4, "linear": 8, "rgba32float": 16}

OPTIONS = ("--std=c++14", "--fmad=false")
"""The options of NVRTC: floating point as written, which makes all backends agree. By default, division and square root
follow IEEE 754, and subnormal numbers are kept."""

PYRAMID = ("texels.cu", "pyramid.cu")
"""The texts that the kernels of images, depth and segmentations begin with."""

_TYPES = {"uint8": "u8", "uint16": "u16", "float16": "half", "float32": "float", "float64": "double"}


def source_text(kernel: Kernel) -> str:
    """Return the CUDA source that `kernel` is compiled from."""
    return _joined(kernel.files)


@cache
def _joined(names: tuple[str, ...]) -> str:
    folder = files("lumatile_kernels.cuda") / "kernels"
    return "".join(folder.joinpath(name).read_text("utf-8") for name in names)


def image_kernel(dtype: np.dtype[Any], channels: int, tile_format: TileFormat, *, carried: bool = False) -> Kernel:
    """Return the kernel for images of `dtype`; `carried`: premultiplied linear light in float32, from another pass."""
    return Kernel(
        name="image_tiles",
        files=(*PYRAMID, "image.cu"),
        defines=(
            ("SOURCE", _TYPES[dtype.name]),
            ("CHANNELS", str(channels)),
            ("FORMAT", str(TEXEL_BYTES[tile_format])),
            ("CARRIED", str(int(carried))),
        ),
    )


def depth_kernel(dtype: np.dtype[Any], *, carried: bool = False) -> Kernel:
    """Return the kernel for depth of `dtype`; `carried`: metres in float32, from another pass."""
    defines = ("SOURCE", _TYPES[dtype.name]), ("CARRIED", str(int(carried)))
    return Kernel(name="depth_tiles", files=(*PYRAMID, "depth.cu"), defines=defines)


def segmentation_kernel(dtype: np.dtype[Any]) -> Kernel:
    """Return the kernel for class ids of `dtype`, logged or from another pass."""
    defines = (("SOURCE", _TYPES[dtype.name]),)
    return Kernel(name="segmentation_tiles", files=(*PYRAMID, "segmentation.cu"), defines=defines)


def points_kernel(name: str, dtype: np.dtype[Any], axes: int) -> Kernel:
    """Return a step of ordering positions: `find_origin`, `subtract_origin`, `encode_keys` or `store_points`."""
    return Kernel(name=name, files=("points.cu",), defines=(("SOURCE", _TYPES[dtype.name]), ("AXES", str(axes))))


_WIDE_TYPES = {
    "int8": "signed char",
    "int16": "short",
    "int32": "int",
    "int64": "i64",
    "uint32": "u32",
    "uint64": "u64",
}


def narrow_kernel(dtype: np.dtype[Any]) -> Kernel:
    """Return the kernel that narrows class ids of a wide integer `dtype` to uint16."""
    return Kernel(name="narrow_ids", files=("ids.cu",), defines=(("SOURCE", _WIDE_TYPES[dtype.name]),))


TRANSLUCENT = Kernel(name="find_translucent", files=("opaque.cu",))
"""The kernel that checks whether an RGBA image of bytes is opaque."""


def all_kernels() -> Iterator[Kernel]:
    """Yield every kernel that a backend can request."""
    dtypes = [np.dtype(name) for name in _TYPES]
    formats: tuple[TileFormat, ...] = ("linear", "srgb8", "rgba32float")
    for channels in (1, 3, 4):
        for tile_format in formats:
            yield from (image_kernel(dtype, channels, tile_format) for dtype in dtypes)
            yield image_kernel(np.dtype(np.float32), channels, tile_format, carried=True)
    yield from (depth_kernel(dtype) for dtype in dtypes)
    yield depth_kernel(np.dtype(np.float32), carried=True)
    yield from (segmentation_kernel(dtype) for dtype in dtypes[:2])
    for dtype in dtypes[3:]:
        for axes in (2, 3):
            for name in ("find_origin", "subtract_origin", "encode_keys", "store_points"):
                yield points_kernel(name, dtype, axes)
    yield from (narrow_kernel(np.dtype(name)) for name in _WIDE_TYPES)
    yield TRANSLUCENT
