"""The meaning of class ids and keypoint ids: their labels and colors.

In the store an annotation context is JSON:

    {"classes": [{"id": 1, "label": "car", "color": [255, 0, 0, 255],
                  "keypoints": [{"id": 0, "label": "wheel"}], "connections": [[0, 1]]}]}

Labels and colors that were not given are absent; colors are uint8 sRGB with straight alpha.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumatile_kernels.tables import automatic_class_color, class_palette

MAX_ID = 65535
"""The largest class id and keypoint id."""


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """The label and color of a class or a keypoint, checked."""

    id: int
    """The id of the class, or of the keypoint within its class: 0 to 65535."""
    label: str | None = None
    """The text; None: there is none."""
    color: tuple[int, ...] | None = None
    """(r, g, b, a), 0-255: sRGB with straight alpha; None: automatic."""


@dataclass(frozen=True, kw_only=True)
class ClassAnnotation:
    """A class and its keypoints, checked."""

    info: Annotation
    """The id, label and color of the class."""
    keypoints: tuple[Annotation, ...] = ()
    """The labels and colors of its keypoints."""
    connections: tuple[tuple[int, int], ...] = ()
    """Pairs of keypoint ids that are joined by a line."""


@dataclass(frozen=True, eq=False)
class AnnotationContext:
    """The classes that one annotation context describes; without arguments: none."""

    classes: Mapping[int, ClassAnnotation] = field(default_factory=dict)
    """Class id -> the class."""
    _palettes: dict[int, NDArray[np.uint8]] = field(default_factory=dict, init=False, repr=False)

    @staticmethod
    def from_json(text: str) -> AnnotationContext:
        """Return the context that `to_json` gave this text for."""
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
        """Return the text that is stored, as in the module's docstring."""
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
        """32 hex digits that are equal for contexts that color everything alike."""
        colors = sorted(
            (id_, each.info.color, sorted((k.id, k.color) for k in each.keypoints if k.color is not None))
            for id_, each in self.classes.items()
        )
        return hashlib.sha256(json.dumps(colors).encode()).hexdigest()[:32]

    def palette(self, size: int) -> NDArray[np.uint8]:
        """Return the colors of a segmentation: (size, 4) uint8, sRGB with straight alpha, indexed by class id.

        `size`: 256 or 65536. Class 0 is transparent where it is not annotated.
        """
        if size not in self._palettes:
            colors = {
                id_: each.info.color or tuple(automatic_class_color(np.array([id_]))[0].tolist())
                for id_, each in self.classes.items()
            }
            self._palettes[size] = class_palette(colors, size)
        return self._palettes[size]

    def point_colors(
        self, class_ids: NDArray[np.uint16], keypoint_ids: NDArray[np.uint16] | None = None
    ) -> NDArray[np.uint8]:
        """Return the colors of N points with these (N,) ids: (N, 4) uint8, sRGB with straight alpha.

        A point has the color of its keypoint annotation, else of its class annotation, else the automatic color of
        its class.
        """
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
        """Return the labels of N points with these (N,) ids.

        A point has the label of its keypoint annotation, else of its class annotation, else None.
        """
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
        """(n,) keys class_id * 65536 + keypoint_id in ascending order, and the keypoint annotations in that order."""
        by_key = {(id_ << 16) + k.id: k for id_, each in self.classes.items() for k in each.keypoints}
        keys = sorted(by_key)
        return np.array(keys, np.uint32), [by_key[key] for key in keys]


def _look_up(
    keys: NDArray[np.uint32], class_ids: NDArray[np.uint16], keypoint_ids: NDArray[np.uint16]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return for each point an index into `keys`, and whether the key there is the point's."""
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
