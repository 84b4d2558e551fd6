"""The sink of a service: values over Arrow Flight, acknowledged when they are durable there.

One thread drives: it takes values from the queue, hands them to a connection and keeps them until they are
acknowledged. Should a link die, a new connection sends again what was not acknowledged, to the same server or another,
and the service stores nothing twice. While there is none, or no room in flight, values go to the spool, and to the
service from there.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from pyarrow import flight

from lumatile.delivery.connection import OPTIONS, FlightConnection
from lumatile.delivery.flushes import TICK_SECONDS, Deliveries
from lumatile.delivery.spill import Spill
from lumatile.delivery.window import on_host
from lumatile.errors import FlushError
from lumatile.settings import RecordingSettings
from lumatile.sink.intake import Intake
from lumatile.sink.sinks import Durable
from lumatile.spool.reader import Unit
from lumatile.spool.spool import Spool
from lumatile.values import LoggedValue
from lumatile.wire.acknowledgements import Acknowledgement
from lumatile.wire.credentials import call_options, connect
from lumatile.wire.decoding import UnsendableError

log = logging.getLogger(__name__)

BACKOFF_SECONDS = 0.1, 5.0
"""Shortest and longest wait before another attempt to connect; half of it is random."""

CONNECT_SECONDS = 2.0
"""Longest wait for a service to say where its servers are."""

SAVE_SECONDS = 15.0
"""Longest wait, at the end, for what is left to be in the spool."""

SATURATED_SECONDS = 0.01
"""How long the driving thread does not look at its queue while there is no room in flight."""

GATHER_BYTES = 1 << 20
"""Small values are sent together up to this size."""

GATHER_ROWS = 256


class FlightSink:
    """A `Sink` into a service."""

    def __init__(
        self,
        url: str,
        settings: RecordingSettings,
        *,
        addresses: Callable[[], Sequence[str]] | None = None,
        spool: Spool | None = None,
        on_open: Callable[[], None] = lambda: None,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        """Start the driving thread.

        `addresses`: grpc:// URLs of the servers; by default the service at `url` is asked. It may raise ArrowException,
        OSError, and must not take long. `spool`: on disk, for when the service is away or slow. `on_open`: told, in the
        driving thread, of each connection that a server has answered on; `on_end`: that there will be no more.
        """
        self._url = url
        self._addresses = addresses or partial(_addresses, url)
        self._settings = settings
        self._on_open = on_open
        self._on_end = on_end
        self._flight_bytes = max(1, settings.queue_bytes * 7 // 16)
        """Bytes of values that may be sent and not acknowledged."""
        self._intake = Intake(settings, max(1, settings.queue_bytes // 2))
        self._queue = self._intake.queue
        self._spill = None if spool is None else Spill(spool, settings.queue_bytes // 16)
        """Its bytes, those in flight and those in the queue are queue_bytes together."""
        self._deliveries = Deliveries(url, self._intake, self._spill)
        self._given = False
        """Whether this connection has the values of the window; then it has all of the spool too."""
        self._asked = 0
        """Number up to which this connection's server was asked to commit."""
        self._thread = threading.Thread(target=self._run, name="lumatile-send", daemon=True)
        self._thread.start()

    @property
    def failure(self) -> str:
        """Why the service took no values when it last did not; empty: it did."""
        return self._deliveries.failure

    # for the thread that logs

    def put(self, value: LoggedValue) -> None:
        """Take a value; see `Sink.put`."""
        self._intake.put(value)

    def flush(self, timeout: float | None = None) -> Durable:
        """Wait until everything put before is durable; see `Sink.flush`.

        "spool" where the service is away or does not get on: after half of `timeout`, 5 s at the most.
        Raises FlushError for values that were dropped or refused since the last flush, and where neither service nor
        spool take values: three attempts to connect, or of the service to write to its store, have failed in the
        meantime; what is not durable yet is kept and tried again.
        """
        where, lost, why = self._deliveries.wait(self._deliveries.pending_flush(timeout))
        if where is None:
            with self._deliveries.lock:
                raise FlushError(max(1, self._deliveries.undelivered()) + lost, why)
        if lost:
            raise FlushError(lost, why)
        return where

    def close(self, timeout: float | None = None) -> None:
        """Take nothing more, flush and stop; see `Sink.close`. What is not acknowledged then goes to the spool."""
        self._intake.close()
        flush = self._deliveries.pending_flush(timeout)
        closed = self._deliveries.stopped and self._intake.error is None
        try:
            where, lost, why = ("store", 0, "") if closed else self._deliveries.wait(flush)
        finally:  # Ctrl-C ends the wait, not what is left
            with self._deliveries.lock:
                self._deliveries.stopped = True
                self._deliveries.changed.notify_all()
            self._thread.join(CONNECT_SECONDS + 1 if self._spill is None else SAVE_SECONDS)
        with self._deliveries.lock:
            undelivered = 0 if where or self._deliveries.held(flush.number) else max(1, self._deliveries.undelivered())
        if undelivered or lost:
            raise FlushError(undelivered + lost, why)

    # the driving thread

    def _run(self) -> None:
        try:
            while not self._deliveries.stopped:
                connection = FlightConnection(self._choose, self._settings, self._deliveries.heard)
                try:
                    self._drive(connection)
                except BaseException:
                    connection.cut()
                    raise
            self._save_all()
        except BaseException as e:
            log.critical("the sink's thread died", exc_info=True)
            self._intake.close(e)
            with suppress(Exception):
                self._save_all()
        self._intake.close()
        try:
            self._on_end()
            if self._spill is not None:
                self._spill.close()
        except Exception:
            log.exception("the spool was not closed well")
        with self._deliveries.lock:
            self._deliveries.stopped = True
            self._deliveries.changed.notify_all()

    def _choose(self) -> str:
        """The server to connect to: any at first, another after a failure; in a connection's thread."""
        addresses = self._addresses()
        attempts = self._deliveries.attempts
        return addresses[attempts % len(addresses)] if attempts else random.choice(addresses)  # noqa: S311

    def _drive(self, connection: FlightConnection) -> None:
        """Send values until the link is dead or the sink is stopped."""
        if self._spill is not None:
            self._spill.spool.rewind()
        with self._deliveries.lock:
            self._given = False
            self._asked = 0
            contexts = list(self._deliveries.contexts.values())
        if contexts:
            connection.send(contexts)
        told = False
        while connection.alive and not self._deliveries.stopped:
            if connection.open and not told:
                self._on_open()
                told = True
            self._deliveries.up = connection.open or not self._deliveries.attempts
            if not self._save_some():
                self._send_some(connection)
        if connection.alive or connection.leaving:
            connection.finish()
        else:
            connection.cut()
        if connection.forked:
            time.sleep(TICK_SECONDS)  # there may be more forks to come
        elif not self._deliveries.stopped:
            self._failed(connection.failure)

    def _send_some(self, connection: FlightConnection) -> None:
        """Send what comes next, or let a short time pass."""
        if not self._deliveries.up:
            self._take(TICK_SECONDS)
            return
        if self._spill is not None:
            self._spill.spool.tidy()
        if self._pressed() and not self._given:
            self._take(0)  # it goes to the spool
        if self._in_flight() >= self._flight_bytes:
            with self._deliveries.lock:
                self._deliveries.changed.wait(TICK_SECONDS if self._spill is None else SATURATED_SECONDS)
            return
        unit = self._next_unit()
        if unit is not None:
            connection.send_batches(unit.batches)
            return
        if self._spill is not None and not self._spill.spool.all_sent:
            self._take(TICK_SECONDS)  # it cannot be read now
            return
        with self._deliveries.lock:
            values = [] if self._given else self._deliveries.window.values()
            self._given = True
        values = values or self._take(TICK_SECONDS)
        if values:
            connection.send(values)
        if self._asked < self._deliveries.wanted <= self._deliveries.taken:
            self._asked = self._deliveries.wanted
            connection.flush()

    def _next_unit(self) -> Unit | None:
        """What comes next from the spool."""
        if self._spill is None or self._given:
            return None
        unit = self._spill.next()
        damaged = self._spill.spool.damaged
        if damaged > self._spill.damaged:
            self._intake.lose(damaged - self._spill.damaged, "damaged in the spool")
        self._spill.damaged = damaged
        return unit

    def _failed(self, why: str) -> None:
        """Take note of a failed attempt, and wait before the next one."""
        shortest, longest = BACKOFF_SECONDS
        with self._deliveries.lock:
            self._deliveries.attempts += 1
            self._deliveries.failures += 1
            self._deliveries.failure = f"{self._url} does not take values: {why}"
            log.log(logging.WARNING if self._deliveries.attempts == 1 else logging.INFO, "%s", self._deliveries.failure)
            self._deliveries.up = self._given = False
            self._deliveries.changed.notify_all()
            delay = min(longest, shortest * 2 ** min(self._deliveries.attempts, 10)) * random.uniform(0.5, 1)  # noqa: S311
            if self._spill is None:
                self._deliveries.changed.wait_for(lambda: self._deliveries.stopped, delay)
        if self._spill is not None:
            end = time.monotonic() + delay
            while not self._deliveries.stopped and (left := end - time.monotonic()) > 0:
                if not self._save_some():
                    self._take(min(TICK_SECONDS, left))

    def _in_flight(self) -> int:
        sent = self._deliveries.window.nbytes if self._given else 0
        return sent if self._spill is None else sent + self._spill.spool.sent_bytes

    def _pressed(self) -> bool:
        """Whether the queue fills, and there is a spool for what comes."""
        return self._spill is not None and 2 * self._queue.nbytes > self._queue.capacity

    def _take(self, wait: float) -> list[LoggedValue]:
        """Some values from the queue, which are in the window from now on; none where there is no room."""
        with self._deliveries.lock:
            if self._deliveries.window.nbytes >= self._flight_bytes:
                self._deliveries.changed.wait(wait)
                return []
        if not self._queue.wait(wait) and not self._deliveries.gaps:
            with self._deliveries.lock:
                self._deliveries.changed.wait_for(lambda: self._deliveries.stopped, wait if self._queue.closed else 0)
            return []
        taken: list[LoggedValue] = []
        nbytes = 0
        with self._deliveries.lock:
            while len(taken) < GATHER_ROWS and nbytes < GATHER_BYTES and (got := self._queue.get_nowait()) is not None:
                self._deliveries.taken, value = got
                taken.append(value)
                nbytes += value.nbytes
            taken += self._deliveries.gaps.take()
            for value in taken:
                self._deliveries.window.keep(self._deliveries.taken, value)
        return [self._on_host(value) for value in taken]

    def _on_host(self, value: LoggedValue) -> LoggedValue:
        there = on_host(value)
        if there is not value:
            with self._deliveries.lock:
                self._deliveries.window.replace(there)
        return there

    # and the spool

    def _save_some(self) -> bool:
        """Make values durable in the spool, if it is time to; whether something has come of it."""
        spill = self._spill
        if spill is None:
            return False
        pressed = self._in_flight() >= self._flight_bytes and self._pressed()
        with self._deliveries.lock:
            wanted = bool(spill.wanted) and not self._deliveries.held(spill.wanted) and not spill.resting
        if wanted and not self._deliveries.window:
            self._given = False
            return bool(self._take(0))
        if wanted or spill.due(
            self._deliveries.window.nbytes, up=self._deliveries.up, given=self._given, pressed=pressed
        ):
            return self._save(spill)
        return False

    def _save(self, spill: Spill) -> bool:
        """Move the window to the spool, as much of it as there is room for; whether there was any."""
        with self._deliveries.lock:
            values = self._deliveries.window.values()
        if not values:
            return True  # they were acknowledged a moment ago
        try:
            count = spill.append(values, sent=self._given)
        except UnsendableError as e:
            self._deliveries.heard(Acknowledgement(refused=(e.refused,)))
            return True
        with self._deliveries.lock:
            for value in values[:count]:
                if self._deliveries.window.forget((value.producer, value.seq)) is None:
                    spill.spool.acknowledge(value.producer, value.seq)  # meanwhile
                elif value.kind == "annotation_context":
                    self._deliveries.contexts[value.entity_path, value.time.timeless] = value
            self._given = self._given and bool(self._deliveries.window)
            self._deliveries.changed.notify_all()
        return count > 0

    def _save_all(self) -> None:
        """Make durable what is left, in the spool, if that takes it."""
        while self._spill is not None and (self._deliveries.window or self._take(0)):
            if not self._save(self._spill):
                return


def _addresses(url: str) -> list[str]:
    """Where the service at `url` wants values now: itself, or its servers. Raises ArrowException, OSError."""
    client = connect(url, OPTIONS)
    try:
        options = call_options(CONNECT_SECONDS)
        info = client.get_flight_info(flight.FlightDescriptor.for_command(b"ingest"), options)
        return [location.uri.decode() for endpoint in info.endpoints for location in endpoint.locations] or [url]
    finally:
        client.close()
