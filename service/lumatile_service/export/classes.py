"""The classes that segmentations and points are colored by, for the metadata that is written next to their files."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from lumatile.annotations import AnnotationContext
from lumatile.read.frame import Frame

PALETTE = 65536


class Classes:
    """The annotation contexts of an export, each of them once."""

    def __init__(self) -> None:
        """Begin without contexts."""
        self.found: dict[str, dict[str, Any]] = {}
        """Key -> context: {"classes": [{"id": 1, "label": "car", "color": [255, 0, 0, 255]}]}.

        Colors are uint8 sRGB with straight alpha, including automatic ones; keypoints and connections are as in the
        store."""

    def key_of(self, frame: Frame) -> str | None:
        """Return the key of the context that holds for a frame; None: it has no classes, or none are annotated."""
        if frame.kind not in ("segmentation", "points"):
            return None
        context = frame.annotation_context()
        if not context.classes:
            return None
        text = context.to_json()
        key = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
        if key not in self.found:
            self.found[key] = _colored(context, json.loads(text))
        return key


def _colored(context: AnnotationContext, described: dict[str, Any]) -> dict[str, Any]:
    palette = context.palette(PALETTE)
    for each in described["classes"]:
        each["color"] = palette[each["id"]].tolist()
    return described
