"""A device that puts off everything as long as it may, and proves that nothing depends on when it happens.

Each stream has a queue; an event that somebody waits for runs what it needs, and no more. So what was not ordered is
not there yet. Besides, every access to memory knows, by vector clocks (Fidge, 1988; Mattern, 1989), which others are
sure to come before it: two that are not ordered, one of them a write, are a race, whether it shows or not. Memory that
is freed, here or on the host, must be known to be done with.
"""

import weakref

import numpy as np
from tests.kernels.cuda.cuda_on_cpu.device import CpuDevice


class _Stream:
    def __init__(self, name):
        self.name = name
        self.queue = []
        """(number, action); a wait has no number of its own."""
        self.number = 0
        self.clock = {}


class _Event:
    def __init__(self, stream):
        self.stream = stream
        self.number = stream.number
        self.clock = dict(stream.clock)


def _merge(clock, other):
    for stream, number in other.items():
        clock[stream] = max(clock.get(stream, 0), number)


class DeferredDevice(CpuDevice):
    """See the module."""

    def __init__(self, **options):
        super().__init__(**options)
        self.races = []
        """What is wrong, in words."""
        self._host = {}
        """What the host has waited for."""
        self._accesses = {}
        """(stream, number, whether it writes) of each access, by the id of what it goes to."""
        self._streams = 0

    def check(self):
        """AssertionError if there was a race, or a write beyond memory."""
        assert not self.races, self.races
        assert self.intact()

    def stream(self):
        self._verb()
        self._streams += 1
        return _Stream(f"stream {self._streams}")

    def borrowed_stream(self, handle):
        self._verb()
        self.borrowed.append(handle)
        return _Stream(f"borrowed {handle}")

    def record(self, stream):
        self._verb()
        return _Event(stream)

    def wait(self, stream, event):
        self._verb()
        _merge(stream.clock, event.clock)
        stream.queue.append((stream.number, lambda: self._run_until(event)))

    def synchronize(self, event):
        self._verb()
        self._run_until(event)
        _merge(self._host, event.clock)

    def _run_until(self, event):
        queue = event.stream.queue
        while queue and queue[0][0] <= event.number:
            queue.pop(0)[1]()

    def _do(self, stream, action, *, reads=(), writes=(), host=None):
        _merge(stream.clock, self._host)
        stream.number += 1
        stream.clock[stream] = stream.number
        touched = [(self._found(pointer), False) for pointer in reads]
        touched += [(self._found(pointer), True) for pointer in writes]
        if host is not None:
            while isinstance(host.base, np.ndarray):
                host = host.base
            touched.append((host, bool(reads)))
        for memory, written in touched:
            self._access(memory, stream, written=written)
        references = [weakref.ref(memory) for memory, _ in touched]

        def run():
            assert all(reference() is not None for reference in references), "memory is used after it was freed"
            action()

        stream.queue.append((stream.number, run))

    def _found(self, pointer):
        memory = self.memory_at(pointer)
        assert memory is not None, f"nothing is allocated at {pointer:#x}"
        return memory

    def _access(self, memory, stream, *, written):
        accesses = self._accesses.setdefault(id(memory), [])
        if not accesses:
            weakref.finalize(memory, self._freed, id(memory)).atexit = False
        for other, number, wrote in accesses:
            if (written or wrote) and stream.clock.get(other, 0) < number:
                self._race(f"{stream.name} and {other.name} are not ordered")
        accesses[:] = [a for a in accesses if a[0] is not stream or a[2] is not written]
        accesses.append((stream, stream.number, written))

    def _freed(self, key):
        for stream, number, _ in self._accesses.pop(key, ()):
            if self._host.get(stream, 0) < number:
                self._race(f"memory was freed while {stream.name} may use it")

    def _race(self, what):
        if not self.failed:
            self.races.append(what)
