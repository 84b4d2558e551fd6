"""Device memory that goes back to its pool by itself, when the last array on it is garbage."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from dataclasses import dataclass

from lumatile_kernels.device import Device, Event, Memory, Stream

IDLE_BYTES = 256 << 20
"""Device memory kept for the next loans, in bytes."""


@dataclass(kw_only=True, eq=False)
class Loan:
    """Some bytes of device memory, while somebody refers to it."""

    pointer: int
    """Their address, a multiple of 256."""
    home: deque[tuple[int, Event]]
    written: Event = None
    """What others have to wait for before they write there; set by who enqueues that and does not wait for it."""

    def __del__(self) -> None:
        """A deque takes it without a lock, in whatever thread."""
        self.home.append((self.pointer, self.written))


class Loans:
    """Lends one device's memory; for any thread."""

    def __init__(self, device: Device, idle_bytes: int = IDLE_BYTES) -> None:
        """`idle_bytes`: as IDLE_BYTES."""
        self._device = device
        self._idle_bytes = idle_bytes
        self._lock = threading.Lock()
        self._lent: dict[int, Memory] = {}
        """By address. Held here, not by the loans: what goes back must not be garbage with them."""
        self._idle: list[tuple[Memory, Event]] = []
        self._returned: deque[tuple[int, Event]] = deque()

    def take(self, nbytes: int, stream: Stream) -> Loan:
        """At least `nbytes`, that may be written on `stream`. Raises DeviceError, DeviceMemoryError."""
        with self._lock:
            memory, written = self._fitting(nbytes) or (self._device.allocate(nbytes), None)
            self._lent[memory.pointer] = memory
        loan = Loan(pointer=memory.pointer, home=self._returned, written=written)
        if written is not None:
            self._device.wait(stream, written)
        return loan

    def _fitting(self, nbytes: int) -> tuple[Memory, Event] | None:
        """The smallest idle memory that has `nbytes`, and not twice as many; too much that is idle is let go."""
        while self._returned:
            pointer, written = self._returned.popleft()
            self._idle.append((self._lent.pop(pointer), written))
        self._idle.sort(key=lambda entry: entry[0].nbytes)
        fitting = (i for i, (memory, _) in enumerate(self._idle) if nbytes <= memory.nbytes <= 2 * nbytes)
        first = next(fitting, None)
        found = None if first is None else self._idle.pop(first)
        while sum(memory.nbytes for memory, _ in self._idle) > self._idle_bytes:
            self._idle.pop(0)
        return found


_LOANS: weakref.WeakKeyDictionary[Device, Loans] = weakref.WeakKeyDictionary()
_LOCK = threading.Lock()


def loans_of(device: Device) -> Loans:
    """The one for a device."""
    with _LOCK:
        if device not in _LOANS:
            _LOANS[device] = Loans(device)
        return _LOANS[device]
