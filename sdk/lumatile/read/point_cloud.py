"""A point cloud, as it is read back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumatile.format.point_planes import decode_labels, decode_numbers
from lumatile.read.frame_tiles import FrameTiles


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class PointCloud:
    """N points in the order in which they were logged; a column that was not logged is None."""

    positions: NDArray[Any]
    """(N, d) with d 2 or 3: float32 or float64 as logged, where the source was kept; else float64, the sum of the
    cloud's origin and a float32 offset."""
    colors: NDArray[np.uint8] | None
    """(N, 4): sRGB and straight linear alpha, as the points are to be drawn: the logged colors, else those of the
    classes."""
    radii: NDArray[np.float32] | None
    """(N,), in the unit of the positions."""
    class_ids: NDArray[np.uint16] | None
    """(N,): the class of each point."""
    keypoint_ids: NDArray[np.uint16] | None
    """(N,): the keypoint of each point within its class."""
    identifiers: NDArray[np.uint64] | None
    """(N,): the 64-bit number that is shown with each point."""
    labels: list[str | None] | None
    """N labels as logged; None for a point without one."""
    display_labels: list[str | None] | None
    """N labels to show: the logged label, else that of the keypoint or the class."""

    def __len__(self) -> int:
        """Return N, the number of points."""
        return len(self.positions)

    def __repr__(self) -> str:
        """Return the number of points, and which columns they have."""
        columns = {
            "colors": self.colors,
            "radii": self.radii,
            "class_ids": self.class_ids,
            "keypoint_ids": self.keypoint_ids,
            "identifiers": self.identifiers,
            "labels": self.labels,
        }
        names = [name for name, values in columns.items() if values is not None]
        return (
            f"<PointCloud points={len(self)} dimensions={self.positions.shape[-1]} dtype={self.positions.dtype} "
            f"columns=[{', '.join(names)}]>"
        )


class StoredColumns:
    """The columns of a stored cloud, in logged order."""

    def __init__(self, tiles: FrameTiles, shape: Sequence[int]) -> None:
        """Read the order of the points; `shape`: (N, d), of the frame.

        Raises CorruptStoreError where the order does not name each of N points once.
        """
        self._tiles = tiles
        self._count, self._dimensions = shape
        self._planes = tiles.planes()
        self._order: NDArray[Any] | None = self._stored("source_index") if "source_index" in self._planes else None
        if self._order is not None:
            seen = np.zeros(len(self._order), np.bool_)
            seen[self._order[self._order < len(seen)]] = True
            if len(seen) != self._count or not seen.all():
                raise tiles.corrupt("plane 'source_index' does not name each point once")

    def numbers(self, plane: str) -> NDArray[Any] | None:
        """Return a column, (N,) or (N, components); None where it was not logged. Raises CorruptStoreError."""
        if plane not in self._planes:
            return None
        stored = self._stored(plane)
        if len(stored) != self._count:
            raise self._tiles.corrupt(f"plane {plane!r} must have {self._count} points, not {len(stored)}")
        if self._order is None:
            return stored
        logged = np.empty_like(stored)
        logged[self._order] = stored
        return logged

    def labels(self) -> list[str | None] | None:
        """Return N labels; None where none were logged. Raises CorruptStoreError."""
        if "label" not in self._planes:
            return None
        stored = [
            label
            for _, tile in self._tiles.rows("label")
            for label in decode_labels(self._tiles.decoded(tile), tile.width)
        ]
        if len(stored) != self._count:
            raise self._tiles.corrupt(f"plane 'label' must have {self._count} points, not {len(stored)}")
        if self._order is None:
            return stored
        logged: list[str | None] = [None] * len(stored)
        for row, label in zip(self._order.tolist(), stored, strict=True):
            logged[row] = label
        return logged

    def _stored(self, plane: str) -> NDArray[Any]:
        chunks = [
            decode_numbers(plane, self._tiles.decoded(tile), tile.width, self._dimensions)
            for _, tile in self._tiles.rows(plane)
        ]
        return np.concatenate(chunks)
