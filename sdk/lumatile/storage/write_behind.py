"""A thread that writes to the disk while the next piece is prepared."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue

DEPTH = 2
"""The most writes that are under way or waiting: two, so that the next begins at once. More bring nothing."""


class WriteBehind:
    """Runs writes one after another, for one user. The error of a write is raised by a later `start`, or by `wait`."""

    def __init__(self) -> None:
        """Start the thread now: at the end of a process it would be too late."""
        self._writes: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._results: SimpleQueue[BaseException | None] = SimpleQueue()
        self._pending = 0
        self._failed = False
        """True after a write has failed, until the user knows: the writes after it are not run."""
        self._thread = threading.Thread(target=self._run, name="lumatile-disk", daemon=True)
        self._thread.start()

    def start(self, write: Callable[[], None]) -> None:
        """Run `write` after the earlier ones. Raises the error of one of those; `write` is not run then."""
        while self._pending == DEPTH or (self._pending and not self._results.empty()):
            error = self._results.get()
            self._pending -= 1
            if error is not None:
                self.wait()
                raise error
        self._pending += 1
        self._writes.put(write)

    def wait(self) -> None:
        """Wait until the last write is done. Raises the error of the first write that failed."""
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
            except BaseException as e:  # noqa: BLE001 - else the user would wait for ever
                error, self._failed = e, True
            del write  # and with it the buffers
            self._results.put(error)
            del error
