"""Frames as pictures for people."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lumatile.read.frame import Frame
from lumatile_service.show.point_view import PointView, draw_points

WHITE = 255


def frame_picture(
    frame: Frame, *, level: int = 0, tile: tuple[int, int] | None = None, view: PointView | None = None
) -> NDArray[np.uint8]:
    """Return a picture of a frame: (h, w, 4) uint8 sRGB with straight alpha.

    An image, depth (in the colormap Turbo) or a segmentation (in its colors) is drawn at `level`, or only its `tile`
    (x, y) there; points are drawn as `view` shows them, white where they have no color.

    Raises NotFoundError for a level or tile that the frame does not have.
    """
    if frame.kind != "points":
        return frame.to_rgba8(level=level, tile=tile)
    points = frame.points()
    colors = np.full((len(points.positions), 4), WHITE, np.uint8) if points.colors is None else points.colors
    return draw_points(points.positions, colors, PointView() if view is None else view)
