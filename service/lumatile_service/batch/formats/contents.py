"""Functions that log the content of files in datasets: the `log` of a LogCall."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumatile.content.image_file_content import image_file_content
from lumatile.errors import ImageFileError, LumatileWarning, message_of
from lumatile.log.recording import RecordingStream
from lumatile_kernels.decode.errors import DecodeError
from lumatile_kernels.decode.image_header import check_pixel_limit, read_header
from lumatile_kernels.decode.orientation import upright
from lumatile_kernels.decode.png import decode_png
from lumatile_service.batch.formats.deep_colors import deep_colors
from lumatile_service.batch.log_call import DatasetWarning
from lumatile_service.batch.source_files import SourceFiles

JPEG, PNG = b"\xff\xd8", b"\x89PNG"

PNG_COLOR_TYPE, PALETTE = 25, 3
"""The byte of a PNG that has the color type, and that of a palette."""

HEAD_BYTES = 1 << 17
"""The number of bytes at the beginning of a file in which its header and orientation usually are."""

ORIENTATION_TAG = 0x0112
"""EXIF's number of the orientation."""


Ext = Mapping[str, Any] | None
"""Extension components."""


def image_file(recording: RecordingStream, entity_path: str, content: bytes, *, ext: Ext = None) -> None:
    """Log an image file: JPEG and PNG as `log_image_file` does, others as Pillow decodes them."""
    if content.startswith((JPEG, PNG)):
        recording.log_value("image", entity_path, lambda known: image_file_content(content, None, None, known), ext=ext)
    else:
        recording.log_image(entity_path, pillow_image(content, recording.settings.pixel_limit), ext=ext)


def depth_png(recording: RecordingStream, entity_path: str, content: bytes, *, meter: float, ext: Ext = None) -> None:
    """Log a PNG of depths, `meter` units per metre; 0 is invalid."""
    recording.log_depth_image(entity_path, gray_png(content, recording.settings.pixel_limit), meter=meter, ext=ext)


def depth_file(recording: RecordingStream, entity_path: str, content: bytes, *, meter: float, ext: Ext = None) -> None:
    """Log a PNG, TIFF or Netpbm file of depths: integers of `meter` units per metre, floats in metres."""
    if content.startswith(PNG):
        depth_png(recording, entity_path, content, meter=meter, ext=ext)
        return
    depth = pillow_image(content, recording.settings.pixel_limit)
    unit = meter if depth.dtype.kind == "u" else None
    recording.log_depth_image(entity_path, depth, meter=unit, ext=ext)


def segmentation_png(recording: RecordingStream, entity_path: str, content: bytes, *, ext: Ext = None) -> None:
    """Log a PNG of class ids: gray of any bits, or a palette, whose indices are the ids."""
    limit = recording.settings.pixel_limit
    header = read_header(content)
    if header.format != "png":
        raise ImageFileError(f"class ids must be a PNG, not a {header.format.upper()}")
    if content[PNG_COLOR_TYPE] == PALETTE:
        ids = upright(pillow_ids(content, limit), header.orientation)
    elif header.components == 1 and header.bit_depth < 8:
        check_pixel_limit(header, limit)
        ids = decode_png(content)[:, :, 0] // (255 // (2**header.bit_depth - 1))  # it scales them to 0 ... 255
    else:
        ids = gray_png(content, limit)
    recording.log_segmentation_image(entity_path, ids, ext=ext)


def segmentation_file(recording: RecordingStream, entity_path: str, content: bytes, *, ext: Ext = None) -> None:
    """Log a file of class ids: a PNG, or another one that Pillow reads as gray or as indices of a palette."""
    if content.startswith(PNG):
        segmentation_png(recording, entity_path, content, ext=ext)
    else:
        ids = pillow_ids(content, recording.settings.pixel_limit)
        recording.log_segmentation_image(entity_path, ids, ext=ext)


def gray_png(content: bytes, pixel_limit: int) -> NDArray[Any]:
    """Return the (h, w) uint8 or uint16 of a gray PNG, unchanged. Raises DecodeError; ImageFileError for others."""
    header = read_header(content)
    check_pixel_limit(header, pixel_limit)
    if header.format != "png" or header.components != 1 or header.bit_depth < 8:  # fewer bits would be scaled
        found = f"{header.format.upper()} of {header.components} x {header.bit_depth} bits"
        raise ImageFileError(f"it must be a gray PNG of 8 or 16 bits, not {found}")
    return decode_png(content)[:, :, 0]


def stored_picture(files: SourceFiles, path: str) -> tuple[tuple[int, int], int]:
    """Return the (width, height) of an image file's pixels as stored, and its EXIF orientation.

    The orientation is 1 where the file cannot be read: then the image itself becomes an error row.
    """
    with suppress(OSError, DecodeError):
        head = files.read(path, HEAD_BYTES)
        if not head.startswith((JPEG, PNG)):
            return _stored_by_pillow(files.read(path))
        try:
            header = read_header(head)
        except DecodeError:  # long metadata, or a broken file
            header = read_header(files.read(path))
        return (header.width, header.height), header.orientation
    return (0, 0), 1


def _stored_by_pillow(content: bytes) -> tuple[tuple[int, int], int]:
    with suppress(Exception):  # Pillow raises many kinds
        from PIL import Image

        with Image.open(io.BytesIO(content)) as opened:
            width, height = opened.size
            orientation = opened.getexif().get(ORIENTATION_TAG, 1)
            if opened.format == "TIFF" and orientation >= 5:  # Pillow gives its size as it is upright
                width, height = height, width
            return (width, height), orientation if orientation in range(1, 9) else 1
    return (0, 0), 1


def looks_like_image(content: bytes) -> bool:
    """Return whether it begins like a JPEG, PNG, GIF, WebP, BMP, TIFF, Netpbm, JPEG 2000, AVIF or HEIF file."""
    return _BEGINNING.match(content) is not None


def pillow_image(content: bytes, pixel_limit: int) -> NDArray[Any]:
    """Decode an image file with Pillow: its first frame, upright.

    Returns (h, w) uint8, uint16 or float32 for gray, else (h, w, 3), or (h, w, 4) if the image has transparency, uint8,
    or uint16 for TIFF and Netpbm files of 16 bits.
    Raises ImageFileError, also for integers that do not fit uint16, and for EPS, which Pillow would run in Ghostscript.
    """
    try:
        from PIL import Image, ImageOps
    except ModuleNotFoundError as e:
        raise ImageFileError("a file that is neither JPEG nor PNG needs Pillow: install lumatile[batch]") from e
    try:
        with Image.open(io.BytesIO(content)) as opened:
            _check_pixels(*opened.size, pixel_limit)
            _check_format(opened.format)
            if (deep := deep_colors(opened, content)) is not None:
                return deep
            picture = ImageOps.exif_transpose(opened)
            _check_pixels(*picture.size, pixel_limit)  # the decoded size may differ from the declared one
            if picture.mode == "F":
                return np.asarray(picture)
            if picture.mode.startswith("I"):
                return _uint16(np.asarray(picture))
            if picture.has_transparency_data:
                return np.asarray(picture.convert("RGBA"))
            return np.asarray(picture.convert("L" if picture.mode in ("1", "L") else "RGB"))
    except ImageFileError:
        raise
    except Exception as e:  # Pillow raises many kinds
        raise ImageFileError(f"Pillow cannot decode it: {message_of(e)}") from e


def pillow_ids(content: bytes, pixel_limit: int) -> NDArray[Any]:
    """Return the numbers of a gray image, or the indices of one with a palette, (h, w) uint8 or uint16.

    Raises ImageFileError.
    """
    try:
        from PIL import Image
    except ModuleNotFoundError as e:
        raise ImageFileError("class ids with a palette need Pillow: install lumatile[batch]") from e
    try:
        with Image.open(io.BytesIO(content)) as opened:
            _check_pixels(*opened.size, pixel_limit)
            _check_format(opened.format)
            opened.load()
            _check_pixels(*opened.size, pixel_limit)
            numbers, mode = np.asarray(opened), opened.mode
    except ImageFileError:
        raise
    except Exception as e:  # Pillow raises many kinds
        raise ImageFileError(f"Pillow cannot decode it: {message_of(e)}") from e
    if mode not in ("1", "L", "P", "I") and not mode.startswith("I;16"):
        raise ImageFileError(f"class ids must be gray or indices of a palette, not {mode}")
    return _uint16(numbers) if mode.startswith("I") else numbers.astype(np.uint8)


def ignore_warnings() -> None:
    """Ignore warnings of Pillow and of lenient recordings from now on, since error rows tell; not those of readers."""
    warnings.simplefilter("ignore", LumatileWarning)
    warnings.simplefilter("default", DatasetWarning)
    warnings.filterwarnings("ignore", module=r"PIL\b")


def _uint16(numbers: NDArray[Any]) -> NDArray[Any]:
    low, high = int(numbers.min()), int(numbers.max())
    if low < 0 or high > 65535:
        raise ImageFileError(f"integers of an image must be 0 to 65535, not {low} to {high}")
    return numbers.astype(np.uint16)


def _check_format(name: str | None) -> None:
    if name == "EPS":
        raise ImageFileError("EPS is a program, which is not run")


def _check_pixels(width: int, height: int, limit: int) -> None:
    if width * height > limit:
        raise ImageFileError(f"{width}x{height} pixels are more than the limit of {limit}")


_BEGINNING = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF.{4}WEBP|BM.{4}\0{4}|II\*\0|MM\0\*|P[1-7][ \t\r\n#]"
    rb"|\0\0\0\x0cjP  |\xff\x4f\xff\x51|.{4}ftyp(avi[fs]|hei[cxs]|mif1)",
    re.DOTALL,
)
