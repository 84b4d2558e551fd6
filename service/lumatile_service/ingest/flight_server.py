"""Receiving logged values over Arrow Flight.

A client opens one exchange for a recording: the descriptor holds the recording's settings, and record batches of LOG
follow. The server answers with acknowledgements, and sends them also where there is nothing to acknowledge, so that a
dead link is noticed. (It is not a DoPut because a client can cancel an exchange at any time, and must do so before its
process forks.)
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Unpack

import pyarrow as pa
from pyarrow import flight

from lumatile.errors import InvalidValueError, SinkError
from lumatile.format.schema import LOG
from lumatile.settings import RecordingSettings
from lumatile.wire.decoding import Decoder, Limits, WireError
from lumatile.wire.protocol import END, Refused
from lumatile_service.embedded.error_reasons import ErrorReason
from lumatile_service.ingest.access import ServerOptions
from lumatile_service.ingest.acknowledger import Acknowledger, Health
from lumatile_service.ingest.recordings import BusyError, Ingest, RecordingIngest
from lumatile_service.ingest.tokens import CallToken

log = logging.getLogger(__name__)

COMMAND_BYTES = 1 << 16
"""The longest descriptor that is read."""


class ClosedServer(flight.FlightServerBase):  # type: ignore[misc]
    """A Flight server that refuses every call with a message; the answers of Flight itself contain a traceback."""

    def _nothing(self, *_: Any) -> Any:
        raise flight.FlightServerError("this address does not know that call")

    list_flights = get_flight_info = do_get = do_put = do_exchange = do_action = _nothing

    def get_schema(
        self,
        context: flight.ServerCallContext,  # noqa: ARG002
        descriptor: flight.FlightDescriptor,  # noqa: ARG002
    ) -> flight.SchemaResult:
        """Return the schema of logged values: pyarrow sends the traceback of anything raised here to the client."""
        return flight.SchemaResult(LOG)

    def list_actions(self, context: flight.ServerCallContext) -> Any:  # noqa: ARG002
        """Return no actions."""
        return []


class IngestServer(ClosedServer):
    """A Flight server in front of an Ingest. It serves from construction to `shutdown`."""

    def __init__(
        self, location: str, ingest: Ingest, *, limits: Limits | None = None, **options: Unpack[ServerOptions]
    ) -> None:
        """Listen at `location`, grpc://HOST:PORT or grpc+tls://HOST:PORT; port 0 is any free one, see `port`.

        Raises OSError where it cannot listen there.
        """
        super().__init__(location, **options)
        self._ingest = ingest
        self._limits = limits or Limits()
        self._draining = threading.Event()
        self._changed = threading.Condition()
        self._streams = 0

    def do_exchange(
        self,
        context: flight.ServerCallContext,
        descriptor: flight.FlightDescriptor,
        reader: flight.MetadataRecordBatchReader,
        writer: flight.MetadataRecordBatchWriter,
    ) -> None:
        """Receive one stream of one recording."""
        with clear_errors(self._ingest.traffic.fail), self._stream(), Acknowledger(writer) as acknowledger:
            settings = _settings(descriptor.command)
            if not reader.schema.equals(LOG):
                raise WireError(f"the columns must be {', '.join(LOG.names)}")
            with self._ingest.stream(settings) as recording:
                acknowledger.watch(lambda: self._health(recording))
                self._receive(reader, recording, acknowledger, context.get_middleware("tokens"))
                recording.flush()

    def _receive(
        self,
        reader: flight.MetadataRecordBatchReader,
        recording: RecordingIngest,
        acknowledger: Acknowledger,
        token: CallToken | None,
    ) -> None:
        decoder = Decoder(self._limits)
        for chunk in reader:
            if self._draining.is_set():
                return  # the rest is not acknowledged, so the client sends it again to another server
            if token is not None:
                token.check()
            if chunk.data is None:
                if chunk.app_metadata is not None and chunk.app_metadata.to_pybytes() == END:
                    return
                recording.commit_soon()  # a flush of the client waits
                continue
            for value in decoder.decode(chunk.data):
                if isinstance(value, Refused):
                    self._ingest.traffic.refuse(value.kind)
                    acknowledger.refuse(value)
                else:
                    recording.put(value, acknowledger.acknowledge)
                del value
            del chunk

    def _health(self, recording: RecordingIngest) -> Health:
        if self._draining.is_set():
            return replace(recording.health, ended="this server is being shut down")
        return recording.health

    @contextmanager
    def _stream(self) -> Iterator[None]:
        with self._changed:
            if self._draining.is_set():
                raise flight.FlightUnavailableError("this server takes no more streams: it is being shut down")
            if self._streams >= self._limits.streams:
                raise BusyError(f"this server takes at most {self._limits.streams} streams at a time: try again later")
            self._streams += 1
        try:
            yield
        finally:
            with self._changed:
                self._streams -= 1
                self._changed.notify_all()

    @property
    def streams(self) -> int:
        """The number of streams that are open now."""
        return self._streams

    def get_flight_info(
        self,
        context: flight.ServerCallContext,  # noqa: ARG002
        descriptor: flight.FlightDescriptor,
    ) -> flight.FlightInfo:
        """Return this server as the one that takes values."""
        return flight.FlightInfo(LOG, descriptor, [flight.FlightEndpoint(b"", [])], -1, -1)

    def drain(self, timeout: float | None = None) -> None:
        """Take no new streams, end those there are, and make durable what was received. Raises FlushError.

        Clients are told to leave; a stream that has not ended after `timeout` seconds is not waited for.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            self._draining.set()
        failures: list[SinkError] = []
        for recording in self._ingest.recordings:
            try:
                recording.flush(None if deadline is None else max(0.0, deadline - time.monotonic()))
            except SinkError as e:  # the other recordings are flushed too
                failures.append(e)
        with self._changed:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            self._changed.wait_for(lambda: not self._streams, left)
        if failures:
            raise failures[0]


@contextmanager
def clear_errors(count: Callable[[ErrorReason], None] = lambda _: None) -> Iterator[None]:
    """Raise whatever goes wrong in the block as a Flight error with a message and an id, never with a traceback.

    `count` is called with the kind of the fault; a client that has disconnected is not a fault.
    """
    try:
        yield
    except flight.FlightError:
        raise
    except pa.ArrowCancelled:
        raise flight.FlightCancelledError("the client has disconnected") from None
    except (WireError, InvalidValueError) as e:
        count("stream_refused")
        raise flight.FlightServerError(_told(e, str(e))) from None
    except BusyError as e:
        count("stream_busy")
        raise flight.FlightUnavailableError(_told(e, str(e))) from None
    except SinkError as e:
        count("store_unavailable")
        raise flight.FlightUnavailableError(_logged(e, "the store cannot be written")) from None
    except (pa.ArrowException, OSError) as e:
        count("stream_unreadable")
        raise flight.FlightServerError(_logged(e, "the stream cannot be read")) from None
    except Exception as e:  # noqa: BLE001
        count("internal")
        raise flight.FlightInternalError(_logged(e, "internal error")) from None


def _told(error: BaseException, message: str) -> str:
    """Return what the client did wrong, with an id that the log has too."""
    number = secrets.token_hex(4)
    log.warning("a stream was refused: %s (error %s)", error, number)
    return f"{message} (error {number})"


def _logged(error: BaseException, message: str) -> str:
    """Log an error, and return only `message` for the client, with an id that the log has too."""
    number = secrets.token_hex(4)
    log.error("%s (error %s)", message, number, exc_info=error)
    return f"{message} (error {number})"


def _settings(command: bytes) -> RecordingSettings:
    """Return the settings in a descriptor. Raises WireError, InvalidValueError."""
    if not isinstance(command, bytes) or len(command) > COMMAND_BYTES:
        raise WireError(f"the descriptor must be a recording's settings, in at most {COMMAND_BYTES} bytes")
    try:
        fields = json.loads(command)["settings"]
        return RecordingSettings(**fields)
    except InvalidValueError:
        raise
    except (ValueError, TypeError, KeyError, RecursionError) as e:
        raise WireError(f"the descriptor must be a recording's settings, as JSON: {type(e).__name__}: {e}") from e
