"""The values that a sink has taken from its queue, and that are durable nowhere yet."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

import numpy as np

from lumatile.buffers import POOL
from lumatile.values import LoggedValue

Key = tuple[bytes, int]
"""The producer and the seq of a value."""


class Window:
    """Values by their keys, in the order in which they were taken. The owner's lock guards it."""

    def __init__(self) -> None:
        """Begin empty."""
        self.nbytes = 0
        """The bytes that its values hold."""
        self._entries: OrderedDict[Key, tuple[int, LoggedValue]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def first(self) -> int | None:
        """The number, in the queue, of the oldest value; None: the window is empty."""
        return next(iter(self._entries.values()))[0] if self._entries else None

    def keep(self, number: int, value: LoggedValue) -> None:
        """Add a value; a gap gets the number of the value that was taken before it."""
        self._entries[value.producer, value.seq] = number, value
        self.nbytes += value.nbytes

    def forget(self, key: Key) -> LoggedValue | None:
        """Remove a value and return it; None: it is not in the window."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return None
        self.nbytes -= entry[1].nbytes
        return entry[1]

    def replace(self, value: LoggedValue) -> None:
        """Exchange a value for another form of it, if it is in the window."""
        key = value.producer, value.seq
        if key in self._entries:
            self._entries[key] = self._entries[key][0], value

    def values(self) -> list[LoggedValue]:
        """Return all values, the oldest first."""
        return [value for _, value in self._entries.values()]


def on_host(value: LoggedValue) -> LoggedValue:
    """Return the value with its array in the host's memory; with an error instead, if it cannot be copied there."""
    if value.array is None or isinstance(value.array, np.ndarray):
        return value
    try:
        value.array.check_ids()
        return replace(value, array=value.array.host(POOL.take))
    except Exception as e:  # noqa: BLE001 - one value must not end the others
        return replace(value, array=None, error=f"it cannot be brought down from the GPU: {e}")
