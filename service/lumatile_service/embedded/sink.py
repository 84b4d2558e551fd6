"""The embedded sink: the pipeline and the segment writer in the process that logs.

Three threads, each ahead of the next, joined by queues bounded in bytes: decode, convert (stages.py) and write
(committer.py). Each stage has the state of its thread. They share an `Intake` (values that wait or were dropped), a
`Progress` (how far the others have come) and a `Pipeline` (the conversion), each of which has a private lock.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from lumatile.errors import FlushError, SinkError
from lumatile.settings import RecordingSettings
from lumatile.sink.intake import Intake
from lumatile.sink.queue import ByteQueue, QueueClosedError
from lumatile.sink.sinks import Durable
from lumatile.values import LoggedValue
from lumatile.write.writer import SegmentWriter
from lumatile_kernels import select_backend
from lumatile_service.embedded.committer import Committer
from lumatile_service.embedded.contexts import KnownContexts
from lumatile_service.embedded.decoding import DecodedValue
from lumatile_service.embedded.listeners import Listeners
from lumatile_service.embedded.pipeline import Pipeline
from lumatile_service.embedded.progress import Progress
from lumatile_service.embedded.stages import Converting, Decoding, Stage, TileQueue, Wake

log = logging.getLogger(__name__)

AHEAD_BYTES = 64 << 20
"""How far decoding may run ahead of converting, and converting of writing, in bytes."""


def open_embedded(
    url: str,
    settings: RecordingSettings,
    *,
    backend: str = "auto",
    contexts: KnownContexts | None = None,
    threads: int | None = None,
    segment_bytes: int | None = None,
    segment_seconds: float | None = None,
    listeners: Listeners = Listeners(),  # noqa: B008 - frozen
    settled: Callable[[Sequence[LoggedValue]], None] | None = None,
) -> EmbeddedSink:
    """Open the sink that writes into the store at `url`: a path, a file:// URL or a bucket's URL.

    `backend`: as for `select_backend`. `threads`: the number of threads that compute; None: one for each core.
    `contexts`: as for `Pipeline`. `segment_bytes`, `segment_seconds`: as for `SegmentWriter`.
    `settled`: given the values that are durable, as `Listeners.on_durable`.
    Raises SinkError where the store cannot be written, BackendUnavailableError for a backend that cannot run here.
    """
    if settled is not None:
        listeners = replace(listeners, on_durable=lambda values, _: settled(values))
    chosen = select_backend(backend, threads=threads)
    pipeline = Pipeline(settings, backend=chosen, contexts=contexts, threads=threads)  # first: a writer has threads
    writer = SegmentWriter(url, settings, segment_bytes=segment_bytes, segment_seconds=segment_seconds)
    return EmbeddedSink(writer, pipeline, settings, listeners)


class EmbeddedSink:
    """A `Sink` into a store that this process writes."""

    def __init__(
        self,
        writer: SegmentWriter,
        pipeline: Pipeline,
        settings: RecordingSettings,
        listeners: Listeners = Listeners(),  # noqa: B008 - frozen
    ) -> None:
        """Start the threads. The sink closes `writer`."""
        self._pipeline = pipeline
        self._listeners = listeners
        self._intake = Intake(settings)
        self._decoded: ByteQueue[tuple[int, DecodedValue]] = ByteQueue(AHEAD_BYTES)
        self._tiles: TileQueue = ByteQueue(AHEAD_BYTES)
        self._progress = Progress(self._intake)
        stages: dict[str, Stage] = {
            "decode": Decoding(pipeline, self._intake.queue, self._decoded),
            "convert": Converting(pipeline, self._decoded, self._tiles),
            "write": Committer(pipeline, self._tiles, writer, self._progress, listeners),
        }
        self._threads = [
            threading.Thread(target=self._run, args=(stage,), name=f"lumatile-{name}", daemon=True)
            for name, stage in stages.items()
        ]
        for thread in self._threads:
            thread.start()

    def put(self, value: LoggedValue) -> None:
        """Take a value; see `Sink.put`."""
        admitted = self._listeners.admit(value)
        if admitted is not None:
            self._intake.put(admitted)
        elif value.kind == "annotation_context":
            self.remember(value)

    def remember(self, context: LoggedValue) -> None:
        """Color later values by an annotation context that is stored already."""
        self._pipeline.remember(context)

    @property
    def dead(self) -> BaseException | None:
        """The error that ended the sink; None while it works."""
        return self._intake.error

    @property
    def failures(self) -> tuple[int, str]:
        """The number of failed attempts to write since the beginning, and why the last one failed."""
        return self._progress.failures

    @property
    def queued_bytes(self) -> int:
        """The size of the values and tiles that wait in the queues, in bytes."""
        return self._intake.queue.nbytes + self._decoded.nbytes + self._tiles.nbytes

    def commit_soon(self) -> int:
        """Make the values put before durable without waiting for more; return the number of the last of them."""
        number = self._intake.queue.accepted
        if self._progress.want(number) or self._intake.gaps:
            with contextlib.suppress(QueueClosedError):
                self._tiles.put(Wake(), 0)
        return number

    def flush(self, timeout: float | None = None) -> Durable:
        """Wait until everything put before is durable; see `Sink.flush`.

        Raises FlushError also for values that were dropped since the last flush, and when writing has failed three
        times in the meantime; the values that are not durable yet are kept and tried again.
        """
        failures, _ = self._progress.failures
        pending, why = self._progress.wait(self.commit_soon(), failures, timeout)
        lost, why_lost = self._intake.take_lost()
        if why or lost:
            raise FlushError(pending + lost, why or why_lost, lost)
        return "store"

    def close(self, timeout: float | None = None) -> None:
        """Flush and stop; see `Sink.close`."""
        try:
            if self._intake.error is None and not self._progress.closing:
                self.flush(timeout)
        finally:
            self._progress.close()
            self._intake.close()
            for thread in self._threads:
                thread.join(timeout)

    def _run(self, stage: Stage) -> None:
        """Do the work of a thread; should it die, end the others."""
        try:
            stage.run()
        except QueueClosedError:
            pass
        except BaseException as e:
            log.critical("the sink's thread %s died", threading.current_thread().name, exc_info=True)
            if not isinstance(e, SinkError):  # one of the store has been counted where it happened
                self._listeners.on_error("internal")
            self._progress.die(e)
            self._decoded.close()
            self._tiles.close()
        stage.close()
