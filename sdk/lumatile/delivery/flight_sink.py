"""The sink of a service: it sends values over Arrow Flight; the service acknowledges what is durable there.

One thread opens a link after another, and sends what the backlog says is to be sent next. When a link dies, the next
one sends again what was not acknowledged, and the service stores nothing twice. The next one goes at once to another
server of the service; only when all have failed, it counts as away, and the sink waits before it asks for servers
again. The backlog decides what happens to each value; this file only drives links, and waits between them.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from lumatile.delivery.backlog import Backlog
from lumatile.delivery.connection import FlightConnection
from lumatile.delivery.flushes import TICK_SECONDS, PendingFlush
from lumatile.errors import FlushError
from lumatile.settings import RecordingSettings
from lumatile.sink.intake import Intake
from lumatile.sink.sinks import Durable
from lumatile.spool.reader import Unit
from lumatile.spool.spool import Spool
from lumatile.values import LoggedValue
from lumatile.wire.addresses import CONNECT_SECONDS, ingest_addresses

log = logging.getLogger(__name__)

BACKOFF_SECONDS = 0.1, 5.0
"""Shortest and longest wait before another attempt to connect, in seconds; half of it is random."""

PROVEN_SECONDS = 1.0
"""A link that has lived for so long, or on which values were acknowledged, has not failed when it ends."""

SAVE_SECONDS = 15.0
"""Longest wait, at the end, until the values that are left are in the spool."""

_RANDOM = random.SystemRandom()
"""The shared generator of `random` belongs to the program that logs, which may have seeded it."""


class FlightSink:
    """A `Sink` that sends values to a service."""

    def __init__(
        self,
        url: str,
        settings: RecordingSettings,
        *,
        addresses: Callable[[], Sequence[str]] | None = None,
        spool: Spool | None = None,
        settled: Callable[[Sequence[LoggedValue]], None] = lambda _: None,
        on_open: Callable[[], None] = lambda: None,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        """Start the driving thread.

        Args:
            url: of the service.
            settings: of the recording.
            addresses: returns the grpc:// URLs of the servers, the one that is to be used first; it may raise
                ArrowException or OSError, and must not take long. By default, the service at `url` is asked.
            spool: queue on disk, for when the service is away or slow; None: there is none.
            settled: as in Backlog.
            on_open: called, in the driving thread, for each link on which a server has answered.
            on_end: called, in the driving thread, when there will be no more links.
        """
        self._addresses = addresses or partial(ingest_addresses, url)
        self._known: list[str] = []
        """The servers, as the service has last named them."""
        self._untried: list[str] = []
        """Those to which no link has failed since a link has proved itself."""
        self._asked = False
        """The service has been asked for them since then."""
        self._failed = ""
        """The server whose link has failed last."""
        self._settings = settings
        self._on_open = on_open
        self._on_end = on_end
        self._last_words = CONNECT_SECONDS + 1 if spool is None else SAVE_SECONDS
        """Longest wait for the driving thread to end, in seconds."""
        self._intake = Intake(settings, max(1, settings.queue_bytes // 2))
        self._backlog = Backlog(url, self._intake, settings, spool, settled=settled)
        self._thread = threading.Thread(target=self._run, name="lumatile-send", daemon=True)
        self._thread.start()

    @property
    def failure(self) -> str:
        """Why the service took no values, when it last did not; empty: it always did."""
        return self._backlog.state().failure

    # for the thread that logs

    def put(self, value: LoggedValue) -> None:
        """Put a value into the queue: wait for room, or drop, as the queue policy says. Raises SinkError."""
        self._intake.put(value)

    def flush(self, timeout: float | None = None) -> Durable:
        """Wait until everything that was put before is durable.

        Args:
            timeout: seconds to wait at most; None: unlimited.

        Returns:
            Where everything is durable: "spool" if the service is away or, for half of `timeout` and at most 5 s, has
            made no progress.

        Raises:
            FlushError: values were dropped or refused since the last flush. Or neither the service nor the spool take
                values: three attempts to connect, or of the service to write to its store, have failed in the
                meantime. Values that are not durable yet are kept and tried again.
        """
        outcome = PendingFlush(self._backlog, timeout).wait()
        if outcome.where is None:
            raise FlushError(max(1, outcome.undelivered) + outcome.lost, outcome.why, outcome.lost)
        if outcome.lost:
            raise FlushError(outcome.lost, outcome.why, outcome.lost)
        return outcome.where

    def close(self, timeout: float | None = None) -> None:
        """Take no further values, flush, and stop; values that are not acknowledged then go to the spool.

        Args:
            timeout: seconds that the flush takes at most; None: unlimited.

        Raises:
            FlushError: as `flush` does. The sink is stopped in any case.
        """
        self._intake.close()
        if self._backlog.stopped and self._intake.error is None:
            self._thread.join(self._last_words)
            return
        flush = PendingFlush(self._backlog, timeout)
        try:
            outcome = flush.wait()
        finally:  # Ctrl-C ends the wait; values that are left still go to the spool
            self._backlog.stop()
            self._thread.join(self._last_words)
        state = self._backlog.state()
        undelivered = 0 if outcome.where or state.held(flush.number) else max(1, state.undelivered)
        if undelivered or outcome.lost:
            raise FlushError(undelivered + outcome.lost, outcome.why, outcome.lost)

    # the driving thread

    def _run(self) -> None:
        try:
            while not self._backlog.stopped:
                connection = FlightConnection(self._choose, self._settings, self._backlog.heard)
                try:
                    self._drive(connection)
                except BaseException:
                    connection.cut()
                    raise
            self._backlog.save_all()
        except BaseException as e:
            log.critical("the sink's thread died", exc_info=True)
            self._intake.close(e)
            with suppress(Exception):
                self._backlog.save_all()
        self._intake.close()
        try:
            self._on_end()
            self._backlog.close()
        except Exception:
            log.exception("the spool was not closed well")
        self._backlog.stop()

    def _choose(self) -> str:
        """Return the server to connect to, in a connection's thread: one that has not failed, if any is known."""
        if not self._untried:
            self._asked = True
            self._known = list(self._addresses())
            self._untried = sorted(self._known, key=lambda address: address == self._failed)
        return self._untried.pop(0)

    def _drive(self, connection: FlightConnection) -> None:
        """Send values until the link is dead or the sink is stopped."""
        contexts = self._backlog.connected()
        if contexts:
            connection.send(contexts)
        told = proven = False
        began = time.monotonic()
        while connection.alive and not self._backlog.stopped:
            if connection.open and not told:
                self._on_open()
                told = True
            if connection.open and not proven and self._is_proven(began):
                self._untried = [address for address in self._known if address != connection.address]
                self._asked, proven = False, True
            self._backlog.answered(heard_of=connection.open)
            if not self._backlog.save_some():
                self._send_some(connection)
        silent = connection.silent
        if connection.alive or connection.leaving:
            connection.finish()
        else:
            connection.cut()
        self._go_on_after(connection, silent=silent)

    def _go_on_after(self, connection: FlightConnection, *, silent: bool) -> None:
        """Prepare for the next link: at once where another server is known, else after a wait.

        After a `silent` link, which has taken its time already, the service counts as away until a server answers.
        """
        if connection.forked:
            if connection.address in self._known:
                self._untried.insert(0, connection.address)
            time.sleep(TICK_SECONDS)  # there may be more forks to come
            return
        self._failed = connection.address
        asked, self._asked = self._asked, self._asked or not self._untried
        if self._untried or not asked:
            log.info("%s does not take values, another server is tried: %s", connection.address, connection.failure)
            if silent:
                self._backlog.disconnected(connection.failure)
        elif not self._backlog.stopped:
            self._wait_after(connection.failure)

    def _is_proven(self, began: float) -> bool:
        return time.monotonic() - began > PROVEN_SECONDS or self._backlog.state().progress > began

    def _send_some(self, connection: FlightConnection) -> None:
        """Send what is to be sent next, or let a short time pass."""
        following = self._backlog.next(TICK_SECONDS)
        if isinstance(following, Unit):
            connection.send_batches(following.batches)
        elif following:
            connection.send(following)
        if self._backlog.commit_wanted():
            connection.flush()

    def _wait_after(self, failure: str) -> None:
        """Note a failed attempt, and wait before the next one: twice as long after each."""
        attempts = self._backlog.disconnected(failure)
        shortest, longest = BACKOFF_SECONDS
        delay = min(longest, shortest * 2 ** min(attempts, 10)) * _RANDOM.uniform(0.5, 1)
        end = time.monotonic() + delay
        while not self._backlog.stopped and (left := end - time.monotonic()) > 0:
            self._backlog.rest(min(TICK_SECONDS, left))
