"""When values go to the spool: not before memory is full, unless the service is away or slow."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from lumatile.delivery.backlog_state import SpoolState
from lumatile.spool.reader import Unit
from lumatile.spool.spool import Spool
from lumatile.values import LoggedValue

log = logging.getLogger(__name__)

AWAY_SECONDS = 0.5
"""While a service is away, values that wait in memory are made durable this often."""

RETRY_SECONDS = 0.5
"""The time from a failure of the spool to the next attempt."""


class Spill:
    """The spool of a sink, and when its thread writes to it and reads from it. The failures may be read by others."""

    def __init__(self, spool: Spool, staged_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`staged_bytes`: bytes that may wait in memory for the disk; `clock`: returns the time in seconds."""
        self.spool = spool
        self.failures = 0
        """Failures to write since the beginning."""
        self.failure = ""
        """Why the last one failed."""
        self._staged_bytes = staged_bytes
        self._clock = clock
        self._damaged = 0
        """The number of damaged values that `new_damage` has returned so far."""
        self._retry = self._read_again = 0.0
        self._clean = clock()
        """When nothing was last waiting in memory for the disk."""
        self._failing = False

    def due(self, nbytes: int, *, up: bool, given: bool, pressed: bool) -> bool:
        """Return whether the values in memory are to go to the disk now.

        Args:
            nbytes: bytes that they hold.
            up: the service takes values.
            given: they have been sent to it.
            pressed: no more may be sent before something is acknowledged, and the queue fills.
        """
        now = self._clock()
        if up and (given or not nbytes):
            self._clean = now
        if not nbytes or self.resting:
            return False
        if given:
            return pressed
        return nbytes >= self._staged_bytes or (not up and now >= self._clean + AWAY_SECONDS)

    @property
    def resting(self) -> bool:
        """Whether the spool has failed a moment ago, and is not to be tried yet."""
        return self._clock() < self._retry

    def append(self, values: Sequence[LoggedValue], *, sent: bool) -> int:
        """Make values durable; return how many of the first are durable now.

        Raises UnsendableError if the first one cannot be encoded.
        """
        try:
            count = self.spool.append(values, sent=sent)
        except OSError as e:
            self._failed(e)
            return 0
        self._clean = self._clock()
        if self._failing:
            log.warning("the spool takes values again")
        self._failing = False
        return count

    def next(self) -> Unit | None:
        """Return what is to be sent next from the spool; None: nothing is, or it cannot be read now."""
        if self._clock() < self._read_again:
            return None
        try:
            return self.spool.next()
        except OSError as e:
            log.warning("the spool cannot be read now: %s", e)
            self._read_again = self._clock() + RETRY_SECONDS
            return None

    def state(self) -> SpoolState:
        """Return how the spool stands now."""
        return SpoolState(end=self.spool.end, done=self.spool.done, failures=self.failures, failure=self.failure)

    def new_damage(self) -> int:
        """Return how many values were found damaged since the last call."""
        damaged, self._damaged = self.spool.damaged - self._damaged, self.spool.damaged
        return damaged

    def _failed(self, error: OSError) -> None:
        self.failure = str(error)
        self.failures += 1
        self._retry = self._clock() + RETRY_SECONDS
        if not self._failing:
            log.warning("values cannot go to the spool, and wait in memory: %s", error)
        self._failing = True

    def close(self) -> None:
        """Release the spool, and log how much is left in it."""
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
