"""The entrance of a sink: a bounded queue, and an account of the values that were lost."""

from __future__ import annotations

import threading

from lumatile.errors import SinkError, warn
from lumatile.settings import RecordingSettings
from lumatile.sink.gaps import Gaps
from lumatile.sink.queue import ByteQueue, QueueClosedError
from lumatile.values import LoggedValue

DROPPED = "dropped since the last flush, for want of room in the queue"
"""The reason for the loss of values that the queue has dropped."""


class Intake:
    """The queue in front of a sink, the gaps that dropped values leave, and the number of lost values.

    A dropped value is a gap, and counted as lost, before any other thread can see that it has left the queue. A thread
    that takes from the queue first and then from the gaps therefore misses nothing that was put before.
    The methods may be called from several threads.
    """

    def __init__(self, settings: RecordingSettings, capacity: int | None = None) -> None:
        """Begin with an empty queue.

        Args:
            settings: say what a full queue does, and how many bytes wait at most.
            capacity: bytes that the queue holds at most, if it is to be only a part of `settings.queue_bytes`.
        """
        self.gaps = Gaps()
        """The dropped values that are to be stored as gaps; the sink takes them from here."""
        self.queue: ByteQueue[LoggedValue] = ByteQueue(
            settings.queue_bytes if capacity is None else capacity,
            settings.queue_policy,
            settings.max_block,
            on_drop=self.gaps.add,
        )
        """The values that wait; the sink takes them from here, and `put` adds them."""
        self._settings = settings
        self._lock = threading.RLock()
        """Guards the fields below."""
        self._lost = 0
        """The number of values lost after they left the queue, since the last `take_lost`."""
        self._why_lost = ""
        self._told = 0
        """The value of `queue.dropped` at the last `take_lost`."""
        self._warned = False
        self._error: BaseException | None = None

    @property
    def error(self) -> BaseException | None:
        """The error that ended the sink; None: it is alive, or was closed without an error."""
        return self._error

    def put(self, value: LoggedValue) -> None:
        """Add a value to the queue: wait for room, or drop, as the recording's queue policy says.

        The first time that values are dropped, a LumatileWarning says so.

        Raises:
            SinkError: the intake is closed; the message names the error that ended the sink, if one did.
        """
        try:
            dropped = self.queue.put(value, value.nbytes)
        except QueueClosedError:
            error = self._error
            raise SinkError(f"the sink has died: {error}" if error else "the sink is closed") from None
        if dropped:
            self._warn_once()

    def lose(self, count: int, why: str) -> None:
        """Count values that were lost after they were taken from the queue; `why` completes "they were ..."."""
        with self._lock:
            self._lost += count
            self._why_lost = why

    def take_lost(self) -> tuple[int, str]:
        """Return how many values were lost since the last call, and why; each loss is given to one caller only."""
        with self._lock:
            lost, self._lost = self._lost, 0
            if dropped := self.queue.dropped - self._told:
                self._told += dropped
                self._why_lost = DROPPED
            return lost + dropped, self._why_lost

    def close(self, error: BaseException | None = None) -> None:
        """Take no further values; those in the queue can still be taken from it.

        Args:
            error: the error that has ended the sink; the first one is kept.
        """
        with self._lock:
            self._error = self._error or error
        self.queue.close()

    def _warn_once(self) -> None:
        with self._lock:
            warned, self._warned = self._warned, True
        if not warned:
            warn(
                f"the queue of {self._settings.queue_bytes} bytes is full: values are dropped, counted and recorded as "
                "gaps (said once)"
            )
