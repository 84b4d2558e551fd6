"""A thread that writes to the disk while the next piece is prepared."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue


class WriteBehind:
    """Runs one write at a time; for one user, who meets a write's error at the next `start` or `wait`."""

    def __init__(self) -> None:
        """Start the thread: at the end of a process it would be too late."""
        self._writes: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._results: SimpleQueue[BaseException | None] = SimpleQueue()
        self._busy = False
        self._thread = threading.Thread(target=self._run, name="lumatile-disk", daemon=True)
        self._thread.start()

    def start(self, write: Callable[[], None]) -> None:
        """Begin `write` once the one before is done. Raises what that one raised; `write` is not begun then."""
        self.wait()
        self._busy = True
        self._writes.put(write)

    def wait(self) -> None:
        """Wait until the last write is done. Raises what it raised."""
        if self._busy:
            self._busy = False
            if (error := self._results.get()) is not None:
                raise error

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
                write()
            except BaseException as e:  # noqa: BLE001 - whoever waits would wait for ever
                error = e
            del write  # and with it the buffers
            self._results.put(error)
            del error
