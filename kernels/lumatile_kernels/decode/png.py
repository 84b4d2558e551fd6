"""PNG files to arrays and back, through imagecodecs (libpng)."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumatile_kernels.decode.errors import DecodeError, DecoderUnavailableError
from lumatile_kernels.decode.image_header import png_chunks, read_header
from lumatile_kernels.decode.orientation import upright

_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_CRITICAL_BIT = 0x20  # of a chunk type's first letter: clear where a decoder must know the chunk


def decode_png(data: bytes) -> NDArray[Any]:
    """The picture in a PNG file: (h, w, c), c in 1, 3, 4; uint8, or uint16 (native byte order) for 16 bits a sample.

    1, 2 and 4 bits a sample are scaled to 8, palettes are looked up, a transparent color or palette entry becomes
    alpha, gray with alpha becomes RGBA; EXIF orientation is applied. Of an animation: the still picture.

    Raises DecodeError for what is no PNG, is truncated, or breaks a checksum; DecoderUnavailableError without
    imagecodecs.
    """
    header = read_header(data)
    if header.format != "png":
        raise DecodeError(f"not a PNG image but {header.format.upper()}")
    _check_chunks(data)
    imagecodecs = _imagecodecs()
    try:
        image = imagecodecs.png_decode(data)
    except (RuntimeError, ValueError) as e:  # PngError is a RuntimeError; its text is not always UTF-8
        raise DecodeError(f"corrupt PNG of {len(data)} bytes: {e}") from e
    if image.ndim == 2:
        image = image[:, :, None]
    if image.shape[2] == 2:
        image = image[:, :, [0, 0, 0, 1]]
    return np.ascontiguousarray(upright(image, header.orientation))


def encode_png(array: NDArray[Any]) -> bytes:
    """A PNG file of a picture: (h, w) or (h, w, c), c in 1, 3, 4; uint8 or uint16; any memory layout.

    Raises ValueError for another shape or dtype, DecoderUnavailableError without imagecodecs.
    """
    fits = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
    if not fits or array.size == 0 or array.dtype.newbyteorder("=") not in (np.uint8, np.uint16):
        raise ValueError(
            f"a PNG picture is (h, w) or (h, w, 1 | 3 | 4), uint8 or uint16, not empty; got {array.shape} {array.dtype}"
        )
    # a copy, always: one element counts as contiguous whatever its strides, and imagecodecs looks at the strides
    return bytes(_imagecodecs().png_encode(np.array(array, array.dtype.newbyteorder("="), order="C")))


def _check_chunks(data: bytes) -> None:
    """Every checksum, and that what libpng needs is there (its own checks are patchy, and its messages garbled)."""
    kinds = set()
    for chunk in png_chunks(data):
        chunk.check_crc()
        if chunk.kind not in _CRITICAL and not chunk.kind[0] & _CRITICAL_BIT:
            raise DecodeError(f"corrupt PNG: unknown critical chunk {chunk.kind!r} at byte {chunk.at}")
        kinds.add(chunk.kind)
    if b"IDAT" not in kinds:
        raise DecodeError(f"corrupt PNG: no picture data (IDAT) in {len(data)} bytes")


def _imagecodecs() -> ModuleType:
    try:
        import imagecodecs
    except ImportError as e:
        raise DecoderUnavailableError(f"PNG needs the package imagecodecs (pip install 'lumatile[local]'): {e}") from e
    return imagecodecs
