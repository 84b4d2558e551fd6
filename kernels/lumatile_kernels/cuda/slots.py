"""Device memory that is reused from batch to batch."""

from __future__ import annotations

from collections import deque

from lumatile_kernels.device import Device, Memory

IDLE_BYTES = 512 << 20
"""The unused memory, in bytes, that is kept for reuse."""


class Slots:
    """Lends pieces of device memory; in the steady state nothing is allocated. One thread at a time may use this.

    A caller never waits for a slot: if all are in use, another is allocated. The caller bounds their number.
    """

    def __init__(self, device: Device, idle_bytes: int = IDLE_BYTES) -> None:
        """Lend memory of `device`; keep at most `idle_bytes` unused bytes."""
        self._device = device
        self._idle_bytes = idle_bytes
        self._idle: list[Memory] = []
        self._returned: deque[Memory] = deque()
        """Slots that were given back and are not among the idle ones yet."""

    def take(self, nbytes: int) -> Memory:
        """Return the smallest idle slot of `nbytes` to 2 * `nbytes` bytes, or a new one. Raises DeviceMemoryError."""
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
        """Give back a slot that no operation of the device uses any more.

        An abandoned batch does this when it is garbage, in any thread and at any time; a deque needs no lock for it.
        """
        self._returned.append(slot)

    def clear(self) -> int:
        """Free all idle slots, and return their size in bytes."""
        nbytes = sum(slot.nbytes for slot in (*self._idle, *self._returned))
        self._idle.clear()
        self._returned.clear()
        return nbytes
