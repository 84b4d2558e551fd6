"""How far the values of the embedded sink have come."""

from __future__ import annotations

import threading

from lumatile.sink.intake import Intake
from lumatile.values import LoggedValue

ATTEMPTS = 3
"""Failed attempts to write after which a flush raises instead of waiting longer; the writer goes on trying."""


class Progress:
    """The account of durable, wanted and failed values of one sink. May be used from several threads."""

    def __init__(self, intake: Intake) -> None:
        """Begin with no values; `intake` has those that wait, and the gaps, for which a flush waits too."""
        self._intake = intake
        self._lock = threading.RLock()
        """Guards the fields below. Not `with _changed`: Ctrl-C between the steps of that leaves it locked."""
        self._changed = threading.Condition(self._lock)
        self._wanted = 0
        """The number of the last value that a flush waits for."""
        self._durable = 0
        """The number of the last value that is durable."""
        self._committed = 0
        """How many values are durable."""
        self._gaps_open = False
        """Gaps have been taken and are neither durable nor given back."""
        self._failures = 0
        """Failed attempts to write, since the beginning."""
        self._failure = ""
        """Why the last one failed."""
        self._closing = False

    # for the thread that logs

    def want(self, number: int) -> bool:
        """Ask for the values up to `number` to be made durable soon; return whether that is news."""
        with self._lock:
            new, self._wanted = number > self._wanted, max(self._wanted, number)
        return new

    def wait(self, number: int, failures: int, timeout: float | None) -> tuple[int, str]:
        """Wait until all values up to `number`, and the gaps, are durable; return (0, "") then.

        Otherwise return how many values are not, and why: after `timeout` seconds (None: no limit), at the death of
        a thread, and after ATTEMPTS failed attempts to write more than the `failures` that the caller knows.
        """
        with self._lock:
            self._changed.wait_for(
                lambda: self._settled(number) or self._intake.error or self._failures >= failures + ATTEMPTS, timeout
            )
            if self._settled(number):
                return 0, ""
            why = self._intake.error or (self._failure if self._failures > failures else "timed out")
            return self._intake.queue.kept - self._committed, str(why)

    def _settled(self, number: int) -> bool:
        return self._durable >= number and not self._intake.gaps and not self._gaps_open

    @property
    def failures(self) -> tuple[int, str]:
        """The number of failed attempts to write since the beginning, and why the last one failed."""
        with self._lock:
            return self._failures, self._failure

    @property
    def closing(self) -> bool:
        """Whether the sink is being closed."""
        return self._closing

    def close(self) -> None:
        """Let the writer make no more attempts after one that failed."""
        with self._lock:
            self._closing = True
            self._changed.notify_all()

    # for the sink's own threads

    def die(self, error: BaseException) -> None:
        """Close the intake, because a thread has died; the first error stays."""
        self._intake.close(error)
        with self._lock:
            self._changed.notify_all()

    def is_awaited(self, written: int) -> bool:
        """Return whether a flush waits for a commit, where the values up to `written` are in the open segment."""
        with self._lock:
            return self._durable < self._wanted <= written

    def has_put(self, written: int) -> bool:
        """Return whether `written` is the number of the last value that was put: no other one waits."""
        return self._intake.queue.accepted <= written

    @property
    def gaps_wait(self) -> bool:
        """Whether there are gaps to write."""
        return bool(self._intake.gaps)

    def take_gaps(self) -> list[LoggedValue]:
        """Return the gaps as values, to be committed or returned."""
        with self._lock:
            self._gaps_open = True
            return self._intake.gaps.take()

    def return_gaps(self, gaps: list[LoggedValue]) -> None:
        """Take back gaps that could not be written."""
        with self._lock:
            self._intake.gaps.add(gaps)
            self._gaps_open = False

    def commit(self, count: int, number: int) -> None:
        """Note that `count` values, the last of them `number`, and the open gaps are durable."""
        with self._lock:
            self._committed += count
            self._durable = max(self._durable, number)
            self._gaps_open = False
            self._changed.notify_all()

    def fail(self, error: OSError, delay: float) -> bool:
        """Count a failed attempt, then wait `delay` seconds; return False if the sink is closed by then."""
        with self._lock:
            self._failures += 1
            self._failure = str(error)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._closing, delay)
            return not self._closing
