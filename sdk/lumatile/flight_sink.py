"""The sink of a service: values over Arrow Flight, acknowledged when they are durable there.

One thread drives: it takes values from the queue, hands them to a connection and keeps them until they are
acknowledged. A connection has two more, one that writes and one that reads; should a link die they may hang, and are
left behind: a new connection sends again what was not acknowledged, to the same server or another, and the service
stores nothing twice.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial

import numpy as np
import pyarrow as pa
from pyarrow import flight

from lumatile.acknowledgements import SILENCE_SECONDS, Acknowledgement
from lumatile.buffers import POOL
from lumatile.errors import FlushError, SinkError, warn
from lumatile.gaps import Gaps
from lumatile.queue import ByteQueue, QueueClosedError
from lumatile.schema import LOG
from lumatile.settings import RecordingSettings
from lumatile.sinks import Durable
from lumatile.values import LoggedValue
from lumatile.wire import encode

log = logging.getLogger(__name__)

BACKOFF_SECONDS = 0.1, 5.0
"""Shortest and longest wait before another attempt to connect; half of it is random."""

ATTEMPTS = 3
"""Failed attempts to connect after which a flush says so instead of waiting on."""

CONNECT_SECONDS = 2.0

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
        """Start the driving thread. `addresses`: of the servers, grpc:// URLs; by default `url` is asked for them.

        It may raise ArrowException, OSError.
        """
        self._url = url
        self._addresses = addresses or partial(_addresses, url)
        self._settings = settings
        self._window = max(1, settings.queue_bytes // 2)
        """Bytes of values that may be sent and not acknowledged; the queue has the rest of queue_bytes."""
        waiting = max(1, settings.queue_bytes - self._window)
        self._queue: ByteQueue[LoggedValue] = ByteQueue(waiting, settings.queue_policy, settings.max_block)
        self._gaps = Gaps()
        self._contexts: dict[tuple[str, bool], LoggedValue] = {}
        """The newest annotation contexts, which begin every connection."""
        self._changed = threading.Condition()
        """Guards the fields below."""
        self._unacknowledged: OrderedDict[tuple[bytes, int], tuple[int, LoggedValue]] = OrderedDict()
        """(number, value) of what was taken from the queue, in that order."""
        self._unacknowledged_bytes = 0
        self._taken = 0
        """Number of the last value that was taken from the queue."""
        self._lost = 0
        """Values dropped or refused since a flush said so."""
        self._why_lost = ""
        self._failures = 0
        """Failed attempts to connect, since the beginning."""
        self._failure = ""
        """Why the last one failed."""
        self._dead: BaseException | None = None
        self._closing = False
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
        connect have failed in the meantime; what is not durable yet is kept and sent again.
        """
        number = self._queue.accepted
        with self._changed:
            failures = self._failures
            self._changed.wait_for(
                lambda: self._durable(number) or self._dead is not None or self._failures >= failures + ATTEMPTS,
                timeout,
            )
            lost, self._lost = self._lost, 0
            if not self._durable(number):
                undelivered = number - self._taken + len(self._unacknowledged)
                reason = self._failure if self._failures > failures else "timed out"
                raise FlushError(max(1, undelivered) + lost, str(self._dead or reason))
        if lost:
            raise FlushError(lost, self._why_lost)
        return "store"

    def close(self, timeout: float | None = None) -> None:
        """Flush and stop; see `Sink.close`."""
        try:
            if self._dead is None and not self._closing:
                self.flush(timeout)
        finally:
            with self._changed:
                self._closing = True
                self._changed.notify_all()
            self._queue.close()
            self._thread.join(timeout)

    def _durable(self, number: int) -> bool:
        """Whether all values up to a number are; called with the lock held."""
        first = next(iter(self._unacknowledged.values()), None)
        return self._taken >= number and (first is None or first[0] > number) and not self._gaps

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
            while not self._closing:
                connection = self._connected()
                if connection is not None:
                    self._drive(connection)
        except BaseException as e:
            log.critical("the sink's thread died", exc_info=True)
            with self._changed:
                self._dead = e
                self._changed.notify_all()
            self._queue.close()

    def _connected(self) -> _Connection | None:
        """A connection, or None: there was none to be had, and time has passed."""
        try:
            return _Connection(_choice(self._addresses(), self._failures), self._settings, self._heard)
        except (pa.ArrowException, OSError) as e:
            with self._changed:
                self._failures += 1
                self._failure = f"{self._url} does not take values: {_reason(e)}"
                log.log(logging.WARNING if self._failures == 1 else logging.INFO, "%s", self._failure)
                self._changed.notify_all()
                shortest, longest = BACKOFF_SECONDS
                delay = min(longest, shortest * 2 ** min(self._failures, 10)) * random.uniform(0.5, 1)  # noqa: S311
                self._changed.wait_for(lambda: self._closing, delay)
            return None

    def _drive(self, connection: _Connection) -> None:
        """Send values until the link dies or the sink is closed."""
        with self._changed:
            again = [value for _, value in self._unacknowledged.values()]
        connection.send([*self._contexts.values(), *again])
        while connection.alive:
            with self._changed:
                if self._closing and not self._unacknowledged:
                    break
                room = self._unacknowledged_bytes < self._window
                if not room:
                    self._changed.wait(0.1)
            if room:
                values = self._take()
                if values:
                    connection.send(values)
        if connection.alive:
            connection.finish()
        elif not self._closing:
            log.warning("the link to %s is dead, another is made: %s", connection.address, connection.failure)
        connection.abandon()

    def _take(self) -> list[LoggedValue]:
        """Some values from the queue, which count as unacknowledged from now on."""
        taken: list[tuple[int, LoggedValue]] = []
        nbytes = 0
        with suppress(QueueClosedError):
            while len(taken) < GATHER_ROWS and nbytes < GATHER_BYTES:
                got = self._queue.get(timeout=0 if taken else 0.05)
                if got is None:
                    break
                taken.append((got[0], _on_host(got[1])))
                nbytes += got[1].nbytes
        with self._changed:
            taken += [(self._taken, gap) for gap in self._gaps.take()]
            for number, value in taken:
                self._unacknowledged[value.producer, value.seq] = number, value
                self._unacknowledged_bytes += value.nbytes
                self._taken = max(self._taken, number)
                if value.kind == "annotation_context":
                    self._contexts[value.entity_path, value.time.timeless] = value
        if not taken and self._closing:
            time.sleep(0.01)  # the queue is closed, and does not wait any more
        return [value for _, value in taken]

    def _heard(self, message: Acknowledgement) -> None:
        with self._changed:
            for key in message.durable:
                self._settle(key)
            for refused in message.refused:
                if self._settle((refused.producer, refused.seq)):
                    self._lost += 1
                    self._why_lost = f"refused by the service: {refused.reason}"
                    log.error("a value was %s", self._why_lost)
            self._changed.notify_all()

    def _settle(self, key: tuple[bytes, int]) -> bool:
        entry = self._unacknowledged.pop(key, None)
        if entry is not None:
            self._unacknowledged_bytes -= entry[1].nbytes
        return entry is not None


class _Connection:
    """One stream to one server."""

    def __init__(self, address: str, settings: RecordingSettings, heard: Callable[[Acknowledgement], None]) -> None:
        """`heard`: told of every message. Raises ArrowException, OSError where there is no server."""
        self.address = address
        self.failure = "nothing was heard of it"
        self._heard = heard
        self._dead = False
        self._last = time.monotonic()
        self._changed = threading.Condition()
        self._waiting: deque[list[LoggedValue] | None] = deque()
        self._client = flight.connect(address)
        command = json.dumps({"settings": asdict(settings)}).encode()
        self._writer, self._reader = self._client.do_put(flight.FlightDescriptor.for_command(command), LOG)
        self._threads = [
            threading.Thread(target=work, name=f"lumatile-{name}", daemon=True)
            for name, work in (("write", self._write), ("read", self._read))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def alive(self) -> bool:
        """Whether the server has been heard of lately."""
        return not self._dead and time.monotonic() - self._last < SILENCE_SECONDS

    def send(self, values: list[LoggedValue]) -> None:
        """Send values, behind those before; does not wait."""
        with self._changed:
            self._waiting.append(values)
            self._changed.notify()

    def finish(self) -> None:
        """Let the server know that nothing more comes, and wait for its last word, a short time."""
        with self._changed:
            self._waiting.append(None)
            self._changed.notify()
        self._threads[1].join(SILENCE_SECONDS)

    def abandon(self) -> None:
        """Leave the threads to end when the system says that the link is dead, if they have not."""
        self._dead = True
        with self._changed:
            self._waiting.clear()
            self._waiting.append(None)
            self._changed.notify()

    def _write(self) -> None:
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._waiting)
                    values = self._waiting.popleft()
                if values is None:
                    break
                for batch in encode(values):
                    self._writer.write_batch(batch)
                    if self._dead:
                        break
                del values
            self._writer.done_writing()
        except (pa.ArrowException, OSError) as e:
            self._died(e)

    def _read(self) -> None:
        try:
            while (message := self._reader.read()) is not None:
                self._last = time.monotonic()
                self._heard(Acknowledgement.decode(message.to_pybytes()))
            self._writer.close()  # raises what ended the stream
        except (pa.ArrowException, OSError, ValueError, KeyError) as e:
            self._died(e)
        self._dead = True

    def _died(self, error: Exception) -> None:
        if not self._dead:
            self.failure = _reason(error)
        self._dead = True


def _addresses(url: str) -> list[str]:
    """Where the service at `url` wants values now: itself, or its servers. Raises ArrowException, OSError."""
    client = flight.connect(url)
    try:
        options = flight.FlightCallOptions(timeout=CONNECT_SECONDS)
        info = client.get_flight_info(flight.FlightDescriptor.for_command(b"ingest"), options)
        return [location.uri.decode() for endpoint in info.endpoints for location in endpoint.locations] or [url]
    finally:
        client.close()


def _choice(addresses: Sequence[str], attempt: int) -> str:
    """One of them: any at first, another after a failure."""
    return addresses[attempt % len(addresses)] if attempt else random.choice(addresses)  # noqa: S311


def _on_host(value: LoggedValue) -> LoggedValue:
    """A value whose array is in the host's memory, or an error row where it cannot be brought there."""
    if value.array is None or isinstance(value.array, np.ndarray):
        return value
    try:
        value.array.check_ids()
        return replace(value, array=value.array.host(POOL.take))
    except (RuntimeError, ValueError) as e:
        return replace(value, array=None, error=f"it cannot be brought down from the GPU: {e}")


def _reason(error: BaseException) -> str:
    """An error without gRPC's debugging context."""
    return str(error).partition(" gRPC client debug context")[0].partition(". Detail:")[0]
