"""The choice of frames that are exported."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lumatile.entity_paths import normalise_entity_path
from lumatile.errors import NotFoundError
from lumatile.read.frame import Frame
from lumatile.read.recording_reader import RecordingReader

NO_VALUES = ("annotation_context",)
"""Kinds that are not exported as values: they are written with the values they color."""


class Selection:
    """The frames of some entities, one entity after another, each in log order."""

    def __init__(self, recording: RecordingReader, entities: Sequence[str] | None = None) -> None:
        """Choose entities.

        `entities`: entity paths, each with everything below it; None: all. Raises NotFoundError for a path without any.
        """
        there = recording.entities()
        self.recording = recording
        self.entities = there
        """The chosen entity paths."""
        if entities is not None:
            self.entities = sorted({path for each in entities for path in _below(recording, there, each)})

    def of(self, entity: str) -> Iterator[Frame]:
        """Yield the frames of an entity, and release each with the bytes it has read, so that memory stays bounded."""
        frames = self.recording.frames(entity)
        frames.reverse()
        while frames:
            frame = frames.pop()
            if frame.kind not in NO_VALUES:
                yield frame

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames of all chosen entities."""
        for entity in self.entities:
            yield from self.of(entity)


def _below(recording: RecordingReader, there: Sequence[str], entity: str) -> list[str]:
    path = normalise_entity_path(entity, root=True)
    found = [each for each in there if not path or each == path or each.startswith(path + "/")]
    if not found:
        raise NotFoundError(f"recording {recording.recording_id!r} has no entity {entity!r}; it has {there}")
    return found
