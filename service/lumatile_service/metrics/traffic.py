"""Counters of the values that an ingest receives and stores, for `lumatile status` and for metrics."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, get_args

from lumatile.values import LoggedValue
from lumatile.wire.protocol import RefusedReason
from lumatile_service.embedded.error_reasons import ErrorReason
from lumatile_service.metrics.histogram import Histogram
from lumatile_service.metrics.meter import Meter

LATENCY_BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Upper bounds in seconds: an open segment waits for half a second; a value from a spool may be hours old."""


class Traffic:
    """Counters since the process started. May be used from several threads.

    A value that was sent twice is accepted and acknowledged twice, stored once, and once a duplicate. Bytes of values
    are the memory that they hold.
    """

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        """Begin at zero; `clock`: returns nanoseconds since the epoch."""
        self._clock = clock
        self.accepted, self.acknowledged, self._stored = Meter(), Meter(), Meter()
        self._latency = Histogram(LATENCY_BOUNDS)
        """Times from a value's log_time, by its machine's clock, until it was durable, by this machine's clock."""
        self._lock = threading.Lock()
        """Guards the fields below."""
        self._duplicates = 0
        self._dropped = 0
        self._segments, self._segment_bytes = 0, 0
        self._refused: dict[str, int] = dict.fromkeys(get_args(RefusedReason), 0)
        self._errors: dict[str, int] = dict.fromkeys(get_args(ErrorReason), 0)

    def duplicate(self) -> None:
        """Count a value that had been received before."""
        with self._lock:
            self._duplicates += 1

    def refuse(self, reason: RefusedReason) -> None:
        """Count a value that will never be stored."""
        with self._lock:
            self._refused[reason] += 1

    def fail(self, reason: ErrorReason) -> None:
        """Count a fault."""
        with self._lock:
            self._errors[reason] += 1

    def commit(self, values: Sequence[LoggedValue], nbytes: int) -> None:
        """Count durable `values`, in a segment whose files have `nbytes` bytes."""
        now = self._clock()
        gaps = [value for value in values if value.kind == "gap"]
        self._stored.count(len(values), sum(value.nbytes for value in values))
        self._latency.count(now - value.time.log_time for value in values if value.kind != "gap")
        with self._lock:
            self._segments += 1
            self._segment_bytes += nbytes
            self._dropped += sum(1 if gap.seq_last is None else max(0, gap.seq_last - gap.seq + 1) for gap in gaps)

    def read(self) -> dict[str, Any]:
        """Return all counters as JSON values."""
        with self._lock:
            counts = {
                "duplicate_values": self._duplicates,
                "dropped_values": self._dropped,
                "segments": self._segments,
                "segment_bytes": self._segment_bytes,
                "refused_values": dict(self._refused),
                "errors": dict(self._errors),
            }
        return {
            "accepted": self.accepted.read(),
            "acknowledged": self.acknowledged.read(),
            "stored": self._stored.read(),
            **counts,
            "log_to_durable": self._latency.read(),
        }
