"""Device memory that returns to its pool when the last array that uses it is garbage."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from dataclasses import dataclass

from lumatile_kernels.device import Device, Event, Memory, Stream

IDLE_BYTES = 256 << 20
"""The device memory, in bytes, that is kept for the next loans."""


@dataclass(kw_only=True, eq=False)
class Loan:
    """A piece of device memory, lent until this object is garbage."""

    pointer: int
    """The address, a multiple of 256."""
    home: deque[tuple[int, Event]]
    """Takes the address and `written` when the loan ends."""
    written: Event = None
    """The event that the next loan waits for before it writes: the last write, unless it has been waited for."""

    def __del__(self) -> None:
        """Return the memory; a deque needs no lock, so this may run in any thread."""
        self.home.append((self.pointer, self.written))


class Loans:
    """Lends the memory of one device, to any thread."""

    def __init__(self, device: Device, idle_bytes: int = IDLE_BYTES) -> None:
        """Lend memory of `device`; keep at most `idle_bytes` bytes for the next loans."""
        self._device = device
        self._idle_bytes = idle_bytes
        self._lock = threading.Lock()
        self._lent: dict[int, Memory] = {}
        """The lent memory, by address. The loans do not hold it, because it must outlive them."""
        self._idle: list[tuple[Memory, Event]] = []
        self._returned: deque[tuple[int, Event]] = deque()

    def take(self, nbytes: int, stream: Stream) -> Loan:
        """Lend at least `nbytes` bytes, which may be written on `stream`. Raises DeviceError and DeviceMemoryError."""
        with self._lock:
            memory, written = self._fitting(nbytes) or (self._device.allocate(nbytes), None)
            self._lent[memory.pointer] = memory
        loan = Loan(pointer=memory.pointer, home=self._returned, written=written)
        if written is not None:
            self._device.wait(stream, written)
        return loan

    def _fitting(self, nbytes: int) -> tuple[Memory, Event] | None:
        """Take the smallest idle memory of `nbytes` to 2 * `nbytes` bytes, if any; free idle memory above the limit."""
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
    """Return the lender of the memory of a device."""
    with _LOCK:
        if device not in _LOANS:
            _LOANS[device] = Loans(device)
        return _LOANS[device]
