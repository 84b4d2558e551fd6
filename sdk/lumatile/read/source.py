"""Restoring exactly what was logged: from a source plane, or from tiles that hold it exactly."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumatile.errors import CorruptStoreError
from lumatile_kernels.tables import srgb_to_half


def from_plane(data: NDArray[np.uint8], dtype: str, shape: Sequence[int]) -> NDArray[Any]:
    """Return the array in a source plane (C order, little-endian): `dtype` in native byte order, read-only.

    Raises CorruptStoreError where the bytes do not fit dtype and shape.
    """
    try:
        array = data.view(np.dtype(dtype).newbyteorder("<")).reshape(shape)
    except (TypeError, ValueError) as e:
        raise CorruptStoreError(f"{len(data)} source bytes are not an array of {dtype} {tuple(shape)}: {e}") from e
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def image_from_tiles(texels: NDArray[Any], channels: int) -> NDArray[np.uint8]:
    """Restore an opaque uint8 image, (h, w, channels), from its level-0 texels (h, w, 4), float16 or sRGB codes."""
    image: NDArray[np.uint8]
    if texels.dtype == np.float16:
        image = _codes_of_halves()[texels[..., :channels].view(np.uint16)]
        image[..., 3:] = 255
    else:
        image = texels[..., :channels].copy()
    return image


def depth_from_tiles(metres: NDArray[np.float32], meter: float, dtype: str) -> NDArray[Any]:
    """Restore integer depth, (h, w), from level 0: the only integers that these metres can come from."""
    return np.rint(metres.astype(np.float64) * np.float64(np.float32(meter))).astype(dtype)


@cache
def _codes_of_halves() -> NDArray[np.uint8]:
    """Return the uint8 sRGB code of each float16 that `srgb_to_half` gives, by the bits of the float16."""
    halves = srgb_to_half(np.dtype(np.uint8))
    codes = np.zeros(1 << 16, np.uint8)
    codes[halves.view(np.uint16)] = np.arange(256)
    return codes
