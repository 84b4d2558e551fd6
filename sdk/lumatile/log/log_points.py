"""The functions that log points to the current recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lumatile.log.arguments import lenient
from lumatile.log.current import recording_or_warn
from lumatile.log.recording import RecordingStream


@lenient
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
    """Log one 2D or 3D point, which replaces the points that were logged to the path before.

    Args:
        entity_path: The path of the entity that shows the point.
        position: Any array of 2 or 3 numbers; None: no point.
        radius: In units of the position; None: not said.
        color: RGB or RGBA, as in `log_points`; None: the color of the class.
        label: Text shown with the point; None: the label of the class.
        class_id: 0 to 65535; gives the color and the label if they are not given, see `log_annotation_context`.
        keypoint_id: 0 to 65535, within the class (class 0 if none is given).
        draw_order: Higher values are drawn on top; None: 30.
        ext: Components of your own, as in `log_extension_components`.
        timeless: The point is on no timeline and holds always.
        recording: The recording to log to; None: the current one.

    Raises:
        InvalidValueError: In strict mode, for a shape or an id that does not fit (a ValueError).
        InvalidTypeError: In strict mode, for a type or dtype (a TypeError).
    """
    if (found := recording_or_warn(recording)) is not None:
        found.log_point(
            entity_path,
            position,
            radius=radius,
            color=color,
            label=label,
            class_id=class_id,
            keypoint_id=keypoint_id,
            draw_order=draw_order,
            ext=ext,
            timeless=timeless,
        )


@lenient
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
    """Log N 2D or 3D points, which replace the points that were logged to the path before.

    Everything but the positions is given once for all points, or N times; with no points, any number of times. An empty
    column is the same as None. All of it may be anything that is an array.

    Args:
        entity_path: The path of the entity that shows the points.
        positions: Nx2 or Nx3; None or empty: no points. Masked elements of a `np.ma` array become NaN.
        identifiers: Integers of 64 bits, shown with the points.
        colors: RGB or RGBA, (3,), (4,), Nx3 or Nx4. Integers are 0-255, sRGB gamma; floats are 0-1, linear light (or
            gamma, with the recording's float_colors="srgb"); alpha is linear and straight. Values out of range are
            clamped, with a warning. None: the colors of the classes; white without any.
        radii: In units of the positions; None: not said.
        labels: Text shown with the points; None: the labels of the classes. A missing label is None, NaN or NA.
        class_ids: 0 to 65535; give colors and labels if they are not given, see `log_annotation_context`.
        keypoint_ids: 0 to 65535, within the class (class 0 if none are given).
        draw_order: Higher values are drawn on top; None: 30.
        ext: Components of your own, as in `log_extension_components`.
        timeless: The points are on no timeline and hold always.
        recording: The recording to log to; None: the current one.

    Raises:
        InvalidValueError: In strict mode, for a shape, a count that is neither 1 nor N, or ids that do not fit (a
            ValueError).
        InvalidTypeError: In strict mode, for a type or dtype (a TypeError).
    """
    if (found := recording_or_warn(recording)) is not None:
        found.log_points(
            entity_path,
            positions,
            identifiers=identifiers,
            colors=colors,
            radii=radii,
            labels=labels,
            class_ids=class_ids,
            keypoint_ids=keypoint_ids,
            draw_order=draw_order,
            ext=ext,
            timeless=timeless,
        )
