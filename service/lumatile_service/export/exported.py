"""The result of an export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Exported:
    """The counts of one export."""

    frames: int
    """The number of frames written."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Reason -> number of frames that were not written: error rows, and frames that the format has no place for."""
    bytes_out: int
    """The size of the files written, in bytes."""
    errors: int = 0
    """The number of frames left out because they are error rows or their stored bytes are damaged."""
    lossy: Mapping[str, int] = field(default_factory=dict)
    """Each kind of loss of the frames that were written -> the number of these frames."""
