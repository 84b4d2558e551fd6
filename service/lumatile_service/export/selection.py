"""Which frames of a recording are exported."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lumatile.entity_paths import normalise_entity_path
from lumatile.errors import NotFoundError
from lumatile.read.frame import Frame
from lumatile.read.recording_reader import RecordingReader

NO_VALUES = ("annotation_context",)
"""Kinds that are no values of their own: they go along with what they color."""


class Selection:
    """The frames of some entities, one entity after another, each in log order."""

    def __init__(self, recording: RecordingReader, entities: Sequence[str] | None = None) -> None:
        """`entities`: paths, each with all below it; None: all. Raises NotFoundError where there is none of a path."""
        there = recording.entities()
        self.recording = recording
        self.entities = there
        """Paths."""
        if entities is not None:
            self.entities = sorted({path for each in entities for path in _below(recording, there, each)})

    def of(self, entity: str) -> Iterator[Frame]:
        """The frames of an entity. What a frame has read is forgotten with it, so that memory stays bounded."""
        frames = self.recording.frames(entity)
        frames.reverse()
        while frames:
            frame = frames.pop()
            if frame.kind not in NO_VALUES:
                yield frame

    def __iter__(self) -> Iterator[Frame]:
        """All of them."""
        for entity in self.entities:
            yield from self.of(entity)


def _below(recording: RecordingReader, there: Sequence[str], entity: str) -> list[str]:
    path = normalise_entity_path(entity, root=True)
    found = [each for each in there if not path or each == path or each.startswith(path + "/")]
    if not found:
        raise NotFoundError(f"recording {recording.recording_id!r} has no entity {entity!r}; it has {there}")
    return found
