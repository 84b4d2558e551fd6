"""The functions that log annotation contexts, extension components and clears to the current recording."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lumatile.content.class_descriptions import ClassDescriptionLike
from lumatile.log.arguments import lenient
from lumatile.log.current import recording_or_warn
from lumatile.log.recording import RecordingStream


@lenient
def log_annotation_context(
    entity_path: str,
    class_descriptions: ClassDescriptionLike | Iterable[ClassDescriptionLike],
    *,
    timeless: bool = True,
    recording: RecordingStream | None = None,
) -> None:
    """Log labels and colors of class ids and keypoint ids, for an entity and everything below it.

    An entity uses the context of its nearest ancestor, or its own, as a whole: contexts do not merge.

    Args:
        entity_path: The path of the entity; "/": all entities.
        class_descriptions: One or several, each a ClassDescription, an AnnotationInfo or (id, label[, color]); the last
            of several of one class holds.
        timeless: The context is on no timeline and holds always.
        recording: The recording to log to; None: the current one.

    Raises:
        InvalidValueError: In strict mode, for an id that is not 0 to 65535 or a color that is not one RGB or RGBA (a
            ValueError).
        InvalidTypeError: In strict mode, for anything else that is no description (a TypeError).
    """
    if (found := recording_or_warn(recording)) is not None:
        found.log_annotation_context(entity_path, class_descriptions, timeless=timeless)


@lenient
def log_extension_components(
    entity_path: str,
    ext: Mapping[str, Any],
    *,
    identifiers: Any = None,
    timeless: bool = False,
    recording: RecordingStream | None = None,
) -> None:
    """Log components of your own to an entity: names and values, kept as JSON.

    Args:
        entity_path: The path of the entity.
        ext: A dictionary with string keys; values are numbers, strings, booleans, None, instants, lists, dictionaries
            and arrays. NaN and infinities become the strings "NaN", "Infinity" and "-Infinity"; instants (datetime,
            numpy.datetime64) become ISO 8601 strings. Durations are refused: give seconds.
        identifiers: Integers of 64 bits, those of the entity's points that the values are for; None: the whole entity.
        timeless: The components are on no timeline and hold always.
        recording: The recording to log to; None: the current one.

    Raises:
        InvalidTypeError: In strict mode, for a value that has no JSON (a TypeError).
        InvalidValueError: In strict mode, for identifiers that do not fit (a ValueError).
    """
    if (found := recording_or_warn(recording)) is not None:
        found.log_extension_components(entity_path, ext, identifiers=identifiers, timeless=timeless)


@lenient
def log_cleared(entity_path: str, *, recursive: bool = False, recording: RecordingStream | None = None) -> None:
    """Log that an entity shows nothing from now on, until something is logged to it again; history stays.

    Args:
        entity_path: The path of the entity.
        recursive: Clear everything below it too; with the entity path "/": the whole recording.
        recording: The recording to log to; None: the current one.

    Raises:
        InvalidValueError: In strict mode, for the entity path (a ValueError).
    """
    if (found := recording_or_warn(recording)) is not None:
        found.log_cleared(entity_path, recursive=recursive)
