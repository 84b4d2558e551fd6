"""Dropped values, remembered until the rows that say so are durable."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from lumatile.values import LoggedValue, TimePoint


class Gaps:
    """Ranges of dropped values; adjacent ones are joined. The methods may be called from several threads."""

    def __init__(self) -> None:
        """Begin without gaps."""
        self._lock = threading.RLock()
        self._ranges: list[tuple[bytes, int, int]] = []
        """(producer, first seq, last seq) of each range."""

    def __bool__(self) -> bool:
        return bool(self._ranges)

    def add(self, values: Iterable[LoggedValue]) -> None:
        """Add values that are dropped; also gaps, which `take` has returned."""
        with self._lock:
            for value in values:
                producer, first = value.producer, value.seq
                last = first if value.seq_last is None else value.seq_last
                if self._ranges and self._ranges[-1][0] == producer and self._ranges[-1][2] == first - 1:
                    first = self._ranges.pop()[1]
                self._ranges.append((producer, first, last))

    def take(self) -> list[LoggedValue]:
        """Remove all ranges, and return them as values of kind "gap"; `add` accepts them again."""
        with self._lock:
            ranges, self._ranges = self._ranges, []
        now = time.time_ns()
        return [
            LoggedValue(
                entity_path="",
                kind="gap",
                time=TimePoint(log_time=now, log_tick=0),
                producer=producer,
                seq=first,
                seq_last=last,
                body='{"reason": "dropped for want of room in the queue"}',
            )
            for producer, first, last in ranges
        ]
