"""A logged value on its way from a log call to a sink."""

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
"""Kinds that can be drawn, and that `latest_at` looks for."""


@dataclass(frozen=True, kw_only=True)
class TimePoint:
    """When a value holds."""

    log_time: int
    """Nanoseconds since the epoch, UTC."""
    log_tick: int
    """Calls of this recording before this one."""
    sequences: Mapping[str, int] = field(default_factory=dict)
    """Sequence timelines."""
    times: Mapping[str, int] = field(default_factory=dict)
    """Time timelines, in nanoseconds since the epoch."""
    timeless: bool = False
    """On no timeline: holds always. `sequences` and `times` are empty then."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PointColumns:
    """N points as they were logged; columns that were not logged are None. "source" columns are bit-exact."""

    positions: NDArray[Any]
    """(N, d), d 2 or 3, float32 or float64; (0, 3) for the empty set."""
    colors: NDArray[np.uint8] | None = None
    """(N, 4): sRGB and straight linear alpha, as they are drawn when given."""
    radii: NDArray[np.float32] | None = None
    """(N,)."""
    class_ids: NDArray[np.uint16] | None = None
    """(N,)."""
    keypoint_ids: NDArray[np.uint16] | None = None
    """(N,)."""
    identifiers: NDArray[np.uint64] | None = None
    """(N,)."""
    labels: Sequence[str | None] | None = None
    """N labels."""
    source: Mapping[str, NDArray[Any] | Sequence[Any]] = field(default_factory=dict)
    """The arguments as given, by their names in `log_points`, in native byte order: what `frame.source()` returns."""

    def __len__(self) -> int:
        return len(self.positions)


@dataclass(frozen=True, kw_only=True, eq=False)
class LoggedValue:
    """One log call, checked and frozen. Its arrays belong to it; nobody writes to them any more."""

    entity_path: str
    """Normalised: parts joined by single slashes, no slash at either end; empty: the root (clears, gaps)."""
    kind: Kind
    time: TimePoint
    producer: bytes
    """16 random bytes: the process's stream into the recording."""
    seq: int
    """Number of the value in its producer's stream, from 0; with `producer` the key of the value."""
    seq_last: int | None = None
    """Gaps: the last of the numbers `seq` ... `seq_last` that were dropped."""
    array: NDArray[Any] | DeviceArray | None = None
    """C-contiguous, native byte order; what was logged on a GPU is still there.

    Image: (h, w, c), c in 1, 3, 4, uint8, uint16, float16, float32 or float64. Depth: (h, w), uint8, uint16, float16,
    float32 or float64. Segmentation: (h, w) uint8 or uint16."""
    encoded: bytes | None = None
    """Image: a JPEG file's bytes (then `array` is None)."""
    points: PointColumns | None = None
    source_shape: tuple[int, ...] | None = None
    """Shape as logged, before leading and trailing 1-axes were dropped."""
    source_dtype: str | None = None
    """numpy's name of the dtype as logged (native byte order); "jpeg" for an encoded image."""
    meter: float | None = None
    """Depth: units per metre."""
    draw_order: float | None = None
    """None: the kind's default."""
    ext: str | None = None
    """Extension components, as a JSON object."""
    body: str | None = None
    """Annotation contexts, as JSON (see annotations.py); gaps: the reason."""
    recursive: bool = False
    """Clears: the entity's descendants too."""
    error: str | None = None
    """The reason why the call logged nothing, without kind and path: the value is an error row, of the kind meant."""
    provenance: Mapping[str, str] | None = None
    """Batch input: uri, member, content_hash."""
    nbytes: int = 0
    """Memory it holds, in bytes, as the queue counts it."""


class Content(TypedDict, total=False):
    """The fields of a LoggedValue that come from what was logged, once it is checked and frozen."""

    array: NDArray[Any] | DeviceArray
    encoded: bytes
    points: PointColumns
    source_shape: tuple[int, ...]
    source_dtype: str
    meter: float
    body: str
    recursive: bool


OVERHEAD = 3 << 10
"""What the queue counts for a value beside its content: about what its objects hold, in bytes."""


def held_bytes(content: Content, ext: str | None) -> int:
    """Memory that a value of this content holds, in bytes; an array that is shown twice counts once."""
    arrays = {id(array): array for array in (content.get("array"),) if array is not None}
    texts = len(content.get("encoded", b"")) + len(content.get("body", "")) + len(ext or "")
    if (points := content.get("points")) is not None:
        columns = (getattr(points, column.name) for column in fields(points) if column.name != "source")
        for column in (*columns, *points.source.values()):
            if isinstance(column, np.ndarray):
                arrays[id(column)] = column
            elif column is not None:
                texts += sum(64 + len(label or "") for label in column)
    return OVERHEAD + texts + sum(array.nbytes for array in arrays.values())
