"""What a service does with the values it receives: each is stored once, and acknowledged when it is durable."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from os import PathLike

from lumatile.places import open_place
from lumatile.settings import RecordingSettings
from lumatile.values import LoggedValue
from lumatile.writer import SegmentWriter
from lumatile_kernels import Backend
from lumatile_service.embedded import EmbeddedSink
from lumatile_service.known_keys import KnownKeys
from lumatile_service.meter import Meter
from lumatile_service.pipeline import Pipeline

log = logging.getLogger(__name__)

QUEUE_BYTES = 1 << 28
"""Bound of the values of a recording that wait for its pipeline, in bytes."""

Acknowledge = Callable[[bytes, int], None]
"""Told (producer, seq) of a value that is durable; must not block."""


class Traffic:
    """What comes and what is answered; a value that was sent twice counts twice."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.accepted, self.acknowledged = Meter(), Meter()


class RecordingIngest:
    """One recording that is written here. May be used from several threads."""

    def __init__(
        self,
        store: str | PathLike[str],
        settings: RecordingSettings,
        backend: Backend,
        queue_bytes: int,
        traffic: Traffic,
    ) -> None:
        """`queue_bytes`: as QUEUE_BYTES. Raises SinkError where the store cannot be written."""
        settings = replace(settings, queue_bytes=queue_bytes, queue_policy="block", max_block=None)
        self._traffic = traffic
        self.settings = settings
        self._lock = threading.Lock()
        """Guards the two below."""
        self._keys = KnownKeys(open_place(store).recording(settings.recording_id))
        self._pending: defaultdict[tuple[bytes, int], list[Acknowledge]] = defaultdict(list)
        """Whom to tell of values that are taken and not durable yet."""
        self._sink = EmbeddedSink(
            SegmentWriter(store, settings), Pipeline(settings, backend=backend), settings, on_durable=self._durable
        )

    def begin(self) -> None:
        """A stream begins: learn what others have stored meanwhile."""
        with self._lock:
            self._keys.refresh()

    def put(self, value: LoggedValue, acknowledge: Acknowledge) -> bool:
        """Take a value, waiting for room; whether it is new. It is acknowledged when it is durable: if it is, at once.

        Raises SinkError where the recording cannot be written any more.
        """
        key = value.producer, value.seq
        with self._lock:
            durable = self._keys.holds(*key)
            new = not durable and key not in self._pending
            if not durable:
                self._pending[key].append(acknowledge)
        self._traffic.accepted.count(1, value.nbytes)
        if durable:
            acknowledge(*key)
            self._traffic.acknowledged.count(1, value.nbytes)
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
        """Values that are taken and not durable yet."""
        return len(self._pending)

    @property
    def queued_bytes(self) -> int:
        """Bytes of values and tiles that wait in its queues."""
        return self._sink.queued_bytes

    def flush(self, timeout: float | None = None) -> None:
        """Make what was taken durable. Raises FlushError."""
        self._sink.flush(timeout)

    def close(self, timeout: float | None = None) -> None:
        """Flush and stop. Raises FlushError."""
        self._sink.close(timeout)

    def _durable(self, values: Sequence[LoggedValue]) -> None:
        told: list[tuple[Acknowledge, bytes, int]] = []
        nbytes = 0
        with self._lock:
            for value in values:
                self._keys.add(value.producer, value.seq, value.seq if value.seq_last is None else value.seq_last)
                key = value.producer, value.seq
                waiting = self._pending.pop(key, ())
                told += [(acknowledge, *key) for acknowledge in waiting]
                nbytes += value.nbytes * len(waiting)
        for acknowledge, producer, seq in told:
            acknowledge(producer, seq)
        self._traffic.acknowledged.count(len(told), nbytes)


class Ingest:
    """All recordings that are written here."""

    def __init__(self, store: str | PathLike[str], backend: Callable[[], Backend], *, queue_bytes: int = QUEUE_BYTES) -> None:
        """`backend`: makes one for each recording. `queue_bytes`: as QUEUE_BYTES."""
        self._store = store
        self._backend = backend
        self._queue_bytes = queue_bytes
        self._lock = threading.Lock()
        self._recordings: dict[str, RecordingIngest] = {}
        self._closed = False
        self.traffic = Traffic()

    def recording(self, settings: RecordingSettings) -> RecordingIngest:
        """The recording that `settings` name; the first that names it decides how it is stored.

        Raises SinkError where the store cannot be written.
        """
        with self._lock:
            if settings.recording_id not in self._recordings:
                self._recordings[settings.recording_id] = RecordingIngest(
                    self._store, settings, self._backend(), self._queue_bytes, self.traffic
                )
            return self._recordings[settings.recording_id]

    @property
    def recordings(self) -> list[RecordingIngest]:
        """Those that are open."""
        return list(self._recordings.values())

    def close(self, timeout: float | None = None) -> None:
        """Flush and stop all of them; raises the first FlushError when all have stopped."""
        failures: list[BaseException] = []
        for recording in self.recordings:
            try:
                recording.close(timeout)
            except Exception as e:  # noqa: BLE001 - the others want to be closed too
                failures.append(e)
        self._recordings.clear()
        if failures:
            raise failures[0]
