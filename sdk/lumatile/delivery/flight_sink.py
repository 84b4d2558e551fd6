"""The sink of a service: values over Arrow Flight, acknowledged when they are durable there.

One thread drives: it opens a link after another, and sends on it what the backlog says is to be sent next. When a link
dies, a new one sends again what was not acknowledged, to the same server or another, and the service stores nothing
twice. What becomes of each value is decided in backlog.py; this file drives links, and waits between them.
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

from lumatile.delivery.backlog import Backlog
from lumatile.delivery.connection import OPTIONS, FlightConnection
from lumatile.delivery.flushes import TICK_SECONDS, PendingFlush
from lumatile.errors import FlushError
from lumatile.settings import RecordingSettings
from lumatile.sink.intake import Intake
from lumatile.sink.sinks import Durable
from lumatile.spool.reader import Unit
from lumatile.spool.spool import Spool
from lumatile.values import LoggedValue
from lumatile.wire.credentials import call_options, connect

log = logging.getLogger(__name__)

BACKOFF_SECONDS = 0.1, 5.0
"""Shortest and longest wait before another attempt to connect; half of it is random."""

CONNECT_SECONDS = 2.0
"""Longest wait for a service to say where its servers are."""

SAVE_SECONDS = 15.0
"""Longest wait, at the end, for what is left to be in the spool."""


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
        self._addresses = addresses or partial(_addresses, url)
        self._settings = settings
        self._on_open = on_open
        self._on_end = on_end
        self._last_words = CONNECT_SECONDS + 1 if spool is None else SAVE_SECONDS
        """Longest wait for the driving thread to end, in seconds."""
        self._intake = Intake(settings, max(1, settings.queue_bytes // 2))
        self._backlog = Backlog(url, self._intake, settings, spool)
        self._thread = threading.Thread(target=self._run, name="lumatile-send", daemon=True)
        self._thread.start()

    @property
    def failure(self) -> str:
        """Why the service took no values when it last did not; empty: it always did."""
        return self._backlog.state().failure

    # for the thread that logs

    def put(self, value: LoggedValue) -> None:
        """Take a value; see `Sink.put`."""
        self._intake.put(value)

    def flush(self, timeout: float | None = None) -> Durable:
        """Wait until everything put before is durable; see `Sink.flush`.

        "spool" where the service is away or makes no progress: after half of `timeout`, 5 s at the most.
        Raises FlushError for values that were dropped or refused since the last flush, and where neither service nor
        spool take values: three attempts to connect, or of the service to write to its store, have failed in the
        meantime; what is not durable yet is kept and tried again.
        """
        outcome = PendingFlush(self._backlog, timeout).wait()
        if outcome.where is None:
            raise FlushError(max(1, outcome.undelivered) + outcome.lost, outcome.why)
        if outcome.lost:
            raise FlushError(outcome.lost, outcome.why)
        return outcome.where

    def close(self, timeout: float | None = None) -> None:
        """Take nothing more, flush and stop; see `Sink.close`. What is not acknowledged then goes to the spool."""
        self._intake.close()
        if self._backlog.stopped and self._intake.error is None:
            self._thread.join(self._last_words)
            return
        flush = PendingFlush(self._backlog, timeout)
        try:
            outcome = flush.wait()
        finally:  # Ctrl-C ends the wait, not what is left
            self._backlog.stop()
            self._thread.join(self._last_words)
        state = self._backlog.state()
        undelivered = 0 if outcome.where or state.held(flush.number) else max(1, state.undelivered)
        if undelivered or outcome.lost:
            raise FlushError(undelivered + outcome.lost, outcome.why)

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
        """Return the server to connect to: any at first, another after a failure; in a connection's thread."""
        addresses = self._addresses()
        attempts = self._backlog.attempts
        return addresses[attempts % len(addresses)] if attempts else random.choice(addresses)  # noqa: S311

    def _drive(self, connection: FlightConnection) -> None:
        """Send values until the link is dead or the sink is stopped."""
        contexts = self._backlog.connected()
        if contexts:
            connection.send(contexts)
        told = False
        while connection.alive and not self._backlog.stopped:
            if connection.open and not told:
                self._on_open()
                told = True
            self._backlog.answered(heard_of=connection.open)
            if not self._backlog.save_some():
                self._send_some(connection)
        if connection.alive or connection.leaving:
            connection.finish()
        else:
            connection.cut()
        if connection.forked:
            time.sleep(TICK_SECONDS)  # there may be more forks to come
        elif not self._backlog.stopped:
            self._wait_after(connection.failure)

    def _send_some(self, connection: FlightConnection) -> None:
        """Send what comes next, or let a short time pass."""
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
        delay = min(longest, shortest * 2 ** min(attempts, 10)) * random.uniform(0.5, 1)  # noqa: S311
        end = time.monotonic() + delay
        while not self._backlog.stopped and (left := end - time.monotonic()) > 0:
            self._backlog.rest(min(TICK_SECONDS, left))


def _addresses(url: str) -> list[str]:
    """Where the service at `url` wants values now: itself, or its servers. Raises ArrowException, OSError."""
    client = connect(url, OPTIONS)
    try:
        options = call_options(CONNECT_SECONDS)
        info = client.get_flight_info(flight.FlightDescriptor.for_command(b"ingest"), options)
        return [location.uri.decode() for endpoint in info.endpoints for location in endpoint.locations] or [url]
    finally:
        client.close()
