"""The annotation contexts a pipeline has seen, for the colors it bakes."""

from __future__ import annotations

from lumatile.annotations import AnnotationContext
from lumatile.values import LoggedValue


class KnownContexts:
    """The newest context of each entity; a timeless one counts only where there is no other.

    The colors baked with them are a cache: a reader colors again if the context it finds has another palette.
    """

    def __init__(self) -> None:
        """Begin with no contexts."""
        self._contexts: dict[tuple[str, bool], AnnotationContext] = {}
        self._none = AnnotationContext()

    def add(self, value: LoggedValue) -> None:
        """Add a logged annotation context."""
        if value.body is not None:
            self._contexts[value.entity_path, value.time.timeless] = AnnotationContext.from_json(value.body)

    def nearest(self, entity_path: str) -> AnnotationContext:
        """Return the context of the entity or of its nearest ancestor that has one; an empty one if none has."""
        path = entity_path
        while True:
            for timeless in (False, True):
                if (path, timeless) in self._contexts:
                    return self._contexts[path, timeless]
            if not path:
                return self._none
            path = path.rpartition("/")[0]
