"""Times on the device, by CUDA events.

Before each measurement a long copy goes onto the stream, so that everything that is measured has been enqueued when the
device gets to the first event: launches from Python are not in the figures. The copy also sweeps the L2 cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from benchmarks.gpu_check.gpu import free_bytes

FILLER_BYTES = 1 << 30
FILLERS = 4
"""The number of copies of FILLER_BYTES before each measurement, which take some milliseconds."""

Enqueue = Callable[[int], object]
"""Enqueues work on the stream without waiting; the argument is the number of the round, which rotates inputs."""


class EventTimer:
    """Times work on one stream of the current device."""

    def __init__(self, stream: Any) -> None:
        """Measure on a CuPy `stream`."""
        import cupy

        self._cuda = cupy.cuda
        self._stream = stream
        self.late = 0
        """The number of measurements that the device reached before their end was enqueued."""
        nbytes = min(FILLER_BYTES, free_bytes() // 8)
        self._filler = [cupy.cuda.memory.Memory(nbytes) for _ in range(2)]
        for memory in self._filler:
            cupy.cuda.runtime.memset(memory.ptr, 1, nbytes)
        cupy.cuda.runtime.deviceSynchronize()

    def seconds(self, enqueue: Enqueue, number: int) -> float:
        """Return the device time of the work that `enqueue` enqueues."""
        runtime = self._cuda.runtime
        begin, end = self._cuda.Event(), self._cuda.Event()
        to, source = self._filler
        for _ in range(FILLERS):
            runtime.memcpyAsync(to.ptr, source.ptr, to.size, runtime.memcpyDeviceToDevice, self._stream.ptr)
        begin.record(self._stream)
        enqueue(number)
        end.record(self._stream)
        self.late += bool(begin.done)
        end.synchronize()
        return float(self._cuda.get_elapsed_time(begin, end)) / 1e3

    def take_turns(self, contenders: dict[str, Enqueue], rounds: int, warm_up: int = 3) -> dict[str, list[float]]:
        """Return the seconds of each contender in each round; every second round runs in reverse."""
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        self.late = 0
        for number in range(-warm_up, rounds):
            if number == 0:
                self.late = 0
            for name in list(contenders)[:: 1 if number % 2 else -1]:
                taken = self.seconds(contenders[name], number + warm_up)
                if number >= 0:
                    seconds[name].append(taken)
        return seconds


def ratio(seconds: dict[str, Sequence[float]] | dict[str, list[float]], name: str, to: str) -> float:
    """Return how many times as long as `to` it takes: the median of the rounds' ratios."""
    return median(a / b for a, b in zip(seconds[name], seconds[to], strict=True))
