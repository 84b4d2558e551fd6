"""The streams of a job into one recording: several, since one pipeline keeps little more than one core busy."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from os import PathLike

from lumatile.errors import FlushError
from lumatile.log.recording import RecordingStream
from lumatile.settings import RecordingSettings
from lumatile.sink.sinks import Durable
from lumatile.values import LoggedValue
from lumatile_kernels import select_backend
from lumatile_service.batch.tally import IngestTally
from lumatile_service.embedded.contexts import KnownContexts
from lumatile_service.embedded.error_reasons import ErrorReason
from lumatile_service.embedded.listeners import Listeners
from lumatile_service.embedded.patience import PatientRecording
from lumatile_service.embedded.sink import open_embedded

QUEUE_BYTES = 4 << 20
"""The most bytes in a stream's queue if the host makes the tiles: reading further ahead takes cores from that."""

SEGMENT_BYTES, SEGMENT_SECONDS = 256 << 20, 5.0
"""The size and age at which a segment closes: a commit holds a stream up for some 15 ms, and the values of a job need
not be seen at once."""

PATIENCE = 60.0
"""How long a store may fail before the job fails, in seconds."""


class JobStreams:
    """Recording streams, each with its own pipeline and segments. They color by the same annotation contexts."""

    def __init__(
        self,
        store: str | PathLike[str],
        settings: RecordingSettings,
        *,
        backend: str,
        count: int,
        cores: int,
        tally: IngestTally,
    ) -> None:
        """Make the streams.

        `count`: the number of streams; there is only one if a GPU makes the tiles. They share `cores` cores.
        Raises BackendUnavailableError.
        """
        if select_backend(backend).name == "cuda":
            count = 1
        else:
            settings = replace(settings, queue_bytes=min(QUEUE_BYTES, settings.queue_bytes))
        contexts = KnownContexts()
        self._coloring = RecordingStream(settings, lambda _: _ContextsSink(contexts))
        """A stream that stores nothing: its annotation contexts color what the others log."""
        open_sink = partial(
            open_embedded,
            str(store),
            backend=backend,
            contexts=contexts,
            threads=max(1, cores // count),
            segment_bytes=SEGMENT_BYTES,
            segment_seconds=SEGMENT_SECONDS,
        )
        listeners = Listeners(on_durable=partial(_stored, tally), on_error=partial(_failed, tally))
        self._patient = [
            PatientRecording(settings, open_sink, seconds=PATIENCE, listeners=listeners) for _ in range(count)
        ]
        self._streams = [patient.recording for patient in self._patient]

    def of(self, thread: int) -> RecordingStream:
        """Return the stream that a thread logs into."""
        return self._streams[thread % len(self._streams)]

    @property
    def errors(self) -> int:
        """The number of calls that failed, in all streams."""
        return sum(stream.errors for stream in self._streams)

    def color_by(self, log: Callable[[RecordingStream], None]) -> None:
        """Color later values by the annotation contexts that `log` logs, without storing the contexts."""
        log(self._coloring)

    def flush(self) -> None:
        """Wait until everything is durable. Raises FlushError, also after the store has failed for PATIENCE seconds."""
        for patient in self._patient:
            patient.settle()

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Flush at the end of the block, and close the streams in any case. Raises FlushError."""
        try:
            yield
            self.flush()
        except BaseException:
            for stream in self._streams:
                with contextlib.suppress(FlushError):
                    stream.disconnect()
            raise
        finally:
            self._coloring.disconnect()
        for stream in self._streams:
            stream.disconnect()


class _ContextsSink:
    """A `Sink` that only takes note of annotation contexts."""

    def __init__(self, contexts: KnownContexts) -> None:
        self._contexts = contexts

    def put(self, value: LoggedValue) -> None:
        """Take note of a value that is an annotation context; forget any other."""
        if value.kind == "annotation_context":
            self._contexts.add(value)

    def flush(self, timeout: float | None = None) -> Durable:  # noqa: ARG002
        """Return at once: nothing is to be stored."""
        return "store"

    def close(self, timeout: float | None = None) -> None:
        """Do nothing."""


def _stored(tally: IngestTally, _: object, nbytes: int) -> None:
    tally.stored(nbytes)


def _failed(tally: IngestTally, reason: ErrorReason) -> None:
    if reason == "value_unconverted":
        tally.failed()
