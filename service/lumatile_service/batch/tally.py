"""What a job has done so far."""

from __future__ import annotations

import threading
from collections import Counter

from lumatile_service.batch.ledger import State


class Tally:
    """Counts; may be used from several threads."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._lock = threading.Lock()
        self._states: Counter[State] = Counter()
        self.bytes_in = 0
        """Bytes read."""
        self.bytes_out = 0
        """Bytes of segments committed."""
        self.durable = 0
        """Values committed."""
        self.bad = 0
        """Values that turned out bad in the pipeline, a broken JPEG for example."""

    @property
    def seen(self) -> int:
        """Values looked at."""
        return self._states.total()

    def count(self, state: State) -> int:
        """Values looked at that were in this state."""
        return self._states[state]

    def read(self, state: State, nbytes: int) -> None:
        """A value was looked at."""
        with self._lock:
            self._states[state] += 1
            self.bytes_in += nbytes

    def stored(self, values: int, nbytes: int) -> None:
        """Values became durable."""
        with self._lock:
            self.durable += values
            self.bytes_out += nbytes

    def failed(self) -> None:
        """A value turned out bad."""
        with self._lock:
            self.bad += 1
