"""Device memory that is reused from batch to batch."""

from __future__ import annotations

from lumatile_kernels.cuda.device import Device, Memory

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

    def take(self, nbytes: int) -> Memory:
        """The smallest idle slot that has `nbytes`, and not twice as many; else a new one. Raises DeviceMemoryError."""
        fitting = [slot for slot in self._idle if nbytes <= slot.nbytes <= 2 * nbytes]
        if not fitting:
            return self._device.allocate(nbytes)
        slot = min(fitting, key=lambda slot: slot.nbytes)
        self._idle.remove(slot)
        return slot

    def give_back(self, slot: Memory) -> None:
        """Let others have a slot that nothing on the device uses any more."""
        self._idle.append(slot)
        while sum(slot.nbytes for slot in self._idle) > self._idle_bytes:
            self._idle.pop(0)

    def clear(self) -> None:
        """Free what is idle."""
        self._idle.clear()
