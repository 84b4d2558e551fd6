"""What a job has done so far."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping

from lumatile_service.batch.ledger import State


class IngestTally:
    """Counts; may be used from several threads."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.total: int | None = None
        """Values of the dataset; None: not known, or not yet."""
        self.total_bytes = 0
        """Of the dataset's files; 0: not known."""
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._taken: Counter[str] = Counter()

    @property
    def fraction(self) -> float | None:
        """How much of the dataset was looked at, 0 to 1: of its values, or where they are not known of its bytes.

        None: neither is known. Of the bytes it is about: a file has more in it than values.
        """
        if self.total is not None:
            return min(1.0, self.seen / self.total)  # what an actor did that died is done again
        return min(1.0, self.bytes_in / self.total_bytes) if self.total_bytes else None

    @property
    def seen(self) -> int:
        """Values looked at."""
        return self.count("new") + self.count("changed") + self.count("stored")

    def count(self, state: State) -> int:
        """Values looked at that were in this state."""
        return self._counts[state]

    @property
    def bytes_in(self) -> int:
        """Bytes read."""
        return self._counts["bytes_in"]

    @property
    def bytes_out(self) -> int:
        """Bytes of segments committed."""
        return self._counts["bytes_out"]

    @property
    def errors(self) -> int:
        """Values that turned out bad: calls that failed, and what failed in a pipeline, a broken JPEG for example."""
        return self._counts["errors"]

    def read(self, state: State, nbytes: int) -> None:
        """A value was looked at."""
        self.add({state: 1, "bytes_in": nbytes})

    def stored(self, nbytes: int) -> None:
        """A segment was committed."""
        self.add({"bytes_out": nbytes})

    def failed(self) -> None:
        """A value turned out bad."""
        self.add({"errors": 1})

    def add(self, counts: Mapping[str, int]) -> None:
        """Add what `taken` gave, of another tally."""
        with self._lock:
            self._counts.update(counts)

    def taken(self) -> dict[str, int]:
        """What was counted since the last time."""
        with self._lock:
            news = self._counts - self._taken
            self._taken = Counter(self._counts)
        return dict(news)
