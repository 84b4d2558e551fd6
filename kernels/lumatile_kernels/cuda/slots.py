"""Device memory that is reused from batch to batch."""

from __future__ import annotations

from collections import deque

from lumatile_kernels.device import Device, Memory

IDLE_BYTES = 512 << 20
"""Kept for reuse while nobody uses it, in bytes."""


class Slots:
    """Lends pieces of device memory; in the steady state none is allocated. For one thread at a time.

    Nobody waits for a slot: where all are in use there is one more. How many that can be is bounded by who asks.
    """

    def __init__(self, device: Device, idle_bytes: int = IDLE_BYTES) -> None:
        """`idle_bytes`: as IDLE_BYTES."""
        self._device = device
        self._idle_bytes = idle_bytes
        self._idle: list[Memory] = []
        self._returned: deque[Memory] = deque()
        """Not yet among the idle."""

    def take(self, nbytes: int) -> Memory:
        """The smallest idle slot that has `nbytes`, and not twice as many; else a new one. Raises DeviceMemoryError."""
        while self._returned:
            self._idle.append(self._returned.popleft())
        fitting = [slot for slot in self._idle if nbytes <= slot.nbytes <= 2 * nbytes]
        if fitting:
            slot = min(fitting, key=lambda slot: slot.nbytes)
            self._idle.remove(slot)
            return slot
        while sum(slot.nbytes for slot in self._idle) > self._idle_bytes:
            self._idle.pop(0)
        return self._device.allocate(nbytes)

    def give_back(self, slot: Memory) -> None:
        """Let others have a slot that nothing on the device uses any more.

        An abandoned batch does this when it is garbage, in any thread and at any time: a deque takes it without a lock.
        """
        self._returned.append(slot)

    def clear(self) -> int:
        """Free what is idle, and say how many bytes."""
        nbytes = sum(slot.nbytes for slot in (*self._idle, *self._returned))
        self._idle.clear()
        self._returned.clear()
        return nbytes
