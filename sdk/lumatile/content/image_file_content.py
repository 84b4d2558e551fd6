"""Image files as the content of a LoggedValue: JPEG, which stays compressed, and PNG, which is decoded."""

from __future__ import annotations

import enum
import operator
import os
from pathlib import Path
from typing import Any

import numpy as np

from lumatile.content.image_content import image_content
from lumatile.errors import (
    ImageFileError,
    ImageFileNotFoundError,
    InvalidTypeError,
    InvalidValueError,
    shown,
)
from lumatile.settings import RecordingSettings
from lumatile.values import Content
from lumatile_kernels import fork
from lumatile_kernels.decode.errors import DecodeError, DecoderUnavailableError
from lumatile_kernels.decode.image_header import check_pixel_limit, read_header

JPEG_EDGE = 65_500
"""The longest edge of a JPEG file that libjpeg writes."""


class ImageFormat(enum.Enum):
    """The format of an image file; functions take a member's value, "jpeg" or "png", too."""

    JPEG = "jpeg"
    PNG = "png"


def image_file_content(img_bytes: Any, img_path: Any, img_format: Any, settings: RecordingSettings) -> Content:
    """Return the content of an image file, given by its bytes or its path.

    The format is that of the bytes; `img_format`, if given, must agree. A PNG is decoded in this call; a JPEG only in
    strict mode, to find out whether it can be decoded.
    Raises InvalidValueError, InvalidTypeError, ImageFileError or ImageFileNotFoundError.
    """
    if (img_bytes is None) == (img_path is None):
        raise InvalidValueError(f"give img_bytes or img_path, not {'both' if img_path is not None else 'neither'}")
    stated = None if img_format is None else _format(img_format)
    data = _read(img_path) if img_bytes is None else _bytes(img_bytes)
    return _decoded(data, stated, settings)


def jpeg_content(image: Any, quality: Any) -> Content:
    """Return the content of an image that is encoded as a JPEG file of this quality, 1 to 100.

    `image`: gray or RGB as in `image_content`, uint8. Raises InvalidValueError, InvalidTypeError or ImageFileError.
    """
    rule = "jpeg_quality must be an integer from 1 to 100"
    try:
        level = operator.index(quality)
    except TypeError:
        raise InvalidTypeError(f"{rule}, not {shown(quality)}") from None
    if not 1 <= level <= 100:
        raise InvalidValueError(f"{rule}, not {level}")
    array = image_content(image)["array"]
    if array.dtype != np.uint8 or array.shape[2] == 4 or not 0 < max(array.shape[:2]) <= JPEG_EDGE:
        raise InvalidValueError(
            f"with jpeg_quality an image must be gray or RGB of uint8, at most {JPEG_EDGE} texels an edge, "
            f"not {array.dtype.name} {array.shape}"
        )
    with fork.LOCK:
        from lumatile_kernels.decode.turbo_jpeg import encode_jpeg

    try:
        data = encode_jpeg(array if isinstance(array, np.ndarray) else array.host(), level)
    except DecoderUnavailableError as e:
        raise ImageFileError(str(e)) from e
    return {"encoded": data, "source_dtype": "jpeg"}


def _decoded(data: bytes, stated: ImageFormat | None, settings: RecordingSettings) -> Content:
    try:
        header = read_header(data)
        if stated is not None and stated.value != header.format:
            raise InvalidValueError(f"img_format is {stated.name}, but the file is {header.format.upper()}")
        check_pixel_limit(header, settings.pixel_limit)
        if header.format == "png":
            with fork.LOCK:  # a child could never import what this thread was importing
                from lumatile_kernels.decode.png import decode_png

            return image_content(decode_png(data))
        if settings.strict:
            with fork.LOCK:
                from lumatile_kernels.decode.jpeg import select_jpeg_decoder

            (picture,) = select_jpeg_decoder("turbo").decode([data])  # all decoders on the host refuse the same files
            if isinstance(picture, DecodeError):
                raise picture
    except (DecodeError, DecoderUnavailableError) as e:
        raise ImageFileError(str(e)) from e
    return {"encoded": data, "source_dtype": "jpeg"}


def _format(img_format: Any) -> ImageFormat:
    if isinstance(img_format, ImageFormat):
        return img_format
    name = str(img_format).lower() if isinstance(img_format, str) else None
    try:
        return ImageFormat("jpeg" if name == "jpg" else name)
    except ValueError:
        raise InvalidValueError(f"img_format must be ImageFormat.JPEG or .PNG, not {shown(img_format)}") from None


def _bytes(img_bytes: Any) -> bytes:
    if isinstance(img_bytes, bytes):
        return img_bytes
    rule = "img_bytes must be the bytes of a file (bytes, or a contiguous buffer of 8-bit elements)"
    if hasattr(img_bytes, "getvalue"):
        raise InvalidTypeError(f"{rule}, not {shown(img_bytes)}; write its getvalue()")
    try:
        view = memoryview(img_bytes)
    except TypeError:
        raise InvalidTypeError(f"{rule}, not {shown(img_bytes)}") from None
    if view.itemsize != 1 or not view.contiguous:
        kind = "contiguous" if view.contiguous else "not contiguous"
        raise InvalidTypeError(f"{rule}, not a buffer of format {view.format!r} that is {kind}")
    return view.tobytes()


def _read(img_path: Any) -> bytes:
    if not isinstance(img_path, str | os.PathLike):
        raise InvalidTypeError(f"img_path must be a path, not {shown(img_path)}")
    try:
        path = Path(img_path)
        if not path.is_file():
            reason = "not a regular file" if path.exists() else "no such file"
            raise ImageFileNotFoundError(f"img_path cannot be read: {reason}: {shown(str(path))}")
        return path.read_bytes()
    except (OSError, ValueError) as e:
        if isinstance(e, ImageFileNotFoundError):
            raise
        raise ImageFileNotFoundError(f"img_path cannot be read: {shown(img_path)}: {shown(e)}") from e
