"""A flush that somebody waits for."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from lumatile.spool.reader import Position

STALLED_SECONDS = 5.0
"""A service that has acknowledged nothing for so long does not get on: a flush is content with the spool."""


@dataclass(kw_only=True)
class PendingFlush:
    """What was when it began, and how long it may take."""

    number: int
    """Of the last value before it."""
    failures: int
    """Failures of the service before it."""
    spill_failures: int
    """Failures of the spool before it."""
    timeout: float | None
    """In seconds."""
    mark: Position | None = None
    """What has to be acknowledged of the spool, when that is known."""
    began: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds that it may still wait."""
        return float("inf") if self.timeout is None else max(0.0, self.began + self.timeout - time.monotonic())

    def stalled(self, progress: float) -> bool:
        """Whether it wants values in the spool: nothing was acknowledged since `progress` (monotonic seconds)."""
        patience = STALLED_SECONDS if self.timeout is None else min(STALLED_SECONDS, self.timeout / 2)
        return time.monotonic() - max(self.began, progress) >= patience
