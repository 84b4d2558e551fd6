"""PIL images as arrays: what a viewer shows of them, upright and with all of their bits."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumatile.errors import warn
from lumatile_kernels.decode.orientation import upright

_AS_THEY_ARE = ("L", "RGB", "RGBA", "I;16", "I;16B", "I;16L", "I;16N", "I", "F")
"""Modes whose arrays have the channels and bits of the picture."""

_ORIENTATION = 0x0112
"""The EXIF tag of the orientation."""


def array_of_picture(image: Any) -> Any:
    """Return a PIL image as a gray, RGB or RGBA array, (h, w) or (h, w, c); anything else unchanged.

    EXIF orientation is applied; a transparent color or palette entry becomes alpha. A warning is given for a file of
    more than 8 bits that Pillow reads as 8 bits.
    """
    if not _is_pil(image):
        return image
    image, orientation = _loaded(image)
    mode, transparent = image.mode, image.info.get("transparency")
    if mode.startswith("I;16") and transparent is not None:
        return upright(_gray_alpha(np.asarray(image), transparent), orientation)
    if mode == "La":  # Pillow converts it to LA only
        image = image.convert("LA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
    elif mode not in _AS_THEY_ARE:
        image = image.convert("L" if mode == "1" else "RGB")
    return upright(np.asarray(image), orientation)


def array_of_numbers(image: Any) -> Any:
    """Return a PIL image as the array of its numbers (ids of a palette, depths); anything else unchanged.

    EXIF orientation is applied. A warning is given for a file of more than 8 bits that Pillow reads as 8 bits.
    """
    if not _is_pil(image):
        return image
    image, orientation = _loaded(image)
    return upright(np.asarray(image), orientation)


def _is_pil(value: Any) -> bool:
    pil = sys.modules.get("PIL.Image")  # without it nobody has one
    return pil is not None and isinstance(value, pil.Image)


def _loaded(image: Any) -> tuple[Any, int]:
    """Return the image with its pixels read, and its EXIF orientation (1 ... 8)."""
    if not image.mode.startswith(("I", "F")) and any(_has_more_bits(tile) for tile in getattr(image, "tile", ())):
        warn(
            "Pillow gives 8 of the 16 bits of this image file: read it with OpenCV or tifffile, or log a PNG with "
            "log_image_file, to keep all of them"
        )
    image.load()  # a TIFF file is turned upright in this step
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - damaged metadata; the picture may be complete
        orientation = 1
    return image, orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def _has_more_bits(tile: Any) -> bool:
    """Return whether the samples of a part of a file, as Pillow describes it before it is read, have over 8 bits."""
    codec, *_, arguments = tile
    arguments = arguments if isinstance(arguments, tuple) else (arguments,)
    if codec in ("ppm", "ppm_plain"):  # (raw mode, greatest sample)
        return isinstance(arguments[-1], int) and arguments[-1] > 255
    # a BMP's "BGR;16" has 5 or 6 bits a sample
    return any(isinstance(argument, str) and ";16" in argument and argument != "BGR;16" for argument in arguments)


def _gray_alpha(gray: NDArray[Any], transparent: Any) -> NDArray[Any]:
    """Return 16-bit gray, (h, w), as RGBA, (h, w, 4), with alpha 0 where it is `transparent`."""
    alpha = np.where(gray == transparent, 0, 0xFFFF)
    return np.stack([gray, gray, gray, alpha], axis=-1).astype(np.uint16)
