"""The functions that log images, depth images and segmentations to the current recording."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from lumatile.content.image_file_content import ImageFormat
from lumatile.log.arguments import lenient
from lumatile.log.current import recording_or_warn
from lumatile.log.recording import RecordingStream


@lenient
def log_image(
    entity_path: str,
    image: Any,
    *,
    draw_order: float | None = None,
    ext: Mapping[str, Any] | None = None,
    timeless: bool = False,
    jpeg_quality: int | None = None,
    recording: RecordingStream | None = None,
) -> None:
    """Log a gray, RGB or RGBA image.

    The image may be changed as soon as the call returns.

    Args:
        entity_path: The path of the entity that shows the image.
        image: HxW, HxWx1, HxWx3 or HxWx4; anything that is an array (numpy, torch, jax, cupy, PIL ...). uint8 and
            uint16 are sRGB gamma, with linear alpha; float16, float32 and float64 are linear light, 0-1; bfloat16
            becomes float32. Alpha is straight. Leading axes of length 1 are dropped. A PIL image is turned as its EXIF
            orientation says, and a transparent color of it becomes alpha. `np.ma` arrays must have no masked elements.
        draw_order: Higher values are drawn on top; None: -10.
        ext: Components of your own, as in `log_extension_components`.
        timeless: The image is on no timeline and holds always.
        jpeg_quality: 1 to 100: the image is encoded as a JPEG in this call, which `frame.source()` gives back; gray and
            RGB of uint8 only. Chroma is not subsampled. None: nothing is lost.
        recording: The recording to log to; None: the current one.

    Raises:
        InvalidValueError: In strict mode, for a shape or `jpeg_quality` (a ValueError).
        InvalidTypeError: In strict mode, for a dtype (a TypeError).
        ImageFileError: In strict mode, where the package that encodes a JPEG is not installed (a ValueError).
    """
    if (found := recording_or_warn(recording)) is not None:
        found.log_image(
            entity_path, image, draw_order=draw_order, ext=ext, timeless=timeless, jpeg_quality=jpeg_quality
        )


@lenient
def log_image_file(
    entity_path: str,
    *,
    img_bytes: Any = None,
    img_path: str | os.PathLike[str] | None = None,
    img_format: ImageFormat | str | None = None,
    draw_order: float | None = None,
    timeless: bool = False,
    recording: RecordingStream | None = None,
) -> None:
    """Log an image file, JPEG or PNG, by its contents or its path.

    A JPEG stays compressed on its way and as the source; a PNG of 8 or 16 bits is decoded in this call. EXIF
    orientation is applied.

    Args:
        entity_path: The path of the entity that shows the image.
        img_bytes: The contents of the file: bytes, or any contiguous buffer of 8-bit elements, such as a uint8 array;
            None: `img_path` is given.
        img_path: The path of the file; None: `img_bytes` is given.
        img_format: The format, which must agree with the content; None: whatever the content is.
        draw_order: Higher values are drawn on top; None: -10.
        timeless: The image is on no timeline and holds always.
        recording: The recording to log to; None: the current one.

    Raises:
        InvalidValueError: In strict mode, if both or neither of `img_bytes` and `img_path` are given, or the format is
            wrong (a ValueError).
        ImageFileNotFoundError: In strict mode, where the path cannot be read (a FileNotFoundError).
        ImageFileError: In strict mode, for a file that is no image, or is truncated, corrupt or larger than the
            recording's pixel limit (a ValueError).
    """
    if (found := recording_or_warn(recording)) is not None:
        found.log_image_file(
            entity_path,
            img_bytes=img_bytes,
            img_path=img_path,
            img_format=img_format,
            draw_order=draw_order,
            timeless=timeless,
        )


@lenient
def log_depth_image(
    entity_path: str,
    image: Any,
    *,
    draw_order: float | None = None,
    meter: float | None = None,
    ext: Mapping[str, Any] | None = None,
    timeless: bool = False,
    recording: RecordingStream | None = None,
) -> None:
    """Log a depth image.

    Args:
        entity_path: The path of the entity that shows the image.
        image: HxW, HxWx1 or 1xHxW, of uint8, uint16, float16, float32 or float64; anything that is an array. 0,
            negative and non-finite values are "no depth", and so are masked elements of a `np.ma` array.
        draw_order: Higher values are drawn on top; None: -10.
        meter: How many units of the image are one metre, finite and > 0 as float32; None: 1000 for integers
            (millimetres), 1 for floats.
        ext: Components of your own, as in `log_extension_components`.
        timeless: The image is on no timeline and holds always.
        recording: The recording to log to; None: the current one.

    Raises:
        InvalidValueError: In strict mode, for a shape or `meter` (a ValueError).
        InvalidTypeError: In strict mode, for a dtype (a TypeError).
    """
    if (found := recording_or_warn(recording)) is not None:
        found.log_depth_image(entity_path, image, draw_order=draw_order, meter=meter, ext=ext, timeless=timeless)


@lenient
def log_segmentation_image(
    entity_path: str,
    image: Any,
    *,
    draw_order: float | None = None,
    ext: Mapping[str, Any] | None = None,
    timeless: bool = False,
    recording: RecordingStream | None = None,
) -> None:
    """Log an image of class ids; `log_annotation_context` gives the ids labels and colors.

    Args:
        entity_path: The path of the entity that shows the image.
        image: HxW, HxWx1 or 1xHxW, of uint8 or uint16, or of booleans, wider integers or floats that are all integers
            from 0 to 65535; anything that is an array. `np.ma` arrays must have no masked elements.
        draw_order: Higher values are drawn on top; None: -10.
        ext: Components of your own, as in `log_extension_components`.
        timeless: The image is on no timeline and holds always.
        recording: The recording to log to; None: the current one.

    Raises:
        InvalidValueError: In strict mode, for a shape or an id that does not fit (a ValueError).
        InvalidTypeError: In strict mode, for a dtype (a TypeError).
    """
    if (found := recording_or_warn(recording)) is not None:
        found.log_segmentation_image(entity_path, image, draw_order=draw_order, ext=ext, timeless=timeless)
