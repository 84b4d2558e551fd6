"""A counter of values, with their rate."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

RATE_SECONDS = 5.0
"""A rate is an average over about this many seconds: older values count exponentially less."""


class Meter:
    """Counts values and their bytes. May be used from several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin at zero; `clock`: returns seconds."""
        self._clock = clock
        self._lock = threading.Lock()
        self._last = clock()
        self._values, self._bytes = 0, 0
        self._recent_values, self._recent_bytes = 0.0, 0.0

    def count(self, values: int, nbytes: int) -> None:
        """Count values and their bytes."""
        with self._lock:
            self._fade()
            self._values += values
            self._bytes += nbytes
            self._recent_values += values
            self._recent_bytes += nbytes

    def read(self) -> dict[str, float]:
        """Return the values and bytes since the beginning, and their rates now, per second."""
        with self._lock:
            self._fade()
            return {
                "values": self._values,
                "bytes": self._bytes,
                "values_per_second": round(self._recent_values / RATE_SECONDS, 3),
                "bytes_per_second": round(self._recent_bytes / RATE_SECONDS, 3),
            }

    def _fade(self) -> None:
        now = self._clock()
        left = math.exp((self._last - now) / RATE_SECONDS)
        self._recent_values *= left
        self._recent_bytes *= left
        self._last = now
