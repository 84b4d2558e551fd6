"""Log calls in threads of this process: each reads, hashes, and logs what is not stored yet."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress

from lumatile.errors import LumatileError
from lumatile.recording import RecordingStream
from lumatile.values import Content
from lumatile_service.batch.ledger import Ledger, content_hash
from lumatile_service.batch.log_call import LogCall
from lumatile_service.batch.streams import Streams
from lumatile_service.batch.tally import Tally


class TooManyErrorsError(LumatileError):
    """A job stopped because of errors in its input."""


class LocalEngine:
    """Runs the log calls of one job."""

    def __init__(self, streams: Streams, ledger: Ledger, tally: Tally, max_errors: int | None) -> None:
        """`streams`: lenient. `max_errors`: how many bad values are borne; None: any number."""
        self._streams = streams
        self._ledger = ledger
        self._tally = tally
        self._max_errors = max_errors
        self._lock = threading.Lock()
        self._failure: BaseException | None = None
        self._stopped = threading.Event()

    def run(self, calls: Iterable[LogCall], threads: int) -> None:
        """Do all of them, in about their order; annotation contexts before what comes behind them.

        Raises TooManyErrorsError, and what reading the list of calls raises; what was logged until then is in the
        recording.
        """
        iterator = iter(calls)
        workers = [
            threading.Thread(target=self._work, args=(iterator, i), name=f"lumatile-batch-{i}", daemon=True)
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

    def _work(self, calls: Iterator[LogCall], number: int) -> None:
        recording = self._streams.of(number)
        try:
            while (call := self._next(calls, recording)) is not None:
                self._do(call, recording)
                self._check_errors()
                if recording.lost:
                    self._stopped.set()  # nothing is stored any more: the flush says why
        except BaseException as e:  # noqa: BLE001 - it is raised where all threads are waited for
            with self._lock:
                self._failure = self._failure or e
            self._stopped.set()

    def _next(self, calls: Iterator[LogCall], recording: RecordingStream) -> LogCall | None:
        with self._lock:
            while not self._stopped.is_set():
                call = next(calls, None)
                if call is None or call.kind != "annotation_context":
                    return call
                self._do(call, recording)  # at once, before anybody logs what it colors
        return None

    def _do(self, call: LogCall, recording: RecordingStream) -> None:
        """Read a value, and log it if it is not stored."""
        content, digest, failure = b"", None, None
        try:
            content = call.read()
        except Exception as e:  # noqa: BLE001 - one value must not end the job
            failure = e
        else:
            digest = content_hash(content, call.beside)
            if call.kind == "annotation_context":  # also one that is stored: what comes is colored by it
                with suppress(Exception):
                    self._streams.color_by(lambda stream: _log(call, stream, content))
        state = self._ledger.state(call, digest)
        self._tally.read(state, len(content))
        if state == "stored":
            return
        with recording.provenance(call.uri, member=call.member, content_hash=digest):
            if failure is None:
                try:
                    _log(call, recording, content)
                except Exception as e:  # noqa: BLE001
                    failure = e
            if failure is not None:
                _set_times(call, recording)
                recording.log_value(call.kind, call.entity_path, lambda _: _raise(failure))

    def _check_errors(self) -> None:
        errors = self._tally.bad + self._streams.errors
        if self._max_errors is not None and errors > self._max_errors:
            raise TooManyErrorsError(f"stopped after {errors} bad values, more than {self._max_errors}")


def _log(call: LogCall, recording: RecordingStream, content: bytes) -> None:
    _set_times(call, recording)
    call.log(recording, call.entity_path, content)


def _set_times(call: LogCall, recording: RecordingStream) -> None:
    recording.reset_time()
    for name, number in call.sequences.items():
        recording.set_time_sequence(name, number)
    for name, nanos in call.times.items():
        recording.set_time_nanos(name, nanos)


def _raise(error: Exception) -> Content:
    raise error
