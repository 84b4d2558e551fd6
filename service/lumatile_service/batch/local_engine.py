"""Log calls in threads of this process: each reads, hashes, and logs what is not stored yet."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator

from lumatile.errors import LumatileError
from lumatile.recording import RecordingStream
from lumatile.values import Content
from lumatile_service.batch.ledger import Ledger, content_hash
from lumatile_service.batch.log_call import LogCall
from lumatile_service.batch.tally import Tally


class TooManyErrorsError(LumatileError):
    """A job stopped because of errors in its input."""


class LocalEngine:
    """Runs the log calls of one job."""

    def __init__(self, recording: RecordingStream, ledger: Ledger, tally: Tally, max_errors: int | None) -> None:
        """`recording`: lenient. `max_errors`: how many bad values are borne; None: any number."""
        self._recording = recording
        self._ledger = ledger
        self._tally = tally
        self._max_errors = max_errors
        self._lock = threading.Lock()
        self._failure: BaseException | None = None
        self._stopped = threading.Event()

    def run(self, calls: Iterable[LogCall], threads: int | None = None) -> None:
        """Do all of them, in about their order; annotation contexts before what comes behind them.

        `threads`: None: one a core. Raises TooManyErrorsError, and what reading the list of calls raises; what was
        logged until then is in the recording.
        """
        iterator = iter(calls)
        count = threads or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        workers = [
            threading.Thread(target=self._work, args=(iterator,), name=f"lumatile-batch-{i}", daemon=True)
            for i in range(count)
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

    def _work(self, calls: Iterator[LogCall]) -> None:
        try:
            while (call := self._next(calls)) is not None:
                self._log(call)
                self._check_errors()
        except BaseException as e:  # noqa: BLE001 - it is raised where all threads are waited for
            with self._lock:
                self._failure = self._failure or e
            self._stopped.set()

    def _next(self, calls: Iterator[LogCall]) -> LogCall | None:
        with self._lock:
            while not self._stopped.is_set():
                call = next(calls, None)
                if call is None or call.kind != "annotation_context":
                    return call
                self._log(call)  # at once, before anybody logs what it colors
        return None

    def _log(self, call: LogCall) -> None:
        content, digest, failure = b"", None, None
        try:
            content = call.read()
        except Exception as e:  # noqa: BLE001 - one value must not end the job
            failure = e
        else:
            digest = content_hash(content)
        state = self._ledger.state(call, digest)
        self._tally.read(state, len(content))
        if state == "stored":
            return
        recording = self._recording
        recording.reset_time()
        for name, number in call.sequences.items():
            recording.set_time_sequence(name, number)
        for name, nanos in call.times.items():
            recording.set_time_nanos(name, nanos)
        with recording.provenance(call.uri, member=call.member, content_hash=digest):
            if failure is None:
                try:
                    call.log(recording, call.entity_path, content)
                except Exception as e:  # noqa: BLE001
                    failure = e
            if failure is not None:
                recording.log_value(call.kind, call.entity_path, lambda _: _raise(failure))

    def _check_errors(self) -> None:
        errors = self._tally.bad + self._recording.errors
        if self._max_errors is not None and errors > self._max_errors:
            raise TooManyErrorsError(f"stopped after {errors} bad values, more than {self._max_errors}")


def _raise(error: Exception) -> Content:
    raise error
