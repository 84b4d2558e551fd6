"""The recordings of a service: each received value is stored once, and acknowledged when it is durable."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from os import PathLike

from lumatile.errors import SinkError
from lumatile.settings import RecordingSettings
from lumatile.storage.open_storage import open_storage
from lumatile.values import LoggedValue
from lumatile.write.writer import SegmentWriter
from lumatile_kernels import Backend
from lumatile_service.embedded.known_keys import KnownKeys
from lumatile_service.embedded.listeners import Listeners
from lumatile_service.embedded.pipeline import Pipeline
from lumatile_service.embedded.sink import EmbeddedSink
from lumatile_service.ingest.acknowledger import Health
from lumatile_service.metrics.traffic import Traffic

log = logging.getLogger(__name__)

QUEUE_BYTES = 1 << 28
"""The bound of the values of a recording that wait for its pipeline, in bytes."""

IDLE_SECONDS = 60.0
"""A recording without a stream is closed after this time."""

RECORDINGS = 256
"""The most recordings that are open at a time: each has threads, and a queue of QUEUE_BYTES."""

DISCARD_SECONDS = 5.0
"""The longest wait for a recording that is discarded."""

Acknowledge = Callable[[bytes, int], None]
"""Called with (producer, seq) of a durable value; must not block."""


class BusyError(SinkError):
    """There is no room now; there may be later, or on another server."""


class RecordingIngest:
    """One recording that this process writes. May be used from several threads."""

    def __init__(
        self,
        store: str | PathLike[str],
        settings: RecordingSettings,
        backend: Backend,
        queue_bytes: int,
        traffic: Traffic,
    ) -> None:
        """Open the recording; `queue_bytes`: as QUEUE_BYTES. Raises SinkError where the store cannot be written."""
        settings = replace(settings, queue_bytes=queue_bytes, queue_policy="block", max_block=None)
        self._traffic = traffic
        self.settings = settings
        self._lock = threading.Lock()
        """Guards the two below."""
        self._keys = KnownKeys(open_storage(store).recording(settings.recording_id))
        self._pending: defaultdict[tuple[bytes, int], list[Acknowledge]] = defaultdict(list)
        """The functions to call for values that are taken and not durable yet."""
        self._sink = EmbeddedSink(
            SegmentWriter(store, settings),
            Pipeline(settings, backend=backend),
            settings,
            Listeners(on_durable=self._durable, on_error=traffic.fail),
        )

    @property
    def dead(self) -> bool:
        """Whether this object can write no more; another RecordingIngest may."""
        return self._sink.dead is not None

    @property
    def health(self) -> Health:
        """The health of the recording."""
        failures, failure = self._sink.failures
        return Health(failures=failures, failure=failure, ended="the store cannot be written" if self.dead else "")

    def begin(self) -> None:
        """Begin a stream: read which values others have stored in the meantime."""
        with self._lock:
            self._keys.refresh()

    def put(self, value: LoggedValue, acknowledge: Acknowledge) -> bool:
        """Take a value, waiting for room, and return whether it is new.

        The value is acknowledged when it is durable: at once if it is already.
        Raises SinkError where the recording cannot be written any more.
        """
        key = value.producer, value.seq
        with self._lock:
            durable = self._keys.holds(*key)
            new = not durable and key not in self._pending
            if not durable:
                self._pending[key].append(acknowledge)
        self._traffic.accepted.count(1, value.nbytes)
        if not new:
            self._traffic.duplicate()
        if durable:
            self._traffic.acknowledged.count(1, value.nbytes)
            acknowledge(*key)
        if new:
            try:
                self._sink.put(value)
            except BaseException:
                with self._lock:
                    self._pending.pop(key, None)
                raise
        elif value.kind == "annotation_context":
            self._sink.remember(value)  # a stream begins with the contexts it knows, also those that are stored
        return new

    @property
    def pending(self) -> int:
        """The number of values that are taken and not durable yet."""
        return len(self._pending)

    @property
    def queued_bytes(self) -> int:
        """The size of the values and tiles that wait in the queues, in bytes."""
        return self._sink.queued_bytes

    def commit_soon(self) -> None:
        """Make all taken values durable without waiting for more."""
        self._sink.commit_soon()

    def flush(self, timeout: float | None = None) -> None:
        """Wait until all taken values are durable. Raises FlushError."""
        self._sink.flush(timeout)

    @property
    def busy(self) -> bool:
        """Whether there are values still to be written."""
        return bool(self._pending) and not self.dead

    def discard(self) -> None:
        """Stop; for a recording whose streams have ended, so that no client waits for an acknowledgement."""
        with suppress(SinkError, OSError):
            self.close(DISCARD_SECONDS)

    def close(self, timeout: float | None = None) -> None:
        """Flush and stop. Raises FlushError."""
        self._sink.close(timeout)

    def _durable(self, values: Sequence[LoggedValue], segment_bytes: int) -> None:
        told: list[tuple[Acknowledge, bytes, int]] = []
        nbytes = 0
        with self._lock:
            for value in values:
                self._keys.add(value.producer, value.seq, value.seq if value.seq_last is None else value.seq_last)
                key = value.producer, value.seq
                waiting = self._pending.pop(key, ())
                told += [(acknowledge, *key) for acknowledge in waiting]
                nbytes += value.nbytes * len(waiting)
        self._traffic.commit(values, segment_bytes)
        self._traffic.acknowledged.count(len(told), nbytes)
        for acknowledge, producer, seq in told:
            acknowledge(producer, seq)


@dataclass(kw_only=True, eq=False)
class _Open:
    """A recording that has streams, or had some recently."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while the recording is opened, which may take long."""
    ingest: RecordingIngest | None = None
    streams: int = 0
    idle_since: float = 0.0
    """The time at which the last stream ended, on the monotonic clock."""


class Ingest:
    """All recordings that this process writes."""

    def __init__(
        self,
        store: str | PathLike[str],
        backend: Callable[[], Backend],
        *,
        queue_bytes: int = QUEUE_BYTES,
        idle_seconds: float = IDLE_SECONDS,
        most: int = RECORDINGS,
    ) -> None:
        """Begin with no recordings; `backend`: makes a backend for each.

        `queue_bytes`, `idle_seconds`, `most`: as QUEUE_BYTES, IDLE_SECONDS, RECORDINGS.
        """
        self._store = store
        self._backend = backend
        self._queue_bytes = queue_bytes
        self._idle_seconds = idle_seconds
        self._most = most
        self._lock = threading.Lock()
        """Guards the two below; never held for long."""
        self._open: dict[str, _Open] = {}
        self._closed = threading.Event()
        self.traffic = Traffic()
        threading.Thread(target=self._close_idle, name="lumatile-idle", daemon=True).start()

    @contextmanager
    def stream(self, settings: RecordingSettings) -> Iterator[RecordingIngest]:
        """Give one stream the recording that `settings` name; its first stream decides how it is stored.

        Raises SinkError where the store cannot be written, BusyError where too many recordings are open.
        """
        with self._lock:
            if self._closed.is_set():
                raise SinkError("this service is closed")
            if settings.recording_id not in self._open and len(self._open) >= self._most:
                raise BusyError(f"this server writes at most {self._most} recordings at a time: try again later")
            entry = self._open.setdefault(settings.recording_id, _Open())
            entry.streams += 1
        try:
            with entry.lock:
                if entry.ingest is not None and entry.ingest.dead:
                    entry.ingest.discard()
                    entry.ingest = None
                if entry.ingest is None:
                    entry.ingest = RecordingIngest(
                        self._store, settings, self._backend(), self._queue_bytes, self.traffic
                    )
                recording = entry.ingest
            recording.begin()
            yield recording
        finally:
            with self._lock:
                entry.streams -= 1
                entry.idle_since = time.monotonic()
                if entry.ingest is None and not entry.streams and self._open.get(settings.recording_id) is entry:
                    del self._open[
                        settings.recording_id
                    ]  # it could not be opened, and must not take the place of another

    @property
    def recordings(self) -> list[RecordingIngest]:
        """The open recordings."""
        with self._lock:
            return [entry.ingest for entry in self._open.values() if entry.ingest is not None]

    def close(self, timeout: float | None = None) -> None:
        """Flush and stop all recordings; raise the first FlushError when all have stopped."""
        deadline = None if timeout is None else time.monotonic() + timeout
        self._closed.set()
        failures: list[BaseException] = []
        for recording in self.recordings:
            try:
                recording.close(None if deadline is None else max(0.0, deadline - time.monotonic()))
            except Exception as e:  # noqa: BLE001 - the other recordings are closed too
                failures.append(e)
        with self._lock:
            self._open.clear()
        if failures:
            raise failures[0]

    def _close_idle(self) -> None:
        """Close recordings without streams: each has threads and memory."""
        while not self._closed.wait(min(self._idle_seconds / 4, 5.0)):
            before = time.monotonic() - self._idle_seconds
            with self._lock:
                idle = [
                    name
                    for name, entry in self._open.items()
                    if not entry.streams and entry.idle_since <= before and not (entry.ingest and entry.ingest.busy)
                ]
                gone = [self._open.pop(name).ingest for name in idle]
            for recording in gone:
                if recording is not None:
                    recording.discard()
