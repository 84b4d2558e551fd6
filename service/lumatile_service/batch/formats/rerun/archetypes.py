"""Rerun's archetypes as values: the components that a value is made of, and how they are logged."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lumatile.content.class_descriptions import AnnotationInfo, ClassDescription
from lumatile.errors import ImageFileError
from lumatile.log.recording import RecordingStream
from lumatile.values import Kind
from lumatile_service.batch.formats.contents import JPEG, PNG, gray_png, pillow_image
from lumatile_service.batch.formats.rerun.pixels import rerun_pixels

POINT_TYPES = {"positions": "<f4", "colors": "<u4", "radii": "<f4", "class_ids": "<u2", "keypoint_ids": "<u2"}
"""Rerun's columns of points, without labels -> dtype of their numbers. Colors are 0xRRGGBBAA."""

PRECISE = 2**53
"""float64 represents all integers up to this one exactly."""


@dataclass(frozen=True, kw_only=True)
class Archetype:
    """An archetype that becomes a value."""

    kind: Kind
    parts: Sequence[str]
    """Its components; without the first one there is nothing to see."""
    silent: Sequence[str] = ()
    """Components without further information, which the others imply."""


RASTER = ("buffer", "format", "draw_order")
POINTS = (*POINT_TYPES, "labels")

ARCHETYPES: Mapping[str, Archetype] = {
    "AnnotationContext": Archetype(kind="annotation_context", parts=("context",)),
    "Clear": Archetype(kind="clear", parts=("is_recursive",)),
    "Image": Archetype(kind="image", parts=RASTER),
    "EncodedImage": Archetype(kind="image", parts=("blob", "draw_order"), silent=("media_type",)),
    "DepthImage": Archetype(kind="depth", parts=(*RASTER, "meter")),
    "EncodedDepthImage": Archetype(kind="depth", parts=("blob", "draw_order", "meter"), silent=("media_type",)),
    "SegmentationImage": Archetype(kind="segmentation", parts=RASTER),
    "Points2D": Archetype(kind="points", parts=(*POINTS, "draw_order")),
    "Points3D": Archetype(kind="points", parts=POINTS),
}
"""Rerun's name -> archetype."""

_NAMES = [f"{name}:{part}" for name, archetype in ARCHETYPES.items() for part in archetype.parts]

COMPONENTS = {name: number for number, name in enumerate(_NAMES)}
"""Rerun's name of each of their components -> its number."""

SILENT = {f"{name}:{part}" for name, archetype in ARCHETYPES.items() for part in archetype.silent}


@dataclass(frozen=True, kw_only=True)
class Value:
    """A value taken out of Rerun's columns, as fields of a LogCall. It can be pickled."""

    kind: Kind
    read: Callable[[], bytes]
    log: Callable[[RecordingStream, str, bytes], None]
    beside: bytes = b""
    nbytes: int = 0
    pixels: int | None = None

    @classmethod
    def of(
        cls, kind: Kind, content: bytes, log: Callable[..., None], beside: Mapping[str, Any], pixels: int | None = None
    ) -> Value:
        """Return a value of `content`. `beside`: the other parameters that `log` has been given."""
        return cls(
            kind=kind,
            read=partial(bytes, content),
            log=log,
            beside=json.dumps(beside).encode() if beside else b"",
            nbytes=len(content),
            pixels=pixels,
        )


def value_of(name: str, parts: Mapping[str, pa.Array], *, static: bool) -> Value:
    """Return the value of an archetype's components, each the array of its instances; empty ones count as not logged.

    Without instances of the first component it shows nothing: no points, or a clear. Errors in the components are
    raised when the value is logged, or here as ImageFileError.
    """
    given = {part: array for part, array in parts.items() if len(array)}
    kind, first = ARCHETYPES[name].kind, ARCHETYPES[name].parts[0]
    if name == "Clear" or (first not in given and kind != "points"):
        recursive = name == "Clear" and bool(given["is_recursive"][0].as_py())
        return Value.of("clear", json.dumps(recursive).encode(), _log_clear, {})
    if name == "AnnotationContext":
        content = json.dumps(given["context"][0].as_py()).encode()
        return Value.of(kind, content, partial(_log_context, timeless=static), {})
    told: dict[str, Any] = {part: float(given[part][0].as_py()) for part in ("draw_order", "meter") if part in given}
    if kind == "points":
        told["columns"], content = _packed(given)
        return Value.of(kind, content, partial(_log_points, timeless=static, **told), told)
    told["image_format"] = None
    if first == "buffer":
        if "format" not in given:
            raise ImageFileError(f"Rerun's {name} must have a format, and has none at this instant")
        told["image_format"] = given["format"][0].as_py()
    size = told["image_format"] and told["image_format"]["width"] * told["image_format"]["height"]
    log = partial(_log_raster, kind=kind, timeless=static, **told)
    return Value.of(kind, _bytes(given[first]), log, told, size)


def _log_raster(
    recording: RecordingStream,
    entity_path: str,
    content: bytes,
    *,
    kind: Kind,
    image_format: Mapping[str, Any] | None,
    timeless: bool,
    draw_order: float | None = None,
    meter: float | None = None,
) -> None:
    limit = recording.settings.pixel_limit
    said: dict[str, Any] = {"draw_order": draw_order, "timeless": timeless}
    if kind == "image" and image_format is None and content.startswith((JPEG, PNG)):
        recording.log_image_file(entity_path, img_bytes=content, **said)
    elif kind == "image":
        array = pillow_image(content, limit) if image_format is None else rerun_pixels(content, image_format)
        recording.log_image(entity_path, array, **said)
    elif kind == "depth":
        array = gray_png(content, limit) if image_format is None else rerun_pixels(content, image_format)
        integers = array.dtype.kind != "f"
        recording.log_depth_image(
            entity_path, _depth(array), meter=(1000.0 if integers else 1.0) if meter is None else meter, **said
        )
    else:
        recording.log_segmentation_image(entity_path, rerun_pixels(content, image_format or {}), **said)


def _depth(array: NDArray[Any]) -> NDArray[Any]:
    """Convert integers that a depth image cannot have to float64, if that is exact. Raises ImageFileError."""
    if array.dtype.kind == "f" or array.dtype in (np.uint8, np.uint16):
        return array
    if array.size and max(int(array.max()), -int(array.min())) > PRECISE:
        raise ImageFileError(f"a depth of {array.dtype.name} must be at most 2^53, not {array.max()}")
    return array.astype(np.float64)


def _log_points(
    recording: RecordingStream,
    entity_path: str,
    content: bytes,
    *,
    columns: Mapping[str, Sequence[int]],
    timeless: bool,
    draw_order: float | None = None,
) -> None:
    recording.log_points(entity_path, **_unpacked(columns, content), timeless=timeless, draw_order=draw_order)


def _packed(given: Mapping[str, pa.Array]) -> tuple[dict[str, list[int]], bytes]:
    """Return the shapes of columns of points, and the columns one after another. Counts other than 1 and N become N.

    As in Rerun, the last of too few is repeated, and too many are cut off.
    """
    count = len(given.get("positions", ()))
    shapes: dict[str, list[int]] = {}
    parts = []
    for name, kind in POINT_TYPES.items():
        if name in given:
            flat = given[name].flatten() if name == "positions" else given[name]
            numbers = np.asarray(flat.to_numpy(zero_copy_only=False), kind).reshape(len(given[name]), -1)
            numbers = numbers[np.minimum(np.arange(_count(len(numbers), count)), len(numbers) - 1)]
            shapes[name] = list(numbers.shape)
            parts.append(numbers.tobytes())
    if "labels" in given:
        labels = given["labels"].to_pylist()
        labels += labels[-1:] * (count - len(labels) if len(labels) > 1 else 0)
        text = json.dumps(labels[: _count(len(labels), count)]).encode()
        shapes["labels"] = [len(text)]
        parts.append(text)
    return shapes, b"".join(parts)


def _count(given: int, points: int) -> int:
    return 1 if given == 1 else max(1, points)


def _unpacked(columns: Mapping[str, Sequence[int]], content: bytes) -> dict[str, Any]:
    """Return the columns that `_packed` has packed, by their names in `log_points`."""
    found: dict[str, Any] = {}
    start = 0
    for name, shape in columns.items():
        if name == "labels":
            found[name] = json.loads(content[start : start + shape[0]])
            break
        numbers = np.frombuffer(content, POINT_TYPES[name], int(np.prod(shape)), start).reshape(shape)
        start += numbers.nbytes
        if name == "colors":
            numbers = numbers.astype(">u4").view(np.uint8).reshape(-1, 4)
        found[name] = numbers if name in ("positions", "colors") else numbers.reshape(-1)
    return found


def _log_context(recording: RecordingStream, entity_path: str, content: bytes, *, timeless: bool) -> None:
    described = [each["class_description"] | {"class_id": each["class_id"]} for each in json.loads(content)]
    classes = [
        ClassDescription(
            info=_info(each["info"], each["class_id"]),
            keypoint_annotations=[_info(keypoint, keypoint["id"]) for keypoint in each["keypoint_annotations"] or ()],
            keypoint_connections=[(a["keypoint0"], a["keypoint1"]) for a in each["keypoint_connections"] or ()],
        )
        for each in described
    ]
    recording.log_annotation_context(entity_path, classes, timeless=timeless)


def _info(info: Mapping[str, Any], number: int) -> AnnotationInfo:
    color = info["color"]
    return AnnotationInfo(number, info["label"], None if color is None else list(int(color).to_bytes(4, "big")))


def _log_clear(recording: RecordingStream, entity_path: str, content: bytes) -> None:
    recording.log_cleared(entity_path, recursive=json.loads(content))


def _bytes(instances: pa.Array) -> bytes:
    """Return the bytes of a component that is one blob."""
    first = instances[0]
    if isinstance(first, pa.ListScalar | pa.LargeListScalar):
        blob: bytes = first.values.to_numpy(zero_copy_only=False).tobytes()
        return blob
    return bytes(first.as_py())
