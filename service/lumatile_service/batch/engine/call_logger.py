"""Logging of calls: the content of a call is read, and logged if it is not stored."""

from __future__ import annotations

import threading
from contextlib import suppress

from lumatile.log.recording import RecordingStream
from lumatile.values import Content
from lumatile_service.batch.engine.streams import JobStreams
from lumatile_service.batch.ledger import Ledger, content_hash
from lumatile_service.batch.log_call import LogCall
from lumatile_service.batch.places import SourcePlace
from lumatile_service.batch.stale import Listed
from lumatile_service.batch.tally import IngestTally


class CallLogger:
    """Logs the calls of one job; may be used from several threads."""

    def __init__(self, streams: JobStreams, ledger: Ledger, tally: IngestTally, listed: Listed) -> None:
        """Log into `streams`, which are lenient.

        `ledger`: the values that are stored already. `tally`: counts the values read. `listed`: takes their places,
        unless nothing is stored.
        """
        self._streams = streams
        self._ledger = ledger
        self._tally = tally
        self._listed = listed
        self._lock = threading.Lock()
        self._refused = 0
        """The number of failed calls that have been counted."""

    def log(self, call: LogCall, recording: RecordingStream) -> None:
        """Read a value, and log it if it is not stored. A bad value becomes an error row."""
        content, digest, failure = b"", None, None
        try:
            content = call.read()
        except Exception as e:  # noqa: BLE001 - one value must not end the job
            failure = e
        else:
            digest = content_hash(content, call.beside)
            if call.kind == "annotation_context":  # even a stored one: it colors later values
                self._color_by(call, content)
        state = self._ledger.state(call, digest)
        if not self._ledger.empty:
            self._listed.add(SourcePlace.of(call), read=failure is None)
        self._tally.read(state, len(content) if call.file_nbytes is None else call.file_nbytes)
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
        self._count_refused()

    def _count_refused(self) -> None:
        with self._lock:
            before, self._refused = self._refused, self._streams.errors
            self._tally.add({"errors": self._refused - before})

    def color_by(self, call: LogCall) -> None:
        """Color later values by an annotation context, without storing it."""
        with suppress(Exception):  # when it is stored, it becomes an error row
            self._color_by(call, call.read())

    def _color_by(self, call: LogCall, content: bytes) -> None:
        with suppress(Exception):
            self._streams.color_by(lambda stream: _log(call, stream, content))


def _log(call: LogCall, recording: RecordingStream, content: bytes) -> None:
    _set_times(call, recording)
    call.log(recording, call.entity_path, content)


def _set_times(call: LogCall, recording: RecordingStream) -> None:
    recording.reset_time()
    recording.timelines.logged_at(call.log_time)
    for name, number in call.sequences.items():
        recording.set_time_sequence(name, number)
    for name, nanos in call.times.items():
        recording.set_time_nanos(name, nanos)


def _raise(error: Exception) -> Content:
    raise error
