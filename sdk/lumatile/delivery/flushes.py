"""What a sink was given, and what has become of it."""

from __future__ import annotations

import logging
import threading
import time

from lumatile.delivery.spill import Spill
from lumatile.delivery.window import Window
from lumatile.pending_flush import PendingFlush
from lumatile.sink.intake import Intake
from lumatile.sink.sinks import Durable
from lumatile.values import LoggedValue
from lumatile.wire.acknowledgements import Acknowledgement

log = logging.getLogger(__name__)

ATTEMPTS = 3
"""Failures, of connecting or of the service's store, after which a flush says so instead of waiting on."""

TICK_SECONDS = 0.1
"""A flush looks at least this often whether it has to go on waiting."""


class Deliveries:
    """The values of a sink for a service, on their way. Its methods may be called from several threads."""

    def __init__(self, url: str, intake: Intake, spill: Spill | None) -> None:
        """`url`: of the service; `intake`: what the sink's thread takes from; `spill`: with the sink's spool."""
        self._url = url
        self._intake = intake
        self._queue = intake.queue
        self._spill = spill
        self.gaps = intake.gaps
        self.lock = threading.RLock()
        """Guards the fields below. Not `with changed`: Ctrl-C between the steps of that leaves it locked."""
        self.changed = threading.Condition(self.lock)
        self.contexts: dict[tuple[str, bool], LoggedValue] = {}
        """The newest annotation contexts that are not in the window: they begin every connection."""
        self.window = Window()
        """What was taken from the queue, and is neither acknowledged nor in the spool."""
        self.up = True
        """Whether the service takes values, as far as is known."""
        self.taken = 0
        """Number of the last value that was taken from the queue."""
        self.wanted = 0
        """Number of the last value that a flush waits for."""
        self._progress = 0.0
        """When something was acknowledged last."""
        self.failures = 0
        """Failures since the beginning."""
        self.failure = ""
        """What the last one was."""
        self.attempts = 0
        """Failed attempts to connect since something was acknowledged."""
        self.stopped = False

    def pending_flush(self, timeout: float | None) -> PendingFlush:
        """A flush that begins now."""
        spill_failures = 0 if self._spill is None else self._spill.failures
        return PendingFlush(
            number=self._queue.accepted, failures=self.failures, spill_failures=spill_failures, timeout=timeout
        )

    def wait(self, flush: PendingFlush) -> tuple[Durable | None, int, str]:
        """Where everything before a flush is durable, None: not yet; how many values were lost before it; and why."""
        with self.lock:
            self.wanted = max(self.wanted, flush.number)
            self._queue.wake()
            self.changed.notify_all()
            while (where := self._where(flush)) is None and not self.stopped and not self._hopeless(flush):
                self.changed.wait(min(TICK_SECONDS, flush.left))
            lost, why_lost = self._intake.take_lost()
            return where, lost, why_lost if where else self._why_not(flush)

    def held(self, number: int) -> bool:
        """Whether none of the values up to a number is in memory alone; called with the lock held."""
        first = self.window.first
        return self.taken >= number and (first is None or first > number) and not self.gaps

    def _where(self, flush: PendingFlush) -> Durable | None:
        """Where everything before a flush is durable, or None: not yet; called with the lock held."""
        held = self.held(flush.number)
        if self._spill is None:
            return "store" if held else None
        if held and flush.mark is None:
            flush.mark = self._spill.spool.end
        if flush.mark is not None and not self.gaps and self._spill.spool.done >= flush.mark:
            return "store"
        away = not self.up or self.failures >= flush.failures + ATTEMPTS
        stalled = flush.stalled(self._progress)
        if held and (away or (stalled and flush.timeout is None) or not flush.left):
            return "spool"
        if (away or stalled) and self._spill.wanted < flush.number:
            self._spill.wanted = flush.number
            self._queue.wake()
            self.changed.notify_all()
        return None

    def _hopeless(self, flush: PendingFlush) -> bool:
        """Whether a flush has waited long enough; called with the lock held."""
        failing = self.failures >= flush.failures + ATTEMPTS
        if self._spill is not None:
            failing = self._spill.failures > flush.spill_failures and (failing or not self.up)
        return failing or not flush.left

    def _why_not(self, flush: PendingFlush) -> str:
        """Why values are not durable; called with the lock held."""
        if self._intake.error is not None:
            return str(self._intake.error)
        why = self.failure if self.failures > flush.failures or not self.up else "timed out"
        if self._spill is not None and self._spill.failures > flush.spill_failures:
            why += f"; nor do they go to the spool: {self._spill.failure}"
        return why

    def undelivered(self) -> int:
        """How many values are in memory alone; called with the lock held."""
        return len(self.window) + len(self._queue)

    # the reading threads of connections, also of dead ones

    def heard(self, message: Acknowledgement) -> None:
        """Take note of what a service says."""
        with self.lock:
            for producer, first, last in message.durable:
                for seq in range(first, min(last, first + self._most()) + 1):
                    self._settle(producer, seq)
            for refused in message.refused:
                if self._settle(refused.producer, refused.seq):
                    why_lost = f"refused by the service: {refused.reason}"
                    self._intake.lose(1, why_lost)
                    log.error("a value was %s", why_lost)
            if message.failures:
                self.failures += message.failures
                self.failure = f"{self._url} cannot store values: {message.failure}"
            self.changed.notify_all()

    def _most(self) -> int:
        """How many values a message may be about."""
        return self.taken + (0 if self._spill is None else self._spill.spool.sent_values)

    def _settle(self, producer: bytes, seq: int) -> bool:
        """Forget a value that the service has decided on; whether it was not known."""
        value = self.window.forget((producer, seq))
        if value is not None and value.kind == "annotation_context":
            self.contexts[value.entity_path, value.time.timeless] = value
        if value is None and (self._spill is None or not self._spill.spool.acknowledge(producer, seq)):
            return False
        self.attempts = 0
        self._progress = time.monotonic()
        return True
