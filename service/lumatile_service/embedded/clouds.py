"""The planes of a cloud, and whether they give its columns back exactly as they were logged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumatile.format.point_planes import (
    COLUMN_PLANES,
    column_as_given,
    encode_labels,
    encode_numbers,
    point_rows,
)
from lumatile.format.tile_rows import TileRows
from lumatile.values import PointColumns
from lumatile_kernels import Backend


@dataclass(frozen=True, kw_only=True, eq=False)
class SmallCloud:
    """A cloud of one chunk and one level, in the order in which it was logged."""

    count: int
    """The number of its points."""
    origin: list[float]
    """The point that the positions are relative to: zeros, where the positions are exact without one."""
    planes: list[tuple[str, NDArray[np.uint8]]]
    """The stored bytes of each plane."""
    exact: bool
    """Whether the planes give back what was logged, bit for bit."""
    body: str | None
    """JSON for `column_as_given`, if they do: the dtype and shape of each column but the positions."""


def small_cloud(points: PointColumns, colors: NDArray[np.uint8] | None) -> SmallCloud | None:
    """Return a small cloud; None for one without points, or with a position that is not finite as float32.

    `colors`: (N, 4) uint8, as they are drawn.
    """
    positions = points.positions
    exact = positions.dtype == np.float32
    origin = [0.0] * positions.shape[1]
    if exact:
        stored = positions
    else:
        with np.errstate(over="ignore"):
            stored = positions.astype(np.float32)
        exact = bool((stored == positions).all())
        if not exact and len(positions):
            least = positions.min(axis=0)
            origin = least.tolist()
            with np.errstate(over="ignore", invalid="ignore"):
                stored = (positions - least).astype(np.float32)
    if not len(stored) or not np.isfinite(stored).all():
        return None
    planes: list[tuple[str, NDArray[np.uint8]]] = [("position", _bytes(stored))]
    if colors is not None:
        planes.append(("color", _bytes(colors)))
    for name, plane in COLUMN_PLANES.items():
        column = getattr(points, name)
        if column is not None and name != "colors":
            planes.append((plane, encode_numbers(plane, column)))
    if points.labels is not None:
        planes.append(("label", encode_labels(points.labels)))
    body = None
    if exact and len(points.source) > 1:
        body = _body(points)
        exact = body is not None
    return SmallCloud(count=len(stored), origin=origin, planes=planes, exact=exact, body=body)


def _bytes(column: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the bytes of an array in C order, as a view of it."""
    return column.reshape(-1).view(np.uint8)


def _body(points: PointColumns) -> str | None:
    """Return the dtype and shape of each column but the positions; None where a plane does not give a column back."""
    columns: dict[str, Any] = {}
    for name, given in points.source.items():
        if name == "positions":
            continue
        column = getattr(points, name)
        kinds = "f" if name == "radii" else "iub"
        if name not in COLUMN_PLANES or not isinstance(given, np.ndarray) or given.dtype.kind not in kinds:
            return None
        try:
            same = np.array_equal(column_as_given(column, given.dtype.name, given.shape), given)
        except ValueError:
            same = False
        if not same:
            return None
        columns[name] = [given.dtype.name, list(given.shape)]
    return json.dumps(columns, separators=(",", ":"))


def cloud_rows(
    points: PointColumns, colors: NDArray[np.uint8] | None, row: dict[str, Any], backend: Backend
) -> Iterator[TileRows]:
    """Give the tiles rows of a cloud, coarsest level first; put what they are into its frames row."""
    stored = backend.points(points.positions)
    row["shape"] = points.positions.shape
    row["levels"] = len(stored.counts)
    row["point_origin"] = stored.origin.tolist()
    columns = {
        "color": colors,
        "radius": points.radii,
        "class_id": points.class_ids,
        "keypoint_id": points.keypoint_ids,
        "identifier": points.identifiers,
    }
    planes: dict[str, NDArray[Any] | list[str | None]] = {"position": stored.positions}
    planes |= {name: column[stored.order] for name, column in columns.items() if column is not None}
    if points.labels is not None:
        planes["label"] = [points.labels[i] for i in stored.order.tolist()]
    planes["source_index"] = stored.order.astype(np.uint32 if len(points) < 1 << 32 else np.uint64)
    for plane, column in planes.items():
        yield point_rows(plane, column, stored.counts)
