"""What of a sink's values goes to its spool, and when: memory first, the disk where a service is away or slow."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from lumatile.spool.reader import Unit
from lumatile.spool.spool import Spool
from lumatile.values import LoggedValue

log = logging.getLogger(__name__)

AWAY_SECONDS = 0.5
"""While a service is away, what waits in memory is made durable this often."""

RETRY_SECONDS = 0.5
"""Time from a spool's failure to the next attempt."""


class Spill:
    """The spool of a sink, and what is known of it. For the sink's thread, but `wanted` and the failures."""

    def __init__(self, spool: Spool, staged_bytes: int) -> None:
        """`staged_bytes`: so much may wait in memory for the disk, in bytes."""
        self.spool = spool
        self.wanted = 0
        """Number of the last value that a flush wants in the spool."""
        self.failures = 0
        """Failures since the beginning."""
        self.failure = ""
        """Why the last one failed."""
        self.damaged = 0
        """Values known to be damaged when that was last looked at."""
        self._staged_bytes = staged_bytes
        self._retry = self._read_again = 0.0
        self._clean = time.monotonic()
        """When last all was well, or on disk."""
        self._failing = False

    def due(self, nbytes: int, *, up: bool, given: bool, pressed: bool) -> bool:
        """Whether the values in memory are to go to the disk now.

        `nbytes`: what they hold; `up`: the service takes values; `given`: they have been sent to it; `pressed`: there
        is no room for more on the way to it, and the queue fills.
        """
        now = time.monotonic()
        if up and (given or not nbytes):
            self._clean = now
        if not nbytes or self.resting:
            return False
        if given:
            return pressed
        return nbytes >= self._staged_bytes or (not up and now >= self._clean + AWAY_SECONDS)

    @property
    def resting(self) -> bool:
        """Whether it took nothing a moment ago."""
        return time.monotonic() < self._retry

    def append(self, values: Sequence[LoggedValue], *, sent: bool) -> int:
        """Make values durable; how many of the first are. Raises UnsendableError where the first cannot be encoded."""
        try:
            count = self.spool.append(values, sent=sent)
        except OSError as e:
            self._failed(e)
            return 0
        self._clean = time.monotonic()
        if self._failing:
            log.warning("the spool takes values again")
        self._failing = False
        return count

    def next(self) -> Unit | None:
        """What comes next from the spool; None: nothing does, or it cannot be read now."""
        if time.monotonic() < self._read_again:
            return None
        try:
            return self.spool.next()
        except OSError as e:
            log.warning("the spool cannot be read now: %s", e)
            self._read_again = time.monotonic() + RETRY_SECONDS
            return None

    def _failed(self, error: OSError) -> None:
        self.failure = str(error)
        self.failures += 1
        self._retry = time.monotonic() + RETRY_SECONDS
        if not self._failing:
            log.warning("values cannot go to the spool, and wait in memory: %s", error)
        self._failing = True

    def close(self) -> None:
        """Let go of the spool; says what is left in it."""
        self.spool.close()
        left = self.spool.nbytes
        if left:
            log.warning(
                "values wait on disk for %s, in %s (%d bytes): the next process that logs there sends them, or "
                "`lumatile sync`",
                self.spool.url,
                self.spool.path,
                left,
            )
