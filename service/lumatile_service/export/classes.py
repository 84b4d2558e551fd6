"""The classes that segmentations and points are colored by, for what lies beside their files."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from lumatile.annotations import AnnotationContext
from lumatile.read.frame import Frame

PALETTE = 65536


class Classes:
    """The annotation contexts of an export, each once."""

    def __init__(self) -> None:
        """None yet."""
        self.found: dict[str, dict[str, Any]] = {}
        """Key -> context: {"classes": [{"id": 1, "label": "car", "color": [255, 0, 0, 255]}]}, colors uint8 sRGB with
        straight alpha, those that are automatic too; keypoints and connections as in the store."""

    def key_of(self, frame: Frame) -> str | None:
        """The key of the context that holds for a frame; None where it has no classes, or none is annotated."""
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
