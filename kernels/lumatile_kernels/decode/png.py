"""PNG files to arrays and back, with imagecodecs (libpng)."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumatile_kernels.decode.errors import DecodeError, DecoderUnavailableError
from lumatile_kernels.decode.image_header import png_chunks, read_header
from lumatile_kernels.decode.orientation import upright
from lumatile_kernels.fork import LOCK

_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_CRITICAL_BIT = 0x20  # of the first letter of a chunk type; clear if a decoder must know the chunk


def decode_png(data: bytes) -> NDArray[Any]:
    """Decode a PNG file.

    Samples of 1, 2 and 4 bits are scaled to 8, palettes are looked up, a transparent color or palette entry becomes
    alpha, and gray with alpha becomes RGBA. EXIF orientation is applied. An animation gives its still picture.

    Args:
        data: the content of the file.

    Returns:
        The picture: (h, w, c), c being 1, 3 or 4; uint8, or uint16 (native byte order) for samples of 16 bits.

    Raises:
        DecodeError: The file is not a PNG image, is truncated, or a checksum is wrong.
        DecoderUnavailableError: The package imagecodecs is not installed.
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
    """Encode a picture as a PNG file.

    Args:
        array: (h, w) or (h, w, c), c being 1, 3 or 4; uint8 or uint16; any memory layout.

    Returns:
        The content of the file.

    Raises:
        ValueError: The array has another shape or dtype, or is empty.
        DecoderUnavailableError: The package imagecodecs is not installed.
    """
    fits = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
    if not fits or array.size == 0 or array.dtype.newbyteorder("=") not in (np.uint8, np.uint16):
        raise ValueError(
            f"a PNG picture is (h, w) or (h, w, 1 | 3 | 4), uint8 or uint16, not empty; got {array.shape} {array.dtype}"
        )
    # always a copy: an axis of one element counts as contiguous with any strides, and imagecodecs uses the strides
    return bytes(_imagecodecs().png_encode(np.array(array, array.dtype.newbyteorder("="), order="C")))


def _check_chunks(data: bytes) -> None:
    """Check every checksum, and that the chunks that libpng needs exist: its own checks and messages are incomplete."""
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
        with LOCK:  # a child could never import what this thread was importing
            import imagecodecs
    except ImportError as e:
        raise DecoderUnavailableError(f"PNG needs the package imagecodecs (pip install 'lumatile[local]'): {e}") from e
    return imagecodecs
