"""Class descriptions as a user passes them, and how they are checked."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from lumatile.annotations import MAX_ID, Annotation, AnnotationContext, ClassAnnotation
from lumatile.content.arrays import as_array
from lumatile.content.colors import as_rgba8
from lumatile.errors import InvalidTypeError, InvalidValueError, shown
from lumatile.settings import FloatColors


@dataclass(frozen=True)
class AnnotationInfo:
    """The label and color of a class or a keypoint."""

    id: int = 0
    """The id of the class, or of the keypoint within its class: 0 to 65535."""
    label: str | None = None
    """The text; None: there is none."""
    color: Sequence[int] | Sequence[float] | None = None
    """RGB or RGBA: integers 0-255 (sRGB gamma, linear alpha) or floats 0-1 (linear light); None: automatic."""


AnnotationInfoLike: TypeAlias = (
    AnnotationInfo | tuple[int, str | None] | tuple[int, str | None, Sequence[int]] | list[Any]
)
"""An AnnotationInfo, or (id, label[, color]) as a tuple or a list."""


@dataclass(frozen=True)
class ClassDescription:
    """A class and its keypoints."""

    info: AnnotationInfoLike | None = None
    """The id, label and color of the class; None: AnnotationInfo(), which is class 0."""
    keypoint_annotations: Iterable[AnnotationInfoLike] | None = None
    """The labels and colors of the keypoints of the class."""
    keypoint_connections: Iterable[tuple[int, int]] | Sequence[int] | None = None
    """Pairs of keypoint ids that are joined by a line, or the same ids in one flat sequence of even length."""


ClassDescriptionLike: TypeAlias = ClassDescription | AnnotationInfoLike


def annotation_context(descriptions: Any, float_colors: FloatColors = "linear") -> AnnotationContext:
    """Return the context of one description or of an iterable of them; the last of several of one class holds.

    Raises InvalidValueError or InvalidTypeError.
    """
    if isinstance(descriptions, ClassDescription | AnnotationInfo) or _is_info_sequence(descriptions):
        descriptions = [descriptions]
    classes = (_checked_class(each, float_colors) for each in _iterated("class descriptions", descriptions))
    return AnnotationContext({each.info.id: each for each in classes})


def _iterated(name: str, values: Any) -> Iterator[Any]:
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise InvalidTypeError(f"{name} must be an iterable, not {shown(values)}")
    return iter(values)


def _is_info_sequence(value: Any) -> bool:
    """Return whether `value` is one (id, label[, color]); a list is only where its second item is a label."""
    if isinstance(value, list) and not (len(value) > 1 and isinstance(value[1], str | None)):
        return False
    return isinstance(value, tuple | list) and bool(value) and isinstance(value[0], int | np.integer)


def _checked_class(description: Any, float_colors: FloatColors) -> ClassAnnotation:
    if not isinstance(description, ClassDescription):
        return ClassAnnotation(info=_checked("class description", description, float_colors))
    keypoints = () if description.keypoint_annotations is None else description.keypoint_annotations
    return ClassAnnotation(
        info=_checked("info", AnnotationInfo() if description.info is None else description.info, float_colors),
        keypoints=tuple(
            _checked("keypoint annotation", each, float_colors) for each in _iterated("keypoint_annotations", keypoints)
        ),
        connections=_connections(description.keypoint_connections),
    )


def _checked(name: str, info: Any, float_colors: FloatColors) -> Annotation:
    if not isinstance(info, AnnotationInfo):
        if not _is_info_sequence(info) or len(info) not in (2, 3):
            raise InvalidTypeError(f"{name} must be an AnnotationInfo or (id, label[, color]), not {shown(info)}")
        info = AnnotationInfo(*info)
    if not (info.label is None or isinstance(info.label, str)):
        raise InvalidTypeError(f"{name}: label must be a string or None, not {shown(info.label)}")
    color = None
    if info.color is not None:
        rows = as_rgba8("color", as_array("color", info.color)[0], float_colors)
        if len(rows) != 1:
            raise InvalidValueError(f"{name}: color must be one RGB or RGBA, not {shown(info.color)}")
        color = tuple(rows[0].tolist())
    return Annotation(id=_checked_id(f"{name}: id", info.id), label=info.label, color=color)


def _checked_id(name: str, value: Any) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise InvalidTypeError(f"{name} must be an integer, not {shown(value)}") from None
    if not 0 <= number <= MAX_ID:
        raise InvalidValueError(f"{name} must be 0 to {MAX_ID}, not {shown(number)}")
    return number


def _connections(connections: Any) -> tuple[tuple[int, int], ...]:
    rule = "keypoint_connections must be pairs of keypoint ids, or an even number of them"
    items = [] if connections is None else list(_iterated("keypoint_connections", connections))
    if items and all(isinstance(item, int | np.integer) for item in items):
        if len(items) % 2:
            raise InvalidValueError(f"{rule}, not {len(items)}")
        items = list(zip(items[::2], items[1::2], strict=True))
    pairs = [tuple(_iterated("a keypoint connection", item)) for item in items]
    if any(len(pair) != 2 for pair in pairs):
        raise InvalidValueError(f"{rule}, not {shown(connections)}")
    return tuple((_checked_id("keypoint id", a), _checked_id("keypoint id", b)) for a, b in pairs)
