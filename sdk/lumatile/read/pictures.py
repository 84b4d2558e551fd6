"""Texels as pictures: linear light, and (h, w, 4) uint8 sRGB for the eye."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lumatile_kernels.tables import encode_srgb, encode_unorm8, srgb_to_half, turbo, unit_interval

if TYPE_CHECKING:
    from lumatile.annotations import AnnotationContext


def to_linear(texels: NDArray[Any]) -> NDArray[Any]:
    """Return the (h, w, 4) texels of an image as premultiplied linear light, float16 or float32."""
    if texels.dtype != np.uint8:
        return texels
    linear: NDArray[np.float16] = srgb_to_half(np.dtype(np.uint8))[texels]
    linear[..., 3] = unit_interval(np.dtype(np.uint8))[texels[..., 3]]
    return linear


def image_to_rgba8(texels: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the (h, w, 4) texels of an image as sRGB with straight alpha."""
    linear = to_linear(texels).astype(np.float32)
    alpha = np.clip(linear[..., 3:], 0, 1)
    straight = np.divide(linear[..., :3], alpha, out=np.zeros_like(linear[..., :3]), where=alpha > 0)
    return np.concatenate([encode_srgb(straight), encode_unorm8(alpha)], axis=2)


def depth_to_rgba8(depth: NDArray[np.float32], whole: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return (h, w) metres in the colors of turbo, which goes from the least to the greatest valid depth of `whole`.

    Invalid depths are transparent.
    """
    low, high = (whole[whole > 0].min(), whole.max()) if (whole > 0).any() else (0, 1)
    scaled = (depth.astype(np.float64) - low) / max(high - low, np.finfo(np.float32).tiny)
    shown = np.zeros((*depth.shape, 4), np.uint8)
    valid = depth > 0
    shown[valid, :3] = turbo()[np.rint(np.clip(scaled[valid], 0, 1) * 255).astype(np.uint8)]
    shown[valid, 3] = 255
    return shown


def ids_to_rgba8(ids: NDArray[Any], context: AnnotationContext) -> NDArray[np.uint8]:
    """Return (h, w) class ids in the colors of a context."""
    colors: NDArray[np.uint8] = context.palette(256 if ids.dtype == np.uint8 else 65536)[ids]
    return colors
