"""One stream of values to one server of a service, and what comes back on it."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict

import pyarrow as pa
from pyarrow import flight

from lumatile.delivery import forks as flight_forks
from lumatile.format.schema import LOG
from lumatile.settings import RecordingSettings
from lumatile.values import LoggedValue
from lumatile.wire.acknowledgements import SILENCE_SECONDS, Acknowledgement
from lumatile.wire.credentials import call_options, connect
from lumatile.wire.decoding import END, FLUSH, UnsendableError, encode

log = logging.getLogger(__name__)

STALLED_SECONDS = 0.5
"""A process that has not looked for so long was held up itself, and gives the server as long again to be heard."""

FINISH_SECONDS = 5.0
"""Longest wait for what a server that is heard of says last: its store may hang."""

END_SECONDS = 3.0
"""Longest wait for threads that have been told to end."""

OPTIONS = [
    ("grpc.min_reconnect_backoff_ms", 2000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]
"""An attempt to connect takes at most the first: gRPC's own bound is 20 s."""


class FlightConnection:
    """A stream to a server, from construction until it is dead or cut. Its methods do not wait, but `finish` and `cut`.

    One thread finds the server, opens the stream and writes, one reads.
    """

    def __init__(
        self, choose: Callable[[], str], settings: RecordingSettings, heard: Callable[[Acknowledgement], None]
    ) -> None:
        """`choose`: gives the address of a server, may raise. `heard`: told of every message, in the reading thread."""
        self.address = "a service"
        """Of the server, when it is known."""
        self.failure = f"nothing was heard for {SILENCE_SECONDS:g} s"
        """Why it is dead, when it is."""
        self.open = False
        """Something was heard of the server."""
        self.forked = False
        """It was cut for a fork of the process."""
        self.leaving = False
        """The server wants it to end."""
        self._choose = choose
        self._settings = settings
        self._heard = heard
        self._dead = False
        self._looked = self._last = time.monotonic()
        self._changed = threading.Condition()
        self._waiting: deque[Iterable[pa.RecordBatch] | None] = deque()
        """What the writing thread takes; (): a flush; None: nothing more comes."""
        self._client: flight.FlightClient | None = None
        self._reader: flight.FlightStreamReader | None = None
        self._writing = threading.Thread(target=self._write, name="lumatile-write", daemon=True)
        self._reading = threading.Thread(target=self._read, name="lumatile-read", daemon=True)
        flight_forks.begin(self)
        try:
            self._writing.start()
        except RuntimeError as e:  # the process may have no more threads now
            self._died(e)

    @property
    def alive(self) -> bool:
        """Whether the server takes values, and has been heard of lately. To be asked all the time."""
        now = time.monotonic()
        stalled, self._looked = now - self._looked, now
        if stalled > STALLED_SECONDS:
            self._last = min(now, self._last + stalled)
        return not self._dead and not self.leaving and now - self._last < SILENCE_SECONDS

    def send(self, values: Sequence[LoggedValue]) -> None:
        """Send values, behind those before."""
        self.send_batches(self._encoded(values))

    def send_batches(self, batches: Iterable[pa.RecordBatch]) -> None:
        """Send what was encoded before, or is encoded when it is asked for."""
        with self._changed:
            self._waiting.append(batches)
            self._changed.notify_all()

    def flush(self) -> None:
        """Ask the server to commit what was sent, and not to wait for more."""
        self.send_batches(())

    def finish(self) -> None:
        """End it well: what is being written goes out, what the server says last is heard; waits a bounded time."""
        with self._changed:
            self._waiting.clear()
            self._waiting.append(None)
            self._changed.notify_all()
        deadline = time.monotonic() + FINISH_SECONDS
        self._writing.join(SILENCE_SECONDS)
        while self._reading.is_alive() and not self._dead:
            now = time.monotonic()
            if now - self._last >= SILENCE_SECONDS or now >= deadline:
                break
            self._reading.join(0.1)
        self.cut()

    def cut(self) -> None:
        """End it now, and its threads; waits for them, a short time."""
        self._dead = True
        with self._changed:
            self._waiting.clear()
            self._waiting.append(None)
            self._changed.notify_all()
        deadline = time.monotonic() + END_SECONDS
        while self._writing.is_alive() and time.monotonic() < deadline:
            if (reader := self._reader) is not None:
                reader.cancel()
            self._writing.join(0.05)
            del reader
        if self._writing.is_alive():
            log.warning("a link to %s is left behind: it cannot be ended", self.address)
        flight_forks.end(self)

    # the writing thread, which also opens and closes

    def _write(self) -> None:
        writer = None
        try:
            command = json.dumps({"settings": asdict(self._settings)}).encode()
            if not self._found():
                return
            self._last = time.monotonic()
            self._client = connect(self.address, OPTIONS)
            descriptor = flight.FlightDescriptor.for_command(command)
            writer, self._reader = self._client.do_exchange(descriptor, call_options())
            self._reading.start()
            writer.begin(LOG)
            self._write_all(writer)
        except Exception as e:  # noqa: BLE001 - whatever it is, the link is of no use any more
            self._died(e)
        if self._reading.ident is not None:
            self._reading.join()
        elif self._reader is not None:
            self._reader.cancel()
        # gRPC has threads of its own as long as one of these lives
        self._reader = None
        if writer is not None:
            with suppress(Exception):
                writer.close()
        del writer
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _write_all(self, writer: flight.FlightStreamWriter) -> None:
        while (batches := self._next()) is not None:
            if batches == ():
                writer.write_metadata(FLUSH)
            for batch in batches:
                writer.write_batch(batch)
                if self._dead:
                    return
            del batches
        if not self._dead:
            writer.write_metadata(END)

    def _found(self) -> bool:
        """Find the server; False: it was cut meanwhile."""
        with flight_forks.no_fork(lambda: self._dead) as may:
            if may and not self._dead:  # once it is cut, gRPC must not be called any more
                flight_forks.check()
                self.address = self._choose()
        return not self._dead

    def _encoded(self, values: Sequence[LoggedValue]) -> Iterator[pa.RecordBatch]:
        while values:
            try:
                yield from encode(values)
            except UnsendableError as e:
                self._heard(Acknowledgement(refused=(e.refused,)))
                values = values[e.index + 1 :]
            else:
                return

    def _next(self) -> Iterable[pa.RecordBatch] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting)
            return self._waiting.popleft()

    # the reading thread

    def _read(self) -> None:
        reader = self._reader
        try:
            for chunk in reader or ():
                self._last = time.monotonic()
                self.open = True
                message = Acknowledgement.decode(chunk.app_metadata.to_pybytes())
                self._heard(message)
                if message.ended:
                    self.failure = message.ended
                    self.leaving = True
        except Exception as e:  # noqa: BLE001 - a server may say anything
            self._died(e)
        self._dead = True
        with self._changed:
            self._waiting.append(None)
            self._changed.notify_all()

    def _died(self, error: Exception) -> None:
        if not self._dead and not self.leaving:
            self.failure = reason(error)
        self._dead = True


def reason(error: BaseException) -> str:
    """An error without gRPC's debugging context."""
    return str(error).partition(" gRPC client debug context")[0].partition(". Detail:")[0]
