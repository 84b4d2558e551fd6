"""The engine that logs calls in threads of this process."""

from __future__ import annotations

import operator
import threading
from collections.abc import Iterator

from lumatile.log.recording import RecordingStream
from lumatile_kernels.threads import usable_cores
from lumatile_service.batch.engine.call_logger import CallLogger
from lumatile_service.batch.engine.streams import JobStreams
from lumatile_service.batch.job import Job
from lumatile_service.batch.log_call import LogCall, listed_calls

MOST_THREADS = 16
"""The most threads by default: more of them would wait for each other in one process."""


def run_here(job: Job) -> None:
    """Run a job, as an `Engine`, in threads of this process."""
    cores = usable_cores()
    threads = job.threads or min(cores, MOST_THREADS)
    calls = listed_calls(job.read, job.files)
    job.tally.total = operator.length_hint(calls) or None
    streams = JobStreams(job.store, job.settings, backend=job.backend, count=threads, cores=cores, tally=job.tally)
    with streams.closing():
        logger = CallLogger(streams, job.ledger, job.tally, job.listed)
        _Threads(job, iter(calls), streams, logger).run(threads)


class _Threads:
    """Threads that take one call after another, approximately in order; contexts before what follows them."""

    def __init__(self, job: Job, calls: Iterator[LogCall], streams: JobStreams, logger: CallLogger) -> None:
        self._job = job
        self._calls = calls
        self._streams = streams
        self._logger = logger
        self._lock = threading.Lock()
        self._failure: BaseException | None = None
        self._stopped = threading.Event()

    def run(self, threads: int) -> None:
        workers = [
            threading.Thread(target=self._work, args=(i,), name=f"lumatile-batch-{i}", daemon=True)
            for i in range(threads)
        ]
        for worker in workers:
            worker.start()
        try:
            for worker in workers:
                while worker.is_alive():
                    worker.join(0.2)  # a signal is handled in between
        finally:
            self._stopped.set()
            for worker in workers:
                worker.join()
        if self._failure is not None:
            raise self._failure

    def _work(self, number: int) -> None:
        recording = self._streams.of(number)
        try:
            while (call := self._next(recording)) is not None:
                self._logger.log(call, recording)
                self._job.check_errors()
                if recording.lost:
                    self._stopped.set()  # nothing is stored any more, and the flush says why
        except BaseException as e:  # noqa: BLE001 - raised when all threads have ended
            with self._lock:
                self._failure = self._failure or e
            self._stopped.set()

    def _next(self, recording: RecordingStream) -> LogCall | None:
        with self._lock:
            while not self._stopped.is_set():
                call = next(self._calls, None)
                if call is None or call.kind != "annotation_context":
                    return call
                self._logger.log(call, recording)  # at once, before another thread logs what it colors
        return None
