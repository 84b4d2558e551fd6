"""The state of a backlog at one moment: everything that the decisions of a flush depend on."""

from __future__ import annotations

from dataclasses import dataclass

from lumatile.spool.reader import Position


@dataclass(frozen=True, kw_only=True)
class SpoolState:
    """The state of a backlog's spool at one moment."""

    end: Position
    """Everything before it is durable in the spool."""
    done: Position
    """Everything before it is acknowledged."""
    failures: int
    """The number of failed writes since the beginning."""
    failure: str
    """Why the last one failed."""


@dataclass(frozen=True, kw_only=True)
class BacklogState:
    """The state of a backlog at one moment."""

    version: int
    """A number that differs after every change that a flush may wait for."""
    accepted: int
    """The number of the last value that the queue has accepted."""
    safe: int
    """A number up to which no value is in memory only, except for gaps."""
    gaps: bool
    """Whether some gaps are neither durable nor in the window."""
    undelivered: int
    """The number of values that are in memory only."""
    up: bool
    """Whether the service takes values, as far as is known."""
    failures: int
    """The number of failures of the service since the beginning: to connect, or to write to its store."""
    failure: str
    """The reason of the last failure; empty: there was none."""
    progress: float
    """The time at which the service has last acknowledged or refused a value, in seconds of the clock."""
    stopped: bool
    """Whether the sink has ended, or is to end."""
    error: BaseException | None
    """The error that has ended the sink, if one has."""
    spool: SpoolState | None
    """None: there is no spool."""

    def held(self, number: int) -> bool:
        """Return whether every value up to `number` is acknowledged or in the spool."""
        return number <= self.safe and not self.gaps
