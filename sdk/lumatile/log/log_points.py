"""The functions that log points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lumatile.content.point_content import points_content
from lumatile.log.current import recording_or_warn

if TYPE_CHECKING:
    from lumatile.log.recording import RecordingStream


def log_point(
    entity_path: str,
    position: Any = None,
    *,
    radius: float | None = None,
    color: Any = None,
    label: str | None = None,
    class_id: int | None = None,
    keypoint_id: int | None = None,
    draw_order: float | None = None,
    ext: Mapping[str, Any] | None = None,
    timeless: bool = False,
    recording: RecordingStream | None = None,
) -> None:
    """Log a 2D or 3D point: `log_points` of one. Replaces what was logged to the path before.

    `position`: any array of 2 or 3 numbers; None: no point. `radius`: in units of the positions.
    `color`: RGB or RGBA, as in `log_points`. `label`: text shown with it. `class_id`: 0 to 65535, gives color and
    label where they are not given; see `log_annotation_context`. `keypoint_id`: 0 to 65535, within the class (class 0
    if none is given). `draw_order`: what has more is drawn on top; None: 30.
    `ext`: as in `log_extension_components`. `timeless`: on no timeline, holds always. `recording`: None: the current
    one. Strict mode raises as in `log_points`.
    """
    given = {
        "positions": position,
        "colors": color,
        "radii": radius,
        "labels": label,
        "class_ids": class_id,
        "keypoint_ids": keypoint_id,
    }
    if (stream := recording_or_warn(recording)) is not None:
        stream.log_value(
            "points",
            entity_path,
            lambda settings: points_content(given, settings.float_colors, single=True),
            draw_order=draw_order,
            ext=ext,
            timeless=timeless,
        )


def log_points(
    entity_path: str,
    positions: Any = None,
    *,
    identifiers: Any = None,
    colors: Any = None,
    radii: Any = None,
    labels: str | Sequence[str | None] | None = None,
    class_ids: Any = None,
    keypoint_ids: Any = None,
    draw_order: float | None = None,
    ext: Mapping[str, Any] | None = None,
    timeless: bool = False,
    recording: RecordingStream | None = None,
) -> None:
    """Log N 2D or 3D points. Replaces what was logged to the path before.

    Of everything but the positions: one for all points, or N.

    `positions`: Nx2 or Nx3; None or empty: no points. Anything that is an array, here and below.
    `identifiers`: numbers of 64 bits, shown with the points.
    `colors`: RGB or RGBA, (3,), (4,), Nx3 or Nx4. Integers are 0-255, sRGB gamma; floats are 0-1, linear light
    (or gamma, with the recording's float_colors="srgb"); alpha is linear and straight. Out of range is clamped,
    with a warning. `radii`: in units of the positions. `labels`: text shown with the points; None: none.
    `class_ids`: 0 to 65535, give colors and labels where they are not given; see `log_annotation_context`.
    `keypoint_ids`: 0 to 65535, within the class (class 0 if none are given).
    `draw_order`: what has more is drawn on top; None: 30. `ext`: as in `log_extension_components`.
    `timeless`: on no timeline, holds always. `recording`: None: the current one.
    Strict mode raises InvalidValueError (ValueError) for a shape, for a count that is neither 1 nor N and for ids that
    don't fit, InvalidTypeError (TypeError) for a type or dtype.
    """
    given = {
        "positions": positions,
        "identifiers": identifiers,
        "colors": colors,
        "radii": radii,
        "labels": labels,
        "class_ids": class_ids,
        "keypoint_ids": keypoint_ids,
    }
    if (stream := recording_or_warn(recording)) is not None:
        stream.log_value(
            "points",
            entity_path,
            lambda settings: points_content(given, settings.float_colors, single=False),
            draw_order=draw_order,
            ext=ext,
            timeless=timeless,
        )
