"""Timing: contenders take turns, and are compared round by round.

Every second round runs them in reverse, so neighbours in the list are timed one right after the other, each as often
first. A ratio is the median of the rounds' ratios: what slows the machine for a while slows both.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.harness.warm_memory import warm_memory


class SkippedError(Exception):
    """A contender cannot run on this machine; the message gives the reason."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Contender:
    """A piece of work that is timed."""

    name: str
    run: Callable[[], float]
    """Does the work once, and returns the seconds that count."""
    warm_bytes: int = 0
    """The memory to make warm before each timing, in bytes: the memory that the work allocates each time."""


def clock(work: Callable[[], object]) -> Callable[[], float]:
    """Return a function that measures the seconds of `work`; its result is released after the clock has stopped."""

    def run() -> float:
        start = time.perf_counter()
        result = work()
        seconds = time.perf_counter() - start
        del result
        return seconds

    return run


@dataclass(frozen=True, kw_only=True)
class Timings:
    """The seconds of each contender in each round."""

    seconds: Mapping[str, Sequence[float]]

    def median(self, name: str) -> float:
        """Return the median of a contender, in seconds."""
        return median(self.seconds[name])

    def ratio(self, name: str, to: str) -> float:
        """Return how many times as long as `to` a contender takes: the median of the rounds' ratios."""
        return median(a / b for a, b in zip(self.seconds[name], self.seconds[to], strict=True))


def take_turns(contenders: Sequence[Contender], rounds: int) -> Timings:
    """Time the contenders in `rounds` rounds, after one round that does not count."""
    seconds: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for number in range(-1, rounds):
        for contender in contenders if number % 2 else reversed(contenders):
            gc.collect()
            warm_memory(contender.warm_bytes)
            taken = contender.run()
            if number >= 0:
                seconds[contender.name].append(taken)
    return Timings(seconds=seconds)
