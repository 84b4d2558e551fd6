"""The values that a sink has taken from its queue and still holds."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

import numpy as np

from lumatile.buffers import POOL
from lumatile.values import LoggedValue

Key = tuple[bytes, int]
"""Producer and seq of a value."""


class Window:
    """Values in the order they were taken, by their keys. Guarded by its owner's lock."""

    def __init__(self) -> None:
        """It is empty."""
        self.nbytes = 0
        """Bytes of its values."""
        self._entries: OrderedDict[Key, tuple[int, LoggedValue]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def first(self) -> int | None:
        """Number in the queue of the oldest value; None: there is none."""
        return next(iter(self._entries.values()))[0] if self._entries else None

    def keep(self, number: int, value: LoggedValue) -> None:
        """Add a value. A gap has the number of the value before it."""
        self._entries[value.producer, value.seq] = number, value
        self.nbytes += value.nbytes

    def forget(self, key: Key) -> LoggedValue | None:
        """Remove a value, and give it; None: it is not there."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return None
        self.nbytes -= entry[1].nbytes
        return entry[1]

    def replace(self, value: LoggedValue) -> None:
        """Keep another form of a value that is there."""
        key = value.producer, value.seq
        if key in self._entries:
            self._entries[key] = self._entries[key][0], value

    def values(self) -> list[LoggedValue]:
        """All of them."""
        return [value for _, value in self._entries.values()]


def on_host(value: LoggedValue) -> LoggedValue:
    """A value whose array is in the host's memory, or an error row where it cannot be brought there."""
    if value.array is None or isinstance(value.array, np.ndarray):
        return value
    try:
        value.array.check_ids()
        return replace(value, array=value.array.host(POOL.take))
    except Exception as e:  # noqa: BLE001 - one value must not end the others
        return replace(value, array=None, error=f"it cannot be brought down from the GPU: {e}")
