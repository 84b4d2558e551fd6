"""The terms of the protocol between an SDK process and a service, which both ends share.

A row of a record batch is a value, or one part of a large one. All parts name their value and hold a piece of its
payload; the first also holds everything else about the value, as JSON. Nothing is pickled; arrays are their bytes in C
order, little-endian.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

PART_BYTES = 16 << 20
"""Payloads are sent in parts of this size, in bytes; the last one may be shorter."""

PRODUCER_BYTES = 16
"""The size of a producer's id."""

FLUSH = b"flush"
"""A message to a server, between batches: commit what was received."""

END = b"end"
"""A message to a server: nothing more comes, end the stream.

Not done_writing: if the stream ends in the meantime, Arrow calls gRPC's WritesDone as well, in the thread that reads,
and gRPC aborts the process when both happen at once (in one of thirty cuts of the network).
"""

POINT_COLUMNS: Mapping[str, tuple[tuple[str, ...], tuple[int, ...]]] = {
    "positions": (("float32", "float64"), (2, 3)),
    "colors": (("uint8",), (4,)),
    "radii": (("float32",), ()),
    "class_ids": (("uint16",), ()),
    "keypoint_ids": (("uint16",), ()),
    "identifiers": (("uint64",), ()),
}
"""The dtypes that a column of a point cloud may have, and the numbers of components of a point; (): it has one axis."""

CHECKED, GIVEN = "checked.", "given."
"""Prefixes of the names of a cloud's columns: of the checked ones, as in PointColumns, and of its source."""


RefusedReason = Literal["too_large", "malformed"]
"""Why a value is refused, in one word."""


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A value that was received whole, but cannot be stored."""

    producer: bytes
    seq: int
    reason: str
    """The rule, and what broke it."""
    kind: RefusedReason = "malformed"
    """Known to the process that refuses the value; not sent to clients."""
