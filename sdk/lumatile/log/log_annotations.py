"""The functions that log what is said about entities: annotation contexts, extension components, clears."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from lumatile.annotations import AnnotationContext, ClassDescriptionLike
from lumatile.content.point_content import as_identifiers, identifiers_given
from lumatile.errors import InvalidTypeError, shown
from lumatile.log.current import recording_or_warn
from lumatile.values import Content

if TYPE_CHECKING:
    from lumatile.log.recording import RecordingStream


def log_annotation_context(
    entity_path: str,
    class_descriptions: ClassDescriptionLike | Iterable[ClassDescriptionLike],
    *,
    timeless: bool = True,
    recording: RecordingStream | None = None,
) -> None:
    """Log labels and colors of class ids and keypoint ids, for an entity ("/": all) and everything below it.

    `class_descriptions`: one or several, each a ClassDescription, an AnnotationInfo or (id, label[, color]); of
    several of one class the last holds. An entity uses the context of its nearest ancestor, or its own, as a whole:
    contexts don't merge. `timeless`: on no timeline, holds always. `recording`: None: the current one.
    Strict mode raises InvalidValueError (ValueError) for an id that is not 0 to 65535 or a color that is none,
    InvalidTypeError (TypeError) for anything else that is no description.
    """
    if (stream := recording_or_warn(recording)) is not None:
        stream.log_value(
            "annotation_context",
            entity_path,
            lambda settings: {"body": AnnotationContext.of(class_descriptions, settings.float_colors).to_json()},
            timeless=timeless,
        )


def log_extension_components(
    entity_path: str,
    ext: Mapping[str, Any],
    *,
    identifiers: Any = None,
    timeless: bool = False,
    recording: RecordingStream | None = None,
) -> None:
    """Log components of the user's own to an entity: names and values, kept as JSON.

    `ext`: a dictionary with string keys; values are numbers, strings, booleans, None, lists, dictionaries and arrays.
    NaN and infinities become the strings "NaN", "Infinity" and "-Infinity".
    `identifiers`: of the entity's points that the values are for, integers of 64 bits; None: of the whole entity.
    `timeless`: on no timeline, holds always. `recording`: None: the current one.
    Strict mode raises InvalidTypeError (TypeError) for what has no JSON, InvalidValueError (ValueError) for
    identifiers that don't fit.
    """
    if (stream := recording_or_warn(recording)) is not None:
        stream.log_value("ext", entity_path, lambda _: _extension_content(ext, identifiers), ext=ext, timeless=timeless)


def log_cleared(entity_path: str, *, recursive: bool = False, recording: RecordingStream | None = None) -> None:
    """Log that an entity shows nothing from now on, until something is logged to it again; history stays.

    `recursive`: everything below it too; with the entity path "/": the whole recording. `recording`: None: the
    current one. Strict mode raises InvalidValueError (ValueError) for the entity path.
    """
    if (stream := recording_or_warn(recording)) is not None:
        stream.log_value("clear", entity_path, lambda _: {"recursive": bool(recursive)})


def _extension_content(ext: Any, identifiers: Any) -> Content:
    if ext is None:
        raise InvalidTypeError(f"ext must be a dictionary, not {shown(ext)}")
    if identifiers is None:
        return {}
    numbers = as_identifiers(identifiers_given(identifiers)[0])
    return {"body": json.dumps({"identifiers": numbers.tolist()}, separators=(",", ":"))}
