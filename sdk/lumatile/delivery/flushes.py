"""Flushes wait until the values of a backlog are durable, or until waiting makes no sense."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from lumatile.delivery.backlog import Backlog
from lumatile.delivery.backlog_state import BacklogState
from lumatile.sink.sinks import Durable
from lumatile.spool.reader import Position

ATTEMPTS = 3
"""After so many failures, to connect or of the service's store, a flush raises instead of waiting on."""

TICK_SECONDS = 0.1
"""A flush checks at least this often whether it has to wait on."""

STALLED_SECONDS = 5.0
"""When a service has acknowledged nothing for this long, a flush is content with the spool."""


@dataclass(frozen=True, kw_only=True)
class FlushOutcome:
    """The outcome of a flush."""

    where: Durable | None
    """The place where everything that was put before the flush is durable; None: some of it is not."""
    undelivered: int
    """The number of values that are in memory only, whether they were put before the flush or after it began."""
    lost: int
    """The number of values that were dropped, refused or damaged since the last flush."""
    why: str
    """Why values are not durable; if all are, why values were lost."""


class PendingFlush:
    """A flush of the values that were put before it was constructed."""

    def __init__(self, backlog: Backlog, timeout: float | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin; `timeout`: the longest wait in seconds, None: unlimited; `clock`: returns the time in seconds."""
        begun = backlog.state()
        self.number = begun.accepted
        """The number of the last value that was put before it."""
        self._backlog = backlog
        self._timeout = timeout
        self._clock = clock
        self._began = clock()
        self._failures = begun.failures
        self._spool_failures = 0 if begun.spool is None else begun.spool.failures
        self._mark: Position | None = None
        """The position in the spool after the last of its values, as soon as that is known."""

    def wait(self) -> FlushOutcome:
        """Wait until all values are durable in the store, or it makes no sense to wait on."""
        self._backlog.want(self.number)
        while True:
            state = self._backlog.state()
            where = self._where(state)
            if where is not None or state.stopped or self._hopeless(state):
                break
            self._backlog.wait(state.version, min(TICK_SECONDS, self._left))
        lost, why_lost = self._backlog.take_lost()
        why = why_lost if where else self._why_not(state)
        return FlushOutcome(where=where, undelivered=state.undelivered, lost=lost, why=why)

    def _where(self, state: BacklogState) -> Durable | None:
        """Return where all its values are durable, or None; ask for the spool if the service is away or slow."""
        held = state.held(self.number)
        if state.spool is None:
            return "store" if held else None
        if held and self._mark is None:
            self._mark = state.spool.end
        if self._mark is not None and not state.gaps and state.spool.done >= self._mark:
            return "store"
        away = not state.up or state.failures >= self._failures + ATTEMPTS
        stalled = self._stalled(state)
        if held and (away or (stalled and self._timeout is None) or not self._left):
            return "spool"
        if away or stalled:
            self._backlog.want_spooled(self.number)
        return None

    @property
    def _left(self) -> float:
        """The seconds that it may still wait."""
        return float("inf") if self._timeout is None else max(0.0, self._began + self._timeout - self._clock())

    def _stalled(self, state: BacklogState) -> bool:
        """Return whether the service makes so little progress that the values are wanted in the spool."""
        patience = STALLED_SECONDS if self._timeout is None else min(STALLED_SECONDS, self._timeout / 2)
        return self._clock() - max(self._began, state.progress) >= patience

    def _hopeless(self, state: BacklogState) -> bool:
        """Return whether it has waited long enough."""
        failing = state.failures >= self._failures + ATTEMPTS
        if state.spool is not None:
            failing = state.spool.failures > self._spool_failures and (failing or not state.up)
        return failing or not self._left

    def _why_not(self, state: BacklogState) -> str:
        """Return why values are not durable."""
        if state.error is not None:
            return str(state.error)
        why = state.failure if state.failures > self._failures or not state.up else "timed out"
        if state.spool is not None and state.spool.failures > self._spool_failures:
            why += f"; nor do they go to the spool: {state.spool.failure}"
        return why
