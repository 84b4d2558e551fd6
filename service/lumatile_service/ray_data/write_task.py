"""One write task: it logs rows into a recording, each value once however often it is tried. It does not need Ray."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from lumatile.errors import FlushError, LumatileWarning
from lumatile.log.recording import RecordingStream
from lumatile.settings import RecordingSettings
from lumatile.values import Content, LoggedValue
from lumatile_service.embedded.error_reasons import ErrorReason
from lumatile_service.embedded.listeners import Listeners
from lumatile_service.embedded.patience import PatientRecording
from lumatile_service.embedded.sink import open_embedded
from lumatile_service.ray_data.attempts import EarlierAttempts

Row = dict[str, Any]

LogRow = Callable[[RecordingStream, Row], None]
"""A function that logs a row into a recording."""


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """The result of a write task."""

    rows: int
    """The number of rows logged."""
    values: int
    """The number of values stored, error rows included."""
    stored_before: int
    """The number of values that an earlier attempt had stored."""
    changed: int
    """The number of stored values whose key an earlier attempt had given to another value, which stays too."""
    errors: int
    """The number of error rows, and of wrong calls that left none."""
    nbytes: int
    """The size of the segments written, in bytes."""
    producers: tuple[bytes, ...]
    """The producers of these values."""


def write_rows(
    rows: Iterable[Row],
    log: LogRow,
    store: str,
    settings: RecordingSettings,
    *,
    backend: str,
    producer: bytes,
    again: bool,
    patience: float,
    threads: int | None = None,
) -> TaskResult:
    """Log rows, and return when they are durable.

    `producer`: 16 bytes, the same for each attempt. `again`: there may have been an earlier attempt.
    `patience`: how long the store may fail before the task fails, in seconds.
    `threads`: the number of threads that compute; None: one for each core.
    Raises FlushError if not everything is durable, StoreError if the recording must be read and cannot be, and in
    strict mode what `log` raises.
    """
    earlier = EarlierAttempts(store, settings.recording_id, producer, read=again)
    counts = _TaskCounts()
    patient = PatientRecording(
        settings,
        partial(open_embedded, store, backend=backend, threads=threads),
        seconds=patience,
        listeners=Listeners(admit=earlier.admit, on_durable=counts.stored, on_error=counts.failed),
        producer=producer,
    )
    recording = patient.recording
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LumatileWarning)  # the error rows and the summary say it
            logged = _log_all(rows, log, recording)
        patient.settle()
    finally:
        with suppress(FlushError):  # everything is durable, or an error is being raised
            recording.disconnect()
    return TaskResult(
        rows=logged,
        values=counts.values,
        stored_before=earlier.stored,
        changed=earlier.changed,
        errors=recording.errors + counts.bad + earlier.bad,
        nbytes=counts.nbytes,
        producers=earlier.producers,
    )


def _log_all(rows: Iterable[Row], log: LogRow, recording: RecordingStream) -> int:
    """Log rows until the sink fails; return the number of rows logged."""
    count = 0
    for row in rows:
        recording.reset_time()
        try:
            log(recording, row)
        except Exception as e:
            if recording.settings.strict:
                raise
            recording.log_value("ext", "/", partial(_raise, e))
        count += 1
        if recording.lost:
            break  # nothing is stored any more, and the flush says why
    return count


def _raise(error: Exception, _: RecordingSettings) -> Content:
    raise error


class _TaskCounts:
    """Counts what the sink of a task tells."""

    def __init__(self) -> None:
        self.values = 0
        """The number of durable values."""
        self.nbytes = 0
        """The size of their segments, in bytes."""
        self.bad = 0
        """The number of values that turned out bad in the pipeline, a broken JPEG for example."""

    def stored(self, values: Sequence[LoggedValue], nbytes: int) -> None:
        """Count values that are durable."""
        self.values += len(values)
        self.nbytes += nbytes

    def failed(self, reason: ErrorReason) -> None:
        """Count a value that turned out bad; other faults are not counted."""
        self.bad += reason == "value_unconverted"
