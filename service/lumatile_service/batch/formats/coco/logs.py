"""The functions that log what a COCO file says of an image: its categories, its instances, the names of categories."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from numpy.typing import NDArray

from lumatile.errors import InvalidValueError, shown
from lumatile.log.recording import RecordingStream
from lumatile_kernels.decode.orientation import upright
from lumatile_service.batch.formats.coco.masks import paint


def log_categories(
    recording: RecordingStream, entity_path: str, content: bytes, *, file: str, dtype: str, shift: int
) -> None:
    """Log the class ids of a picture, which are category ids plus `shift`. `file`: the path of its image."""
    with _naming(file):
        annotations, picture = _picture(content, recording.settings.pixel_limit)
        ids = [_category_id(annotation, shift) + shift for annotation in annotations]
        recording.log_segmentation_image(entity_path, _painted(annotations, ids, picture, dtype))


def log_instances(recording: RecordingStream, entity_path: str, content: bytes, *, file: str) -> None:
    """Log the instances of a picture, as uint8, or as uint16 if there are more than 255. `file`: as above."""
    with _naming(file):
        annotations, picture = _picture(content, recording.settings.pixel_limit)
        numbers = range(1, len(annotations) + 1)
        dtype = "uint8" if len(annotations) <= 255 else "uint16"
        recording.log_segmentation_image(entity_path, _painted(annotations, numbers, picture, dtype))


def log_names(recording: RecordingStream, entity_path: str, content: bytes, *, shift: int) -> None:
    """Log the names of categories by their class ids, which are category ids plus `shift`."""
    names = [(each["id"] + shift, each["name"]) for each in json.loads(content)]
    recording.log_annotation_context(entity_path, names)


def _picture(content: bytes, pixel_limit: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the annotations of a picture, and all that is known of it. Raises InvalidValueError."""
    picture = json.loads(content)
    height, width = picture["height"], picture["width"]
    if not all(type(size) is int and size > 0 for size in (height, width)):
        raise InvalidValueError(f"height and width must be positive integers, not {shown(height)} and {shown(width)}")
    if height * width > pixel_limit:
        raise InvalidValueError(f"{width}x{height} pixels are more than the limit of {pixel_limit}")
    return picture["annotations"], picture


def _painted(
    annotations: Sequence[Mapping[str, Any]], values: Sequence[int], picture: Mapping[str, Any], dtype: str
) -> NDArray[Any]:
    """Return the pixels of annotations, (h, w) of `dtype`, upright as the image is."""
    painted = paint(annotations, values, picture["height"], picture["width"], dtype)
    return upright(painted, picture.get("orientation", 1))


@contextmanager
def _naming(file: str) -> Iterator[None]:
    """Name the image in the errors of its masks."""
    try:
        yield
    except InvalidValueError as e:
        raise InvalidValueError(f"the masks of {file}: {e}") from e


def _category_id(annotation: Mapping[str, Any], shift: int) -> int:
    number = annotation.get("category_id")
    if type(number) is not int or not 0 <= number <= 65535 - shift:
        raise InvalidValueError(
            f"annotation {shown(annotation.get('id'))}: category_id must be 0 to {65535 - shift}, not {shown(number)}"
        )
    return number
