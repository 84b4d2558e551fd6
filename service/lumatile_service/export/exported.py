"""What an export has written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Exported:
    """Counts of one export."""

    frames: int
    """Frames written."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Reason -> frames that were not: error rows, and what the format has no place for."""
    bytes_out: int
    """Size of the files written."""
    errors: int = 0
    """Of those left out: error rows, and frames whose stored bytes are damaged."""
    lossy: Mapping[str, int] = field(default_factory=dict)
    """What was lost of frames that were written -> how many of them."""
