"""The distribution of durations, in the buckets of a Prometheus histogram."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any


class Histogram:
    """Counts durations. May be used from several threads."""

    def __init__(self, bounds: Sequence[float]) -> None:
        """Begin at zero; `bounds`: upper bounds of the buckets in seconds, ascending; an infinite one is added."""
        self._bounds = tuple(bounds)
        self._nanoseconds = [round(bound * 1e9) for bound in bounds]
        self._lock = threading.Lock()
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0
        """Nanoseconds."""

    def count(self, durations: Iterable[int]) -> None:
        """Count durations in nanoseconds; a negative one counts as 0."""
        with self._lock:
            for duration in durations:
                self._counts[bisect_left(self._nanoseconds, duration)] += 1
                self._sum += max(0, duration)

    def read(self) -> dict[str, Any]:
        """Return the counts as JSON values.

        buckets: [upper bound in seconds, number of durations up to it], the last bound "+Inf"; sum: seconds.
        """
        with self._lock:
            counts = accumulate(self._counts)
            return {
                "buckets": [[bound, next(counts)] for bound in (*self._bounds, "+Inf")],
                "sum": self._sum / 1e9,
            }
