"""What a benchmark is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Options:
    """How much to measure, and where to write."""

    quick: bool
    """Fewer frames and rounds: whether it runs, and roughly how fast."""
    disk: Path
    """Directory to write in; on the file system that is measured."""

    def rounds(self, full: int) -> int:
        """Rounds to time, where `full` are right."""
        return 2 if self.quick else full
