"""The functions that log images, depth images and segmentations."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lumatile.content.image_content import depth_content, image_content, segmentation_content
from lumatile.content.image_file_content import ImageFormat, image_file_content
from lumatile.log.current import recording_or_warn

if TYPE_CHECKING:
    from lumatile.log.recording import RecordingStream


def log_image(
    entity_path: str,
    image: Any,
    *,
    draw_order: float | None = None,
    ext: Mapping[str, Any] | None = None,
    timeless: bool = False,
    recording: RecordingStream | None = None,
) -> None:
    """Log a gray, RGB or RGBA image.

    `image`: HxW, HxWx1, HxWx3 or HxWx4; anything that is an array (numpy, torch, jax, cupy, PIL ...). uint8 and
    uint16 are sRGB gamma, their alpha linear; float16, float32 and float64 are linear light, 0-1; bfloat16 becomes
    float32. Alpha is straight. Leading axes of length 1 are dropped. It may be changed as soon as the call returns.
    `draw_order`: what has more is drawn on top; None: -10. `ext`: as in `log_extension_components`.
    `timeless`: on no timeline, holds always. `recording`: None: the current one.
    Strict mode raises InvalidValueError (ValueError) for a shape, InvalidTypeError (TypeError) for a dtype.
    """
    if (stream := recording_or_warn(recording)) is not None:
        stream.log_value(
            "image", entity_path, lambda _: image_content(image), draw_order=draw_order, ext=ext, timeless=timeless
        )


def log_image_file(
    entity_path: str,
    *,
    img_bytes: bytes | None = None,
    img_path: str | os.PathLike[str] | None = None,
    img_format: ImageFormat | str | None = None,
    draw_order: float | None = None,
    timeless: bool = False,
    recording: RecordingStream | None = None,
) -> None:
    """Log an image file, JPEG or PNG: its contents `img_bytes`, or the path of it `img_path`.

    A JPEG stays compressed on its way and as the source; a PNG of 8 or 16 bits is decoded here. EXIF orientation is
    applied. `img_format`: None: told by the content; one that disagrees with the content is a ValueError.
    `draw_order`: what has more is drawn on top; None: -10. `timeless`: on no timeline, holds always.
    `recording`: None: the current one.
    Strict mode raises InvalidValueError (ValueError) for both or neither of the two or a wrong format,
    ImageFileNotFoundError (FileNotFoundError) where the path cannot be read, and ImageFileError (ValueError) for what
    is no image, truncated, corrupt, or larger than the recording's pixel limit.
    """
    if (stream := recording_or_warn(recording)) is not None:
        stream.log_value(
            "image",
            entity_path,
            lambda settings: image_file_content(img_bytes, img_path, img_format, settings),
            draw_order=draw_order,
            timeless=timeless,
        )


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

    `image`: HxW, of uint8, uint16, float16, float32 or float64; anything that is an array. 0, negative and
    non-finite values are "no depth".
    `meter`: how many of its units are a metre, finite and > 0 as float32; None: 1000 for integers (millimetres),
    1 for floats.
    `draw_order`: what has more is drawn on top; None: -10. `ext`: as in `log_extension_components`.
    `timeless`: on no timeline, holds always. `recording`: None: the current one.
    Strict mode raises InvalidValueError (ValueError) for a shape or meter, InvalidTypeError (TypeError) for a dtype.
    """
    if (stream := recording_or_warn(recording)) is not None:
        stream.log_value(
            "depth",
            entity_path,
            lambda _: depth_content(image, meter),
            draw_order=draw_order,
            ext=ext,
            timeless=timeless,
        )


def log_segmentation_image(
    entity_path: str,
    image: Any,
    *,
    draw_order: float | None = None,
    ext: Mapping[str, Any] | None = None,
    timeless: bool = False,
    recording: RecordingStream | None = None,
) -> None:
    """Log an image of class ids.

    `image`: HxW or HxWx1, of uint8 or uint16, or of booleans or wider integers that are all 0 to 65535; anything
    that is an array. `log_annotation_context` gives the ids labels and colors.
    `draw_order`: what has more is drawn on top; None: -10. `ext`: as in `log_extension_components`.
    `timeless`: on no timeline, holds always. `recording`: None: the current one.
    Strict mode raises InvalidValueError (ValueError) for a shape or an id that does not fit, InvalidTypeError
    (TypeError) for a dtype.
    """
    if (stream := recording_or_warn(recording)) is not None:
        stream.log_value(
            "segmentation",
            entity_path,
            lambda settings: segmentation_content(image, strict=settings.strict),
            draw_order=draw_order,
            ext=ext,
            timeless=timeless,
        )
