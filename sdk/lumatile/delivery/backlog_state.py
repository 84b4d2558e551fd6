"""What a flush sees of a backlog: all that its decisions depend on, as it was at one moment."""

from __future__ import annotations

from dataclasses import dataclass

from lumatile.spool.reader import Position


@dataclass(frozen=True, kw_only=True)
class SpoolState:
    """How a backlog's spool stands at one moment."""

    end: Position
    """Everything before it is durable in the spool."""
    done: Position
    """Everything before it is acknowledged."""
    failures: int
    """Failures to write, since the beginning."""
    failure: str
    """Why the last one failed."""


@dataclass(frozen=True, kw_only=True)
class BacklogState:
    """How a backlog stands at one moment."""

    version: int
    """Changes with every change that a flush may wait for."""
    accepted: int
    """Number of the last value that the queue has accepted."""
    safe: int
    """No value up to this number is in memory only."""
    gaps: bool
    """Some gaps are neither durable nor in the window."""
    undelivered: int
    """Values that are in memory only."""
    up: bool
    """The service takes values, as far as is known."""
    failures: int
    """Failures of the service since the beginning: to connect, or to write to its store."""
    failure: str
    """What the last failure was; empty: there was none."""
    progress: float
    """When the service has last decided on a value, in seconds of the clock."""
    stopped: bool
    """The sink has ended, or is to end."""
    error: BaseException | None
    """What has ended the sink, if an error has."""
    spool: SpoolState | None
    """None: there is no spool."""

    def held(self, number: int) -> bool:
        """Return whether every value up to `number` is acknowledged or in the spool."""
        return number <= self.safe and not self.gaps
