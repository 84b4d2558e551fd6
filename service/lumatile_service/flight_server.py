"""Receiving logged values over Arrow Flight.

A client puts one stream: its recording's settings in the descriptor, record batches of LOG behind them. What comes back
beside it are acknowledgements; also where there is nothing to acknowledge, so that a dead link shows.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import pyarrow as pa
from pyarrow import flight

from lumatile.acknowledgements import HEARTBEAT_SECONDS, Acknowledgement
from lumatile.errors import InvalidValueError, SinkError
from lumatile.schema import LOG
from lumatile.settings import RecordingSettings
from lumatile.wire import Decoder, Limits, Refused, WireError
from lumatile_service.ingest import Ingest

log = logging.getLogger(__name__)

GATHER_SECONDS = 0.005
"""Acknowledgements that come this close together share a message."""


class IngestServer(flight.FlightServerBase):  # type: ignore[misc]
    """A Flight server in front of an Ingest. It serves from construction to `shutdown`."""

    def __init__(self, location: str, ingest: Ingest, *, limits: Limits | None = None, **options: Any) -> None:
        """`location`: grpc://HOST:PORT, port 0 for any (see `port`). `options`: of FlightServerBase (TLS, middleware).

        Raises OSError where it cannot listen there.
        """
        super().__init__(location, **options)
        self._ingest = ingest
        self._limits = limits or Limits()
        self._draining = threading.Event()

    def do_put(
        self,
        context: flight.ServerCallContext,  # noqa: ARG002
        descriptor: flight.FlightDescriptor,
        reader: flight.MetadataRecordBatchReader,
        writer: flight.FlightMetadataWriter,
    ) -> None:
        """One stream of one recording."""
        with clear_errors():
            if self._draining.is_set():
                raise flight.FlightUnavailableError("this server takes no more streams: it is being shut down")
            settings = _settings(descriptor.command)
            if not reader.schema.equals(LOG):
                raise WireError(f"the columns must be {', '.join(LOG.names)}")
            recording = self._ingest.recording(settings)
            recording.begin()
            decoder = Decoder(self._limits)
            with _Acknowledger(writer) as acknowledger:
                for chunk in reader:
                    if self._draining.is_set():
                        break  # what comes is not acknowledged, and sent again to another server
                    if chunk.data is None:
                        continue
                    for value in decoder.decode(chunk.data):
                        if isinstance(value, Refused):
                            acknowledger.refuse(value)
                        else:
                            recording.put(value, acknowledger.acknowledge)
                recording.flush()

    def get_flight_info(
        self,
        context: flight.ServerCallContext,  # noqa: ARG002
        descriptor: flight.FlightDescriptor,
    ) -> flight.FlightInfo:
        """Where values are taken: here."""
        return flight.FlightInfo(LOG, descriptor, [flight.FlightEndpoint(b"", [])], -1, -1)

    def drain(self, timeout: float | None = None) -> None:
        """Take no new streams, end those there are, and make durable what was received. Raises FlushError."""
        deadline = None if timeout is None else time.monotonic() + timeout
        self._draining.set()
        for recording in self._ingest.recordings:
            recording.flush(None if deadline is None else max(0.0, deadline - time.monotonic()))


@contextmanager
def clear_errors() -> Iterator[None]:
    """Of a method of a server: whatever goes wrong, a client sees a message and an id, never a traceback."""
    try:
        yield
    except flight.FlightError:
        raise
    except pa.ArrowCancelled:
        raise flight.FlightCancelledError("the client has gone") from None
    except (WireError, InvalidValueError) as e:
        raise flight.FlightServerError(str(e)) from None
    except SinkError as e:
        raise flight.FlightUnavailableError(_logged(e, "the store cannot be written")) from None
    except (pa.ArrowException, OSError) as e:
        raise flight.FlightServerError(_logged(e, "the stream cannot be read")) from None
    except Exception as e:  # noqa: BLE001
        raise flight.FlightInternalError(_logged(e, "internal error")) from None


def _logged(error: BaseException, message: str) -> str:
    number = secrets.token_hex(4)
    log.error("%s (error %s)", message, number, exc_info=error)
    return f"{message} (error {number})"


def _settings(command: bytes) -> RecordingSettings:
    """Raises WireError, InvalidValueError."""
    try:
        fields = json.loads(command)["settings"]
        return RecordingSettings(**fields)
    except InvalidValueError:
        raise
    except (ValueError, TypeError, KeyError, RecursionError) as e:
        raise WireError(f"the descriptor must be a recording's settings, as JSON: {type(e).__name__}: {e}") from e


class _Acknowledger:
    """Sends acknowledgements, and heartbeats, from a thread of its own: who is told must not wait for a client."""

    def __init__(self, writer: flight.FlightMetadataWriter) -> None:
        self._writer = writer
        self._changed = threading.Condition()
        self._durable: list[tuple[bytes, int]] = []
        self._refused: list[Refused] = []
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="lumatile-acknowledge", daemon=True)

    def acknowledge(self, producer: bytes, seq: int) -> None:
        """A value is durable."""
        with self._changed:
            self._durable.append((producer, seq))
            self._changed.notify()

    def refuse(self, refused: Refused) -> None:
        """A value will never be."""
        log.warning("a value was refused: %s", refused.reason)
        with self._changed:
            self._refused.append(refused)
            self._changed.notify()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        ended = False
        while not ended:
            with self._changed:
                if self._changed.wait_for(lambda: self._durable or self._refused or self._ended, HEARTBEAT_SECONDS):
                    self._changed.wait_for(lambda: self._ended, GATHER_SECONDS)
                message = Acknowledgement(durable=tuple(self._durable), refused=tuple(self._refused))
                self._durable, self._refused = [], []
                ended = self._ended
            try:
                self._writer.write(message.encode())
            except (pa.ArrowException, OSError) as e:
                log.debug("acknowledgements cannot be sent: %s", e)
                return
