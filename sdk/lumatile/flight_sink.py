"""The sink of a service: values over Arrow Flight, acknowledged when they are durable there.

One thread drives: it takes values from the queue, hands them to a connection and keeps them until they are
acknowledged. Should a link die, a new connection sends again what was not acknowledged, to the same server or another,
and the service stores nothing twice.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
from pyarrow import flight

from lumatile.acknowledgements import Acknowledgement
from lumatile.buffers import POOL
from lumatile.errors import FlushError, SinkError, warn
from lumatile.flight_connection import OPTIONS, FlightConnection, reason
from lumatile.flight_forks import no_fork
from lumatile.gaps import Gaps
from lumatile.queue import ByteQueue, QueueClosedError
from lumatile.settings import RecordingSettings
from lumatile.sinks import Durable
from lumatile.values import LoggedValue

log = logging.getLogger(__name__)

BACKOFF_SECONDS = 0.1, 5.0
"""Shortest and longest wait before another attempt to connect; half of it is random."""

ATTEMPTS = 3
"""Failures, of connecting or of the service's store, after which a flush says so instead of waiting on."""

CONNECT_SECONDS = 2.0
"""Longest wait for a service to say where its servers are."""

TICK_SECONDS = 0.1
"""The driving thread looks at least this often whether its link is alive."""

GATHER_BYTES = 1 << 20
"""Small values are sent together up to this size."""

GATHER_ROWS = 256


def open_flight(url: str, settings: RecordingSettings) -> FlightSink:
    """The sink of the service at `url`, grpc://HOST:PORT; it need not answer yet."""
    return FlightSink(url, settings)


class FlightSink:
    """A `Sink` into a service."""

    def __init__(
        self, url: str, settings: RecordingSettings, *, addresses: Callable[[], Sequence[str]] | None = None
    ) -> None:
        """Start the driving thread. `addresses`: grpc:// URLs of the servers; by default the service at `url` is asked.

        It may raise ArrowException, OSError, and must not take long.
        """
        self._url = url
        self._addresses = addresses or partial(_addresses, url)
        self._settings = settings
        self._window = max(1, settings.queue_bytes // 2)
        """Bytes of values that may be sent and not acknowledged; the queue has the rest of queue_bytes."""
        waiting = max(1, settings.queue_bytes - self._window)
        self._queue: ByteQueue[LoggedValue] = ByteQueue(waiting, settings.queue_policy, settings.max_block)
        self._gaps = Gaps()
        self._changed = threading.Condition()
        """Guards the fields below."""
        self._contexts: dict[tuple[str, bool], LoggedValue] = {}
        """The newest annotation contexts that are acknowledged: they begin every connection."""
        self._unacknowledged: OrderedDict[tuple[bytes, int], tuple[int, LoggedValue]] = OrderedDict()
        """(number, value) of what was taken from the queue, in that order; a gap has the number of the value before."""
        self._unacknowledged_bytes = 0
        self._taken = 0
        """Number of the last value that was taken from the queue."""
        self._wanted = 0
        """Number of the last value that a flush waits for."""
        self._asked = 0
        """Number up to which this connection's server was asked to commit."""
        self._lost = 0
        """Values dropped or refused since a flush said so."""
        self._why_lost = ""
        self._failures = 0
        """Failures since the beginning."""
        self._failure = ""
        """What the last one was."""
        self._attempts = 0
        """Failed attempts to connect since something was acknowledged."""
        self._dead: BaseException | None = None
        self._stopped = False
        self._warned = False
        self._thread = threading.Thread(target=self._run, name="lumatile-send", daemon=True)
        self._thread.start()

    # for the thread that logs

    def put(self, value: LoggedValue) -> None:
        """Take a value; see `Sink.put`."""
        try:
            dropped = self._queue.put(value, value.nbytes)
        except QueueClosedError:
            raise SinkError(f"the sink has died: {self._dead}" if self._dead else "the sink is closed") from None
        if dropped:
            self._drop(dropped)

    def flush(self, timeout: float | None = None) -> Durable:
        """Wait until everything put before is durable at the service; see `Sink.flush`.

        Raises FlushError also for values that were dropped or refused since the last flush, and when three attempts to
        connect, or of the service to write to its store, have failed in the meantime; what is not durable yet is kept
        and sent again.
        """
        number = self._queue.accepted
        with self._changed:
            failures = self._failures
            self._wanted = max(self._wanted, number)
            self._queue.wake()
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: self._durable(number) or self._stopped or self._failures >= failures + ATTEMPTS, timeout
            )
            lost, self._lost = self._lost, 0
            if not self._durable(number):
                why = self._dead or (self._failure if self._failures > failures else "timed out")
                raise FlushError(max(1, self._undelivered(number)) + lost, str(why))
        if lost:
            raise FlushError(lost, self._why_lost)
        return "store"

    def close(self, timeout: float | None = None) -> None:
        """Take nothing more, flush and stop; see `Sink.close`."""
        self._queue.close()
        try:
            if not self._stopped:
                self.flush(timeout)
        finally:
            with self._changed:
                self._stopped = True
                self._changed.notify_all()
            self._thread.join(CONNECT_SECONDS + 1)

    def _durable(self, number: int) -> bool:
        """Whether all values up to a number are; called with the lock held."""
        first = next(iter(self._unacknowledged.values()), None)
        return self._taken >= number and (first is None or first[0] > number) and not self._gaps

    def _undelivered(self, number: int) -> int:
        """How many of the values up to a number are not durable; called with the lock held."""
        sent = sum(n <= number and value.kind != "gap" for n, value in self._unacknowledged.values())
        return sent + self._queue.count(number)

    def _drop(self, values: Sequence[LoggedValue]) -> None:
        self._gaps.add(values)
        with self._changed:
            self._lost += len(values)
            self._why_lost = "dropped since the last flush, for want of room in the queue"
            warned, self._warned = self._warned, True
        if not warned:
            warn(
                f"the queue of {self._settings.queue_bytes} bytes is full: values are dropped, counted and recorded as "
                "gaps (said once)"
            )

    # the driving thread

    def _run(self) -> None:
        try:
            while not self._stopped:
                connection = self._connected()
                if connection is not None:
                    self._drive(connection)
        except BaseException as e:
            log.critical("the sink's thread died", exc_info=True)
            self._dead = e
        self._queue.close()
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _connected(self) -> FlightConnection | None:
        """A connection that is being made, or None: nobody says where to, and time has passed."""
        try:
            with no_fork():
                addresses = self._addresses()
        except (pa.ArrowException, OSError, ValueError) as e:
            self._failed(reason(e))
            return None
        return FlightConnection(_choice(addresses, self._attempts), self._settings, self._heard)

    def _drive(self, connection: FlightConnection) -> None:
        """Send values until the link is dead or the sink is stopped."""
        with self._changed:
            connection.send([*self._contexts.values(), *(value for _, value in self._unacknowledged.values())])
            self._asked = 0
        while connection.alive and not self._stopped:
            values = self._take()
            if values:
                connection.send(values)
            if self._asked < self._wanted <= self._taken:
                self._asked = self._wanted
                connection.flush()
        if connection.alive or connection.leaving:
            connection.finish()
        else:
            connection.cut()
        if connection.forked:
            time.sleep(TICK_SECONDS)  # there may be more forks to come
        elif not self._stopped:
            self._failed(connection.failure)

    def _failed(self, why: str) -> None:
        """Take note of a failed attempt, and wait before the next one."""
        with self._changed:
            self._attempts += 1
            self._failures += 1
            self._failure = f"{self._url} does not take values: {why}"
            log.log(logging.WARNING if self._attempts == 1 else logging.INFO, "%s", self._failure)
            self._changed.notify_all()
            shortest, longest = BACKOFF_SECONDS
            delay = min(longest, shortest * 2 ** min(self._attempts, 10)) * random.uniform(0.5, 1)  # noqa: S311
            self._changed.wait_for(lambda: self._stopped, delay)

    def _take(self) -> list[LoggedValue]:
        """Some values from the queue, which count as unacknowledged from now on; none where there is no room."""
        with self._changed:
            if self._unacknowledged_bytes >= self._window:
                self._changed.wait(TICK_SECONDS)
                return []
        if not self._queue.wait(TICK_SECONDS) and not self._gaps:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped, TICK_SECONDS if self._queue.closed else 0)
            return []
        keys: list[tuple[bytes, int]] = []
        nbytes = 0
        with self._changed:
            while len(keys) < GATHER_ROWS and nbytes < GATHER_BYTES and (got := self._queue.get_nowait()) is not None:
                self._taken, value = got
                keys.append(self._keep(value))
                nbytes += value.nbytes
            keys += [self._keep(gap) for gap in self._gaps.take()]
        return [self._on_host(key) for key in keys]

    def _keep(self, value: LoggedValue) -> tuple[bytes, int]:
        key = value.producer, value.seq
        self._unacknowledged[key] = self._taken, value
        self._unacknowledged_bytes += value.nbytes
        return key

    def _on_host(self, key: tuple[bytes, int]) -> LoggedValue:
        """A value whose array is in the host's memory, or an error row where it cannot be brought there."""
        number, value = self._unacknowledged[key]
        if value.array is None or isinstance(value.array, np.ndarray):
            return value
        try:
            value.array.check_ids()
            value = replace(value, array=value.array.host(POOL.take))
        except Exception as e:  # noqa: BLE001 - one value must not end the others
            value = replace(value, array=None, error=f"it cannot be brought down from the GPU: {e}")
        with self._changed:
            self._unacknowledged[key] = number, value
        return value

    # the reading threads of connections, also of dead ones

    def _heard(self, message: Acknowledgement) -> None:
        with self._changed:
            for producer, first, last in message.durable:
                for seq in range(first, min(last, first + self._taken) + 1):
                    value = self._settle((producer, seq))
                    if value is not None and value.kind == "annotation_context":
                        self._contexts[value.entity_path, value.time.timeless] = value
            for refused in message.refused:
                if self._settle((refused.producer, refused.seq)) is not None:
                    self._lost += 1
                    self._why_lost = f"refused by the service: {refused.reason}"
                    log.error("a value was %s", self._why_lost)
            if message.failures:
                self._failures += message.failures
                self._failure = f"{self._url} cannot store values: {message.failure}"
            self._changed.notify_all()

    def _settle(self, key: tuple[bytes, int]) -> LoggedValue | None:
        """Forget a value that the service has decided on; None where that is known."""
        entry = self._unacknowledged.pop(key, None)
        if entry is None:
            return None
        self._unacknowledged_bytes -= entry[1].nbytes
        self._attempts = 0
        return entry[1]


def _addresses(url: str) -> list[str]:
    """Where the service at `url` wants values now: itself, or its servers. Raises ArrowException, OSError."""
    client = flight.connect(url, generic_options=OPTIONS)
    try:
        options = flight.FlightCallOptions(timeout=CONNECT_SECONDS)
        info = client.get_flight_info(flight.FlightDescriptor.for_command(b"ingest"), options)
        return [location.uri.decode() for endpoint in info.endpoints for location in endpoint.locations] or [url]
    finally:
        client.close()


def _choice(addresses: Sequence[str], attempt: int) -> str:
    """One of them: any at first, another after a failure."""
    return addresses[attempt % len(addresses)] if attempt else random.choice(addresses)  # noqa: S311
