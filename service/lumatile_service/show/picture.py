"""A frame as a picture for eyes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lumatile.read.frame import Frame
from lumatile_service.show.point_view import PointView, draw_points

WHITE = 255


def frame_picture(
    frame: Frame, *, level: int = 0, tile: tuple[int, int] | None = None, view: PointView | None = None
) -> NDArray[np.uint8]:
    """(h, w, 4) uint8 sRGB with straight alpha.

    Images, depth (through the colormap Turbo) and segmentations (through their colors) as their level `level` is, or
    its tile (x, y) alone; points as `view` sees them, white where they have no color.

    Raises NotFoundError for a level or tile that the frame does not have.
    """
    if frame.kind != "points":
        return frame.to_rgba8(level=level, tile=tile)
    points = frame.points()
    colors = np.full((len(points.positions), 4), WHITE, np.uint8) if points.colors is None else points.colors
    return draw_points(points.positions, colors, PointView() if view is None else view)
