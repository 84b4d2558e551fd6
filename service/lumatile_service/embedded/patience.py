"""How long a job bears a store that fails: a sink by itself tries again for ever."""

from __future__ import annotations

import threading
import time

from lumatile.errors import FlushError
from lumatile.log.recording import RecordingStream

AGAIN_SECONDS = 0.1
"""Between flushes of a store that fails."""

LAST_SECONDS = 10.0
"""For the last attempts of a store that has failed for too long: they say why."""


class Patience:
    """Is told by a recording's sink how it goes, and ends it where the store has failed for too long."""

    recording: RecordingStream
    """Whose sink it is; set once it is made."""

    def __init__(self, seconds: float) -> None:
        """`seconds`: from the first attempt that failed to the one after which it is over."""
        self._seconds = seconds
        self._failing_since: float | None = None
        self._end: threading.Thread | None = None
        self._error: FlushError | None = None

    def stored(self) -> None:
        """Values are durable."""
        self._failing_since = None

    def failed(self) -> None:
        """An attempt to write failed."""
        if self._failing_since is None:
            self._failing_since = time.monotonic()
        if self._out and self._end is None:  # a call may wait for room, and cannot look itself
            self._end = threading.Thread(target=self._give_up, name="lumatile-give-up", daemon=True)
            self._end.start()

    def settle(self) -> None:
        """Wait until everything is durable. Raises FlushError."""
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
            self.recording.flush()  # says what came too late, where the store works again after all

    @property
    def _out(self) -> bool:
        """Whether there is nothing to wait for: also where it is not the store that fails."""
        return self._failing_since is None or time.monotonic() - self._failing_since >= self._seconds

    def _give_up(self) -> None:
        try:
            self.recording.disconnect(timeout=LAST_SECONDS)
        except FlushError as e:
            self._error = e
