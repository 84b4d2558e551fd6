"""Colors of 16 bits in TIFF and Netpbm files, of which Pillow gives 8.

Netpbm: samples of more than 8 bits are two bytes, big-endian, and count up to the "maxval" of the header
(netpbm.sf.net, "ppm"). TIFF is decoded by libtiff, in imagecodecs; if its colors are premultiplied by alpha, by Pillow.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumatile.errors import ImageFileError
from lumatile_kernels.decode.orientation import upright

WHITE = 65535

ASSOCIATED_ALPHA = 1
"""The value of TIFF's tag ExtraSamples if colors are premultiplied by alpha."""

BITS, ORIENTATION, PLANAR, EXTRA_SAMPLES = 258, 274, 284, 338
"""TIFF's tags."""

SEPARATE = 2
"""The value of TIFF's tag PlanarConfiguration if each color has a plane of its own."""


def deep_colors(opened: Any, content: bytes) -> NDArray[np.uint16] | None:
    """Return the pixels of an image file, upright: (h, w, 3) or (h, w, 4) with straight alpha.

    `opened`: the file as Pillow has opened it, and not yet loaded. None: Pillow gives all of its bits. Raises
    ImageFileError for a file of a format that is not decoded here.
    """
    if opened.mode in ("I", "F") or opened.mode.startswith("I;16") or not opened.tile:
        return None
    codec, _, offset, arguments = opened.tile[0]
    arguments = arguments if isinstance(arguments, tuple) else (arguments,)
    if codec in ("ppm", "ppm_plain"):  # (raw mode, greatest sample)
        white = arguments[-1] if isinstance(arguments[-1], int) else 0
        return _netpbm(opened, content[offset:], white, plain=codec == "ppm_plain") if white > 255 else None
    if opened.format == "TIFF" and opened.mode in ("RGB", "RGBA", "RGBX"):
        tags = opened.tag_v2
        premultiplied = ASSOCIATED_ALPHA in np.atleast_1d(tags.get(EXTRA_SAMPLES, ()))
        return _tiff(opened, content) if 16 in np.atleast_1d(tags.get(BITS, ())) and not premultiplied else None
    if any(isinstance(each, str) and re.search(r";16[BLN]$", each) for each in arguments):
        raise ImageFileError(f"colors of 16 bits are read of PNG, TIFF and Netpbm files, not of {opened.format}")
    return None


def _netpbm(opened: Any, samples: bytes, white: int, *, plain: bool) -> NDArray[np.uint16]:
    shape = (opened.height, opened.width, len(opened.getbands()))
    count = shape[0] * shape[1] * shape[2]
    try:
        if plain:
            numbers = np.array(re.sub(rb"#[^\n]*", b"", samples).split()[:count], np.float64)
        else:
            numbers = np.frombuffer(samples, ">u2", count).astype(np.float64)
        pixels = numbers.reshape(shape)
    except ValueError as e:
        raise ImageFileError(f"the Netpbm file is truncated or corrupt: {count} samples must follow the header") from e
    return np.minimum(np.round(pixels / white * WHITE), WHITE).astype(np.uint16)


def _tiff(opened: Any, content: bytes) -> NDArray[np.uint16]:
    try:
        import imagecodecs
    except ModuleNotFoundError as e:
        raise ImageFileError("TIFF of 16 bits needs imagecodecs: install lumatile[local]") from e
    orientation = opened.tag_v2.get(ORIENTATION, 1)
    try:
        pixels = np.asarray(imagecodecs.tiff_decode(content))
    except (RuntimeError, ValueError) as e:
        raise ImageFileError(f"the TIFF file is truncated or corrupt: {e}") from e
    if pixels.ndim == 3 and opened.tag_v2.get(PLANAR) == SEPARATE:
        pixels = pixels.transpose(1, 2, 0)
    bands = 4 if opened.mode == "RGBA" else 3
    if pixels.ndim != 3 or pixels.shape[2] < bands or pixels.dtype != np.uint16:
        raise ImageFileError(f"colors of a TIFF file must be uint16, not {pixels.shape} {pixels.dtype}")
    return np.ascontiguousarray(upright(pixels[..., :bands], orientation if orientation in range(1, 9) else 1))
