"""A link: one stream of values to one server of a service, with the acknowledgements that come back on it."""

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
from lumatile.wire.addresses import OPTIONS
from lumatile.wire.credentials import call_options, connect
from lumatile.wire.encoding import UnsendableError, encode
from lumatile.wire.protocol import END, FLUSH

log = logging.getLogger(__name__)

STALLED_SECONDS = 0.5
"""A process that has not checked a link for so long was held up itself; it gives the server as much time more."""

FINISH_SECONDS = 5.0
"""Longest wait for the last message of a server that is heard of: its store may hang."""

END_SECONDS = 3.0
"""Longest wait for threads that were told to end."""


class FlightConnection:
    """A stream to a server, from its construction until it is dead or cut. Only `finish` and `cut` wait.

    One thread finds the server, opens the stream and writes to it; another one reads.
    """

    def __init__(
        self, choose: Callable[[], str], settings: RecordingSettings, heard: Callable[[Acknowledgement], None]
    ) -> None:
        """Begin to connect.

        Args:
            choose: returns the address of a server, or raises; called in the writing thread.
            settings: of the recording, for the server.
            heard: called with every message of the server, in the reading thread.
        """
        self.address = "a service"
        """The server's address, as soon as it is known."""
        self.failure = f"nothing was heard for {SILENCE_SECONDS:g} s"
        """Why the link is dead, if it is."""
        self.open = False
        """A message of the server has arrived."""
        self.forked = False
        """The link was cut because the process forks."""
        self.leaving = False
        """The server asks that the link end."""
        self._choose = choose
        self._settings = settings
        self._heard = heard
        self._dead = False
        self._looked = self._last = time.monotonic()
        self._changed = threading.Condition()
        self._waiting: deque[Iterable[pa.RecordBatch] | None] = deque()
        """The batches that the writing thread sends next; (): a flush; None: nothing more comes."""
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
        """Whether the server takes values, and was heard of lately; to be read several times a second."""
        now = time.monotonic()
        stalled, self._looked = now - self._looked, now
        if stalled > STALLED_SECONDS:
            self._last = min(now, self._last + stalled)
        return not self._dead and not self.leaving and now - self._last < SILENCE_SECONDS

    @property
    def silent(self) -> bool:
        """Whether the link is not known to be dead, but nothing was heard for too long."""
        return not self._dead and not self.leaving and time.monotonic() - self._last >= SILENCE_SECONDS

    def send(self, values: Sequence[LoggedValue]) -> None:
        """Send values, after those of earlier calls."""
        self.send_batches(self._encoded(values))

    def send_batches(self, batches: Iterable[pa.RecordBatch]) -> None:
        """Send encoded values; an iterator may encode or read them while they are sent."""
        with self._changed:
            self._waiting.append(batches)
            self._changed.notify_all()

    def flush(self) -> None:
        """Ask the server to commit what was sent, without waiting for more."""
        self.send_batches(())

    def finish(self) -> None:
        """End the link in good order: what is being written is sent, the last messages are read; for a bounded time."""
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
        """End the link and its threads now; wait a short time for them."""
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
            log.warning("a link to %s cannot be ended, and is left as it is", self.address)
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
        except Exception as e:  # noqa: BLE001 - whatever it is, the link cannot be used any more
            self._died(e)
        if self._reading.ident is not None:
            self._reading.join()
        elif self._reader is not None:
            self._reader.cancel()
        # gRPC has threads of its own as long as one of these objects lives
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
        """Find the server; return False if the link was cut in the meantime."""
        with flight_forks.no_fork(lambda: self._dead) as may:
            if may and not self._dead:  # once the link is cut, gRPC must not be called any more
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
    """Return the message of an error without gRPC's debugging context."""
    return str(error).partition(" gRPC client debug context")[0].partition(". Detail:")[0]
