"""A thread that writes to the disk while the next piece is prepared."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue

DEPTH = 2
"""Writes that are begun or wait: the next one begins without its user being woken. More bring nothing."""


class WriteBehind:
    """Runs writes one after another; for one user, who meets a write's error at a later `start`, or at `wait`."""

    def __init__(self) -> None:
        """Start the thread: at the end of a process it would be too late."""
        self._writes: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._results: SimpleQueue[BaseException | None] = SimpleQueue()
        self._pending = 0
        self._failed = False
        """A write has failed, and its user does not know yet: the ones behind it are not run."""
        self._thread = threading.Thread(target=self._run, name="lumatile-disk", daemon=True)
        self._thread.start()

    def start(self, write: Callable[[], None]) -> None:
        """Run `write` behind the ones before. Raises what one of those raised; `write` is not run then."""
        while self._pending == DEPTH or (self._pending and not self._results.empty()):
            error = self._results.get()
            self._pending -= 1
            if error is not None:
                self.wait()
                raise error
        self._pending += 1
        self._writes.put(write)

    def wait(self) -> None:
        """Wait until the last write is done. Raises what the first that failed raised."""
        failure: BaseException | None = None
        while self._pending:
            error = self._results.get()
            self._pending -= 1
            failure = failure or error
        self._failed = False
        if failure is not None:
            raise failure

    def close(self) -> None:
        """End the thread, after the last write."""
        with suppress(Exception):
            self.wait()
        self._writes.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (write := self._writes.get()) is not None:
            error: BaseException | None = None
            try:
                if not self._failed:
                    write()
            except BaseException as e:  # noqa: BLE001 - whoever waits would wait for ever
                error, self._failed = e, True
            del write  # and with it the buffers
            self._results.put(error)
            del error
