"""The values that a service has not acknowledged yet, and the rules of what happens to each of them.

A value waits in the queue, is taken into the window, and is sent. It leaves the window when the service has
acknowledged or refused it, or when it is durable in the spool, from which it is sent as well. When a link dies,
everything that is neither acknowledged nor refused counts as not sent. Nothing here knows of connections or threads:
the sink's thread calls `take`, `next` and `save_some`, threads that read from a service call `heard`, and flushes look
at `state`.

(Longer than 300 lines: all of it is one state behind one lock, and each rule looks at most of it.)
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from lumatile.delivery.backlog_state import BacklogState
from lumatile.delivery.spill import Spill
from lumatile.delivery.window import Window, on_host
from lumatile.settings import RecordingSettings
from lumatile.sink.intake import Intake
from lumatile.spool.reader import Unit
from lumatile.spool.spool import Spool
from lumatile.values import LoggedValue
from lumatile.wire.acknowledgements import Acknowledgement
from lumatile.wire.encoding import UnsendableError

log = logging.getLogger(__name__)

SATURATED_SECONDS = 0.01
"""Longest wait, while there is no room in flight, before the queue is looked at again for values to spool."""

GATHER_BYTES = 1 << 20
"""Small values are sent together up to this size, in bytes."""

GATHER_ROWS = 256
"""The most values that are sent together."""


class Backlog:
    """The values of one sink that are queued, sent, or in its spool, behind one lock.

    `take`, `next`, `save_some`, `save_all`, `rest`, `connected` and `close` are for the sink's thread; every other
    method may be called from any thread.
    """

    def __init__(
        self,
        url: str,
        intake: Intake,
        settings: RecordingSettings,
        spool: Spool | None = None,
        *,
        settled: Callable[[Sequence[LoggedValue]], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with what the spool holds.

        Args:
            url: of the service, for messages.
            intake: the queue that values are taken from, of half of `settings.queue_bytes`.
            settings: of the recording; bound the bytes in memory.
            spool: queue on disk, for when the service is away or slow; None: there is none.
            settled: given the values that were acknowledged or refused, or are in the spool now; must not block.
            clock: returns the time in seconds.
        """
        self._url = url
        self._settled = settled
        self._intake = intake
        self._queue = intake.queue
        self._flight_bytes = max(1, settings.queue_bytes * 7 // 16)
        """The most bytes of values that are sent and not acknowledged."""
        self._spill = None if spool is None else Spill(spool, settings.queue_bytes // 16, clock)
        """The spool. Bytes that wait for it, are in flight or are in the queue are together at most queue_bytes."""
        self._clock = clock
        self._lock = threading.RLock()
        """Guards the fields below. Not `with _changed`: Ctrl-C between the steps of that leaves it locked."""
        self._changed = threading.Condition(self._lock)
        self._version = 0
        self._window = Window()
        """The values that were taken from the queue, and are neither acknowledged nor in the spool."""
        self._contexts: dict[tuple[str, bool], LoggedValue] = {}
        """The newest annotation contexts that are not in the window: every link begins with them."""
        self._given = False
        """The link that is open now was given all values of the window; before them, all of the spool."""
        self._taken = 0
        """The number of the last value that was taken from the queue."""
        self._wanted = self._spool_wanted = 0
        """The numbers of the last values that a flush wants to be durable anywhere, and in the spool."""
        self._asked = 0
        """The number of the last value that this link's server was asked to commit."""
        self._up = True
        self._attempts = 0
        self._failures = 0
        self._failure = ""
        self._progress = 0.0
        self._stopped = False

    # for any thread: the state

    @property
    def stopped(self) -> bool:
        """Whether the sink has ended, or is to end."""
        return self._stopped

    def state(self) -> BacklogState:
        """Return the state as it is now."""
        with self._lock:
            first = self._window.first
            safe = self._taken if first is None else min(self._taken, first - 1)
            gaps = bool(self._intake.gaps)  # after the window was looked at: dropped values are gaps first
            return BacklogState(
                version=self._version,
                accepted=self._queue.accepted,
                safe=safe,
                gaps=gaps,
                undelivered=len(self._window) + len(self._queue),
                up=self._up,
                failures=self._failures,
                failure=self._failure,
                progress=self._progress,
                stopped=self._stopped,
                error=self._intake.error,
                spool=None if self._spill is None else self._spill.state(),
            )

    def wait(self, version: int, seconds: float) -> None:
        """Wait until the state has another version than `version`, at most `seconds`."""
        with self._lock:
            self._changed.wait_for(lambda: self._version != version, seconds)

    def take_lost(self) -> tuple[int, str]:
        """Return how many values were lost since the last call, and why; see `Intake.take_lost`."""
        return self._intake.take_lost()

    def _notify(self) -> None:
        """Wake the threads that wait for a change; called with the lock held."""
        self._version += 1
        self._changed.notify_all()

    # for any thread: what flushes want

    def want(self, number: int) -> None:
        """Ask for the values up to `number` to become durable soon, in the store or in the spool."""
        with self._lock:
            self._wanted = max(self._wanted, number)
            self._queue.wake()
            self._notify()

    def want_spooled(self, number: int) -> None:
        """Ask for the values up to `number` to go to the spool, without waiting for the service."""
        with self._lock:
            if self._spool_wanted < number:
                self._spool_wanted = number
                self._queue.wake()
                self._notify()

    def stop(self) -> None:
        """Ask the sink's thread to end."""
        with self._lock:
            self._stopped = True
            self._notify()

    # for any thread: what the service says

    def heard(self, message: Acknowledgement) -> None:
        """Apply a message of the service; it may have arrived on a link that is dead by now."""
        with self._lock:
            for producer, first, last in message.durable:
                for seq in range(first, min(last, first + self._most()) + 1):
                    self._settle(producer, seq)
            for refused in message.refused:
                if self._settle(refused.producer, refused.seq):
                    why_lost = f"refused by the service: {refused.reason}"
                    self._intake.lose(1, why_lost)
                    log.error("a value was %s", why_lost)
            if message.failures:
                self._failures += message.failures
                self._failure = f"{self._url} cannot store values: {message.failure}"
            self._notify()

    def _most(self) -> int:
        """Return the most values that a message can be about."""
        return self._taken + (0 if self._spill is None else self._spill.spool.sent_values)

    def _settle(self, producer: bytes, seq: int) -> bool:
        """Remove a value that the service has acknowledged or refused; return whether it was still here."""
        value = self._window.forget((producer, seq))
        if value is not None:
            self._remember(value)
            self._settled((value,))
        if value is None and (self._spill is None or not self._spill.spool.acknowledge(producer, seq)):
            return False
        self._attempts = 0
        self._progress = self._clock()
        return True

    def _remember(self, value: LoggedValue) -> None:
        """Keep a value that has left the window, if every link is to begin with it."""
        if value.kind == "annotation_context":
            self._contexts[value.entity_path, value.time.timeless] = value

    # for the sink's thread: links

    def connected(self) -> list[LoggedValue]:
        """Begin a link, on which nothing has been sent; return the values that are to be sent before any other."""
        if self._spill is not None:
            self._spill.spool.rewind()
        with self._lock:
            self._given = False
            self._asked = 0
            return list(self._contexts.values())

    def answered(self, *, heard_of: bool) -> None:
        """Note whether the server of this link was heard of; before, it counts as up unless an attempt has failed."""
        with self._lock:
            self._up = heard_of or not self._attempts

    def disconnected(self, why: str) -> int:
        """Count a failed attempt to send values, and return how many there were since something was acknowledged."""
        with self._lock:
            self._attempts += 1
            self._failures += 1
            self._failure = f"{self._url} does not take values: {why}"
            self._up = self._given = False
            self._notify()
            attempts, failure = self._attempts, self._failure
        log.log(logging.WARNING if attempts == 1 else logging.INFO, "%s", failure)
        return attempts

    def next(self, wait: float) -> Unit | Sequence[LoggedValue]:
        """Return the values that are to be sent now, and count them as sent; () if none come in `wait` seconds.

        Values in the spool come first, then those of the window, then those of the queue.
        """
        if not self._up:
            self.take(wait)
            return ()
        if self._spill is not None:
            self._spill.spool.tidy()
        if self._pressed() and not self._given:
            self.take(0)  # save_some moves them to the spool
        if self._in_flight() >= self._flight_bytes:
            with self._lock:
                self._changed.wait(wait if self._spill is None else min(wait, SATURATED_SECONDS))
            return ()
        unit = self._next_unit()
        if unit is not None:
            return unit
        if self._spill is not None and not self._spill.spool.all_sent:
            self.take(wait)  # the spool cannot be read now
            return ()
        with self._lock:
            values = [] if self._given else self._window.values()
            self._given = True
        return values or self.take(wait)

    def commit_wanted(self) -> bool:
        """Return whether the server is to be asked now to commit everything that was sent; true once a request."""
        with self._lock:
            wanted = self._given and self._asked < self._wanted <= self._taken
            if wanted:
                self._asked = self._wanted
            return wanted

    def rest(self, wait: float) -> None:
        """Let at most `wait` seconds pass while there is no link; values go to the spool when that is due."""
        if self._spill is None:
            with self._lock:
                self._changed.wait_for(lambda: self._stopped, wait)
        elif not self.save_some():
            self.take(wait)

    def take(self, wait: float) -> list[LoggedValue]:
        """Move some values from the queue to the window, and return them; none if there is no room in the window.

        Args:
            wait: seconds to wait for a value, or for room.
        """
        with self._lock:
            if self._window.nbytes >= self._flight_bytes:
                self._changed.wait(wait)
                return []
        if not self._queue.wait(wait) and not self._intake.gaps:
            with self._lock:
                self._changed.wait_for(lambda: self._stopped, wait if self._queue.closed else 0)
            return []
        taken: list[LoggedValue] = []
        nbytes = 0
        with self._lock:
            while len(taken) < GATHER_ROWS and nbytes < GATHER_BYTES and (got := self._queue.get_nowait()) is not None:
                self._taken, value = got
                self._window.keep(self._taken, value)
                taken.append(value)
                nbytes += value.nbytes
            gaps = self._intake.gaps.take()
            for gap in gaps:
                self._window.keep(self._taken, gap)
            taken += gaps
        return [self._on_host(value) for value in taken]

    def _on_host(self, value: LoggedValue) -> LoggedValue:
        there = on_host(value)
        if there is not value:
            with self._lock:
                self._window.replace(there)
        return there

    def _next_unit(self) -> Unit | None:
        """Return the next values from the spool, if the link has not been given all of it."""
        if self._spill is None or self._given:
            return None
        unit = self._spill.next()
        if damaged := self._spill.new_damage():
            self._intake.lose(damaged, "damaged in the spool")
        return unit

    def _in_flight(self) -> int:
        """Return the bytes that are sent and not acknowledged."""
        sent = self._window.nbytes if self._given else 0
        return sent if self._spill is None else sent + self._spill.spool.sent_bytes

    def _pressed(self) -> bool:
        """Return whether the queue fills, and there is a spool for more values."""
        return self._spill is not None and 2 * self._queue.nbytes > self._queue.capacity

    # for the sink's thread: the spool

    def save_some(self) -> bool:
        """Move values to the spool if that is due; return whether any were moved, or taken to be moved."""
        spill = self._spill
        if spill is None:
            return False
        pressed = self._in_flight() >= self._flight_bytes and self._pressed()
        with self._lock:
            wanted = bool(self._spool_wanted) and not self.state().held(self._spool_wanted) and not spill.resting
            empty = not self._window
            if wanted and empty:
                self._given = False  # what is taken now goes to the spool, unsent
        if wanted and empty:
            return bool(self.take(0))
        if wanted or spill.due(self._window.nbytes, up=self._up, given=self._given, pressed=pressed):
            return self._save(spill)
        return False

    def save_all(self) -> None:
        """Move all values that are left to the spool, as far as it has room."""
        while self._spill is not None and (self._window or self.take(0)):
            if not self._save(self._spill):
                return

    def close(self) -> None:
        """Close the spool; the log says how much is left in it."""
        if self._spill is not None:
            self._spill.close()

    def _save(self, spill: Spill) -> bool:
        """Move the window to the spool, as far as it has room; return whether something has left the window."""
        with self._lock:
            values = self._window.values()
        if not values:
            return True  # all were acknowledged a moment ago
        try:
            count = spill.append(values, sent=self._given)
        except UnsendableError as e:
            self.heard(Acknowledgement(refused=(e.refused,)))
            return True
        with self._lock:
            for value in values[:count]:
                if self._window.forget((value.producer, value.seq)) is None:
                    spill.spool.acknowledge(value.producer, value.seq)  # acknowledged while it was written
                else:
                    self._remember(value)
            self._given = self._given and bool(self._window)
            self._settled(values[:count])
            self._notify()
        return count > 0
