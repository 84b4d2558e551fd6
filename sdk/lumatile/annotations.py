"""What class ids and keypoint ids mean: their labels and colors.

In the store an annotation context is JSON:

    {"classes": [{"id": 1, "label": "car", "color": [255, 0, 0, 255],
                  "keypoints": [{"id": 0, "label": "wheel"}], "connections": [[0, 1]]}]}

Labels and colors that were not given are absent; colors are uint8 sRGB with straight alpha.
"""

from __future__ import annotations

import hashlib
import json
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lumatile.content.arrays import as_array
from lumatile.content.colors import as_rgba8
from lumatile.errors import InvalidTypeError, InvalidValueError, shown
from lumatile.settings import FloatColors

MAX_ID = 65535


@dataclass(frozen=True)
class AnnotationInfo:
    """Label and color of a class or a keypoint."""

    id: int = 0
    """Of the class, or of the keypoint within its class: 0 to 65535."""
    label: str | None = None
    """None: no text."""
    color: Sequence[int] | Sequence[float] | None = None
    """RGB or RGBA: integers 0-255, sRGB gamma with linear alpha, or floats 0-1, linear; None: automatic."""


AnnotationInfoLike: TypeAlias = AnnotationInfo | tuple[int, str | None] | tuple[int, str | None, Sequence[int]]


@dataclass(frozen=True)
class ClassDescription:
    """A class and its keypoints."""

    info: AnnotationInfoLike | None = None
    """None: AnnotationInfo(), of class 0."""
    keypoint_annotations: Iterable[AnnotationInfoLike] | None = None
    """What the keypoints of the class are called and colored."""
    keypoint_connections: Iterable[tuple[int, int]] | Sequence[int] | None = None
    """Pairs of keypoint ids that are joined by a line; or the same, flat, as an even number of ids."""


ClassDescriptionLike: TypeAlias = ClassDescription | AnnotationInfoLike


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """An AnnotationInfo, checked."""

    id: int
    label: str | None = None
    color: tuple[int, ...] | None = None
    """(r, g, b, a), 0-255: sRGB with straight alpha."""


@dataclass(frozen=True, kw_only=True)
class ClassAnnotation:
    """A ClassDescription, checked."""

    info: Annotation
    keypoints: tuple[Annotation, ...] = ()
    connections: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, eq=False)
class AnnotationContext:
    """The classes that one annotation context knows; without arguments: none."""

    classes: Mapping[int, ClassAnnotation] = field(default_factory=dict)
    """By class id."""
    _palettes: dict[int, NDArray[np.uint8]] = field(default_factory=dict, init=False, repr=False)

    @staticmethod
    def of(descriptions: Any, float_colors: FloatColors = "linear") -> AnnotationContext:
        """Of one description or an iterable of them; of several of one class the last holds.

        Raises InvalidValueError or InvalidTypeError.
        """
        if isinstance(descriptions, ClassDescription | AnnotationInfo) or _is_info_tuple(descriptions):
            descriptions = [descriptions]
        classes = (_checked_class(each, float_colors) for each in _iterated("class descriptions", descriptions))
        return AnnotationContext({each.info.id: each for each in classes})

    @staticmethod
    def from_json(text: str) -> AnnotationContext:
        """Inverse of `to_json`."""
        return AnnotationContext(
            {
                each["id"]: ClassAnnotation(
                    info=_annotation_of_json(each),
                    keypoints=tuple(_annotation_of_json(keypoint) for keypoint in each.get("keypoints", ())),
                    connections=tuple((a, b) for a, b in each.get("connections", ())),
                )
                for each in json.loads(text)["classes"]
            }
        )

    def to_json(self) -> str:
        """As it is stored."""
        classes = []
        for each in self.classes.values():
            entry = _json_of_annotation(each.info)
            if each.keypoints:
                entry["keypoints"] = [_json_of_annotation(keypoint) for keypoint in each.keypoints]
            if each.connections:
                entry["connections"] = each.connections
            classes.append(entry)
        return json.dumps({"classes": classes}, separators=(",", ":"))

    @cached_property
    def palette_hash(self) -> str:
        """Equal for contexts that color everything alike: 32 hex digits."""
        colors = sorted(
            (id_, each.info.color, sorted((k.id, k.color) for k in each.keypoints if k.color is not None))
            for id_, each in self.classes.items()
        )
        return hashlib.sha256(json.dumps(colors).encode()).hexdigest()[:32]

    def palette(self, size: int) -> NDArray[np.uint8]:
        """Colors of a segmentation: (size, 4) uint8 sRGB with straight alpha, indexed by class id; size 256 or 65536.

        Class 0 is transparent where it is not annotated.
        """
        if size not in self._palettes:
            from lumatile_kernels.tables import automatic_class_color, class_palette

            colors = {
                id_: each.info.color or tuple(automatic_class_color(np.array([id_]))[0].tolist())
                for id_, each in self.classes.items()
            }
            self._palettes[size] = class_palette(colors, size)
        return self._palettes[size]

    def point_colors(
        self, class_ids: NDArray[np.uint16], keypoint_ids: NDArray[np.uint16] | None = None
    ) -> NDArray[np.uint8]:
        """Colors of points: (N,) ids to (N, 4) uint8 sRGB with straight alpha.

        The keypoint annotation's color, else the class annotation's, else the automatic one of the class.
        """
        from lumatile_kernels.tables import automatic_class_color

        colors = self.palette(MAX_ID + 1)[class_ids]
        if 0 not in self.classes:
            colors[class_ids == 0] = automatic_class_color(np.array([0]))
        keys, annotations = self._keypoints
        if keypoint_ids is not None and len(keys):
            table = np.array([annotation.color or (0, 0, 0, 0) for annotation in annotations], np.uint8)
            colored = np.array([annotation.color is not None for annotation in annotations])
            entry, found = _look_up(keys, class_ids, keypoint_ids)
            found &= colored[entry]
            colors[found] = table[entry[found]]
        return colors

    def point_labels(
        self, class_ids: NDArray[np.uint16], keypoint_ids: NDArray[np.uint16] | None = None
    ) -> list[str | None]:
        """Labels of points, (N,) ids: the keypoint annotation's, else the class annotation's, else None."""
        table = np.full(MAX_ID + 1, None, object)
        for id_, each in self.classes.items():
            table[id_] = each.info.label
        labels = table[class_ids]
        keys, annotations = self._keypoints
        if keypoint_ids is not None and len(keys):
            names = np.array([annotation.label for annotation in annotations], object)
            entry, found = _look_up(keys, class_ids, keypoint_ids)
            found &= np.array([annotation.label is not None for annotation in annotations])[entry]
            labels[found] = names[entry[found]]
        result: list[str | None] = labels.tolist()
        return result

    @cached_property
    def _keypoints(self) -> tuple[NDArray[np.uint32], list[Annotation]]:
        """All keypoint annotations, sorted by class_id * 65536 + keypoint id; (n,) those keys."""
        by_key = {(id_ << 16) + k.id: k for id_, each in self.classes.items() for k in each.keypoints}
        keys = sorted(by_key)
        return np.array(keys, np.uint32), [by_key[key] for key in keys]


def _look_up(
    keys: NDArray[np.uint32], class_ids: NDArray[np.uint16], keypoint_ids: NDArray[np.uint16]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """For each point an entry of `keys`, and whether it is the point's."""
    wanted = (class_ids.astype(np.uint32) << np.uint32(16)) + keypoint_ids
    entry = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return entry, keys[entry] == wanted


def _annotation_of_json(entry: dict[str, Any]) -> Annotation:
    color = entry.get("color")
    return Annotation(id=entry["id"], label=entry.get("label"), color=None if color is None else tuple(color))


def _json_of_annotation(annotation: Annotation) -> dict[str, Any]:
    entry: dict[str, Any] = {"id": annotation.id}
    if annotation.label is not None:
        entry["label"] = annotation.label
    if annotation.color is not None:
        entry["color"] = annotation.color
    return entry


def _iterated(name: str, values: Any) -> Iterator[Any]:
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise InvalidTypeError(f"{name} must be an iterable, not {shown(values)}")
    return iter(values)


def _is_info_tuple(value: Any) -> bool:
    return isinstance(value, tuple) and bool(value) and isinstance(value[0], int | np.integer)


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
        if not _is_info_tuple(info) or len(info) not in (2, 3):
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
