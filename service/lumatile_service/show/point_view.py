"""Pictures of point clouds: an orthographic view that fits the picture, with nearer points over farther ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

TINY = 1e-300
"""Replaces an extent of 0 as a divisor."""


@dataclass(frozen=True, kw_only=True)
class PointView:
    """A view of points: along +z, with x to the right and y downwards, after rotating the scene."""

    height: int = 600
    """The height of the picture, in pixels."""
    width: int = 800
    """The width of the picture, in pixels."""
    yaw: float = 0.0
    """The rotation of the scene about the vertical axis, in degrees."""
    pitch: float = 0.0
    """The rotation after it about the horizontal axis, in degrees."""
    dot: int = 2
    """The edge of the square that a point is drawn as, in pixels."""

    def rotation(self) -> NDArray[np.float64]:
        """Return the matrix that rotates positions: (3, 3)."""
        a, b = np.radians([self.yaw, self.pitch])
        about_y = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
        about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
        turned: NDArray[np.float64] = about_x @ about_y
        return turned


def draw_points(positions: NDArray[Any], colors: NDArray[np.uint8], view: PointView) -> NDArray[np.uint8]:
    """Draw points so that all fit in: (height, width, 4) uint8 sRGB with straight alpha, 0 where there is no point.

    `positions`: (N, 2 or 3); non-finite ones are not drawn. `colors`: (N, 4) uint8 sRGB; points with alpha 0 are not
    drawn, others are drawn opaque.
    """
    picture = np.zeros((view.height, view.width, 4), np.uint8)
    shown = np.isfinite(positions).all(axis=1) & (colors[:, 3] > 0)
    points = np.zeros((int(shown.sum()), 3))
    points[:, : positions.shape[1]] = positions[shown]
    if not len(points):
        return picture
    points /= max(float(np.abs(points).max()), TINY)
    points = (points - points.mean(axis=0)) @ view.rotation().T
    low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    room = np.array([view.width - view.dot, view.height - view.dot])
    scale = min(room / np.maximum(high - low, TINY))
    corners = np.rint((points[:, :2] - (low + high) / 2) * scale + room / 2).astype(np.int64)
    far_to_near = np.argsort(-points[:, 2], kind="stable")
    x, y = corners[far_to_near].T
    dy, dx = np.divmod(np.arange(view.dot**2), view.dot)
    rgba = colors[shown][far_to_near]
    rgba[:, 3] = 255
    # of assignments to one place the last holds: the nearest point's
    picture[(y[:, None] + dy).ravel(), (x[:, None] + dx).ravel()] = rgba.repeat(view.dot**2, axis=0)
    return picture
