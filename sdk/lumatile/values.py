"""Logged values on their way from a log call to a sink."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lumatile_kernels.cuda.arrays import DeviceArray

Kind = Literal["image", "depth", "segmentation", "points", "annotation_context", "ext", "clear", "gap"]

DATA_KINDS: tuple[Kind, ...] = ("image", "depth", "segmentation", "points")
"""The kinds that can be drawn, and that `latest_at` looks for."""


@dataclass(frozen=True, kw_only=True)
class TimePoint:
    """The time of a value on all timelines."""

    log_time: int
    """Nanoseconds since the epoch, UTC."""
    log_tick: int
    """The number of calls of this stream before this one."""
    sequences: Mapping[str, int] = field(default_factory=dict)
    """Name of a sequence timeline -> position."""
    times: Mapping[str, int] = field(default_factory=dict)
    """Name of a time timeline -> position, in nanoseconds since the epoch."""
    timeless: bool = False
    """The value is on no timeline and holds always; `sequences` and `times` are empty then."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PointColumns:
    """N points, checked; columns that were not logged are None."""

    positions: NDArray[Any]
    """(N, d), d 2 or 3, float32 or float64; (0, 3) for the empty set."""
    colors: NDArray[np.uint8] | None = None
    """(N, 4): sRGB and straight linear alpha, as they are drawn."""
    radii: NDArray[np.float32] | None = None
    """(N,), in units of the positions."""
    class_ids: NDArray[np.uint16] | None = None
    """(N,) ids of annotated classes."""
    keypoint_ids: NDArray[np.uint16] | None = None
    """(N,) ids of keypoints within their classes."""
    identifiers: NDArray[np.uint64] | None = None
    """(N,) numbers that are shown with the points."""
    labels: Sequence[str | None] | None = None
    """N labels; None: a point has none."""
    source: Mapping[str, NDArray[Any] | Sequence[Any]] = field(default_factory=dict)
    """The arguments bit for bit, in native byte order, by their names in `log_points`: what `frame.source()` gives."""

    def __len__(self) -> int:
        return len(self.positions)


@dataclass(frozen=True, kw_only=True, eq=False)
class LoggedValue:
    """One log call, checked and frozen; its arrays belong to it, and are not written to any more."""

    entity_path: str
    """The normalised path: parts joined by single slashes, no slash at either end; empty: the root (clears, gaps)."""
    kind: Kind
    time: TimePoint
    producer: bytes
    """The id of the stream, 16 random bytes."""
    seq: int
    """The number of the value in its stream, from 0; `producer` and `seq` are the key of the value."""
    seq_last: int | None = None
    """Gaps: the last of the numbers `seq` ... `seq_last` that were dropped; None for other values."""
    array: NDArray[Any] | DeviceArray | None = None
    """C-contiguous, in native byte order; an array that was logged on a GPU is still there.

    Image: (h, w, c), c in 1, 3, 4, uint8, uint16, float16, float32 or float64. Depth: (h, w), uint8, uint16, float16,
    float32 or float64. Segmentation: (h, w) uint8 or uint16."""
    encoded: bytes | None = None
    """Image: the bytes of a JPEG file (`array` is None then)."""
    points: PointColumns | None = None
    """Points: their columns."""
    source_shape: tuple[int, ...] | None = None
    """The shape as logged, before leading and trailing axes of length 1 were dropped."""
    source_dtype: str | None = None
    """The name that numpy has for the dtype as logged, in native byte order; "jpeg" for an encoded image."""
    meter: float | None = None
    """Depth: units of the image per metre."""
    draw_order: float | None = None
    """Higher values are drawn on top; None: the default of the kind."""
    ext: str | None = None
    """Extension components, as a JSON object."""
    body: str | None = None
    """JSON of an annotation context (see annotations.py), of identifiers (extensions) or of the reason (gaps)."""
    recursive: bool = False
    """Clears: the entities below the entity are cleared too."""
    error: str | None = None
    """The reason why the call logged nothing, without kind and path: the value is an error row, of the kind meant."""
    provenance: Mapping[str, str] | None = None
    """The origin of a value of a batch job: uri, member, content_hash."""
    nbytes: int = 0
    """The memory that the value holds, in bytes, as the queue counts it."""


class Content(TypedDict, total=False):
    """The fields of a LoggedValue that come from the arguments of the call, checked and frozen."""

    array: NDArray[Any] | DeviceArray
    encoded: bytes
    points: PointColumns
    source_shape: tuple[int, ...]
    source_dtype: str
    meter: float
    body: str
    recursive: bool


OVERHEAD = 3 << 10
"""The bytes that the queue counts for a value in addition to its content: about what its Python objects hold."""


_COLUMNS = tuple(column.name for column in fields(PointColumns) if column.name != "source")


def held_bytes(content: Content, ext: str | None) -> int:
    """Return the memory that a value with this content holds, in bytes; an array that appears twice counts once."""
    nbytes = OVERHEAD + len(content.get("encoded", b"")) + len(content.get("body", "")) + len(ext or "")
    if (array := content.get("array")) is not None:
        nbytes += array.nbytes
    if (points := content.get("points")) is not None:
        seen = set()
        for column in (*[getattr(points, name) for name in _COLUMNS], *points.source.values()):
            if column is None or id(column) in seen:
                continue
            seen.add(id(column))
            nbytes += (
                column.nbytes if isinstance(column, np.ndarray) else sum(64 + len(label or "") for label in column)
            )
    return nbytes
