"""How long a job tolerates a store that fails: a sink itself tries again for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from lumatile.errors import FlushError
from lumatile.log.recording import RecordingStream
from lumatile.settings import RecordingSettings
from lumatile.sink.sinks import Sink
from lumatile.values import LoggedValue
from lumatile_service.embedded.error_reasons import ErrorReason
from lumatile_service.embedded.listeners import Listeners

AGAIN_SECONDS = 0.1
"""The time between two flushes of a store that fails."""

LAST_SECONDS = 10.0
"""The time for the last attempts at a store that has failed for too long; they tell the reason."""


class PatientRecording:
    """A recording into a store, which is ended when the store has failed for too long."""

    def __init__(
        self,
        settings: RecordingSettings,
        open_sink: Callable[..., Sink],
        *,
        seconds: float,
        listeners: Listeners,
        producer: bytes | None = None,
    ) -> None:
        """Make the recording.

        `open_sink`: as `open_embedded`, called with the settings and with `listeners`, which pass on what they are
        told to the ones given here. `seconds`: from the first failed attempt to the one after which it is ended.
        `producer`: as in `RecordingStream`.
        """
        self._seconds = seconds
        self._listeners = listeners
        self._failing_since: float | None = None
        self._end: threading.Thread | None = None
        self._error: FlushError | None = None
        own = replace(listeners, on_durable=self._stored, on_error=self._failed)
        self.recording = RecordingStream(settings, partial(open_sink, listeners=own), producer=producer)
        """The recording to log into."""

    def settle(self) -> None:
        """Wait until everything is durable. Raises FlushError, also after the store has failed for too long."""
        while self._end is None:
            try:
                self.recording.flush()
                break
            except FlushError:
                if self._out:
                    raise
            time.sleep(AGAIN_SECONDS)
        if self._end is not None:
            self._end.join()
            if self._error is not None:
                raise self._error
            self.recording.flush()  # says what came too late, if the store works again after all

    def _stored(self, values: Sequence[LoggedValue], nbytes: int) -> None:
        self._failing_since = None
        self._listeners.on_durable(values, nbytes)

    def _failed(self, reason: ErrorReason) -> None:
        if reason == "store_write":
            if self._failing_since is None:
                self._failing_since = time.monotonic()
            if self._out and self._end is None:  # a call that waits for room cannot notice it itself
                self._end = threading.Thread(target=self._give_up, name="lumatile-give-up", daemon=True)
                self._end.start()
        self._listeners.on_error(reason)

    @property
    def _out(self) -> bool:
        """True: waiting is useless, because the store has failed for too long or is not what fails."""
        return self._failing_since is None or time.monotonic() - self._failing_since >= self._seconds

    def _give_up(self) -> None:
        try:
            self.recording.disconnect(timeout=LAST_SECONDS)
        except FlushError as e:
            self._error = e
