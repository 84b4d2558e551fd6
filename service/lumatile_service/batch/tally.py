"""The counts of an ingestion job."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from typing import get_args

from lumatile_service.batch.ledger import State


class IngestTally:
    """Counts of what a job has done so far; may be used from several threads."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.total: int | None = None
        """The number of values in the dataset; None: unknown so far."""
        self.total_bytes = 0
        """The size of the dataset's files in bytes; 0: unknown."""
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._taken: Counter[str] = Counter()

    @property
    def fraction(self) -> float | None:
        """The fraction of the dataset that was looked at, 0 to 1; None: unknown.

        It is taken from the number of values if that is known, otherwise from the bytes, approximately: a file has more
        in it than values.
        """
        if self.total is not None:
            return min(1.0, self.seen / self.total)  # the work of an actor that died is done again
        return min(1.0, self.bytes_in / self.total_bytes) if self.total_bytes else None

    @property
    def seen(self) -> int:
        """The number of values looked at."""
        return sum(map(self.count, get_args(State)))

    def count(self, state: State) -> int:
        """Return the number of values looked at that were in this state."""
        return self._counts[state]

    @property
    def bytes_in(self) -> int:
        """The number of bytes read."""
        return self._counts["bytes_in"]

    @property
    def bytes_out(self) -> int:
        """The size of the committed segments in bytes."""
        return self._counts["bytes_out"]

    @property
    def errors(self) -> int:
        """The number of bad values: calls that failed, and values that a pipeline refused, such as a broken JPEG."""
        return self._counts["errors"]

    def read(self, state: State, nbytes: int) -> None:
        """Count a value that was looked at."""
        self.add({state: 1, "bytes_in": nbytes})

    def stored(self, nbytes: int) -> None:
        """Count a segment that was committed."""
        self.add({"bytes_out": nbytes})

    def failed(self) -> None:
        """Count a value that turned out bad."""
        self.add({"errors": 1})

    def add(self, counts: Mapping[str, int]) -> None:
        """Add the counts that `taken` returned from another tally."""
        with self._lock:
            self._counts.update(counts)

    def taken(self) -> dict[str, int]:
        """Return what was counted since the last call."""
        with self._lock:
            news = self._counts - self._taken
            self._taken = Counter(self._counts)
        return dict(news)
