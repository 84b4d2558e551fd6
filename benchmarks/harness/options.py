"""The options of a benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Options:
    """The amount to measure, and the directory to write in."""

    quick: bool
    """Whether to use fewer frames and rounds, which shows whether it runs and roughly how fast."""
    disk: Path
    """The directory to write in, on the file system that is measured."""

    def rounds(self, full: int) -> int:
        """Return the number of rounds to time; `full`: the number without `quick`."""
        return 2 if self.quick else full
