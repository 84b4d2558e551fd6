"""Latest-at queries: the row that holds at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lumatile.read.rows import GROUPS, Rows


@dataclass(frozen=True, kw_only=True, eq=False)
class Timeline:
    """The rows on one timeline, sorted by (entity, group, time, row): one run for each entity and group."""

    rows: NDArray[np.int64]
    """(n,): the number of each row among all rows."""
    times: NDArray[np.int64]
    """(n,): the time of each row."""
    starts: NDArray[np.int64]
    """The first entry of the run entity * len(GROUPS) + group; one more at the end."""

    @staticmethod
    def of(run: NDArray[np.int64], rows: NDArray[np.int64], times: NDArray[np.int64], runs: int) -> Timeline:
        """Sort `rows` at `times`, which belong to the runs `run`; `runs`: the number of runs."""
        order = np.lexsort((rows, times, run))
        starts = np.searchsorted(run[order], np.arange(runs + 1))
        return Timeline(rows=rows[order], times=times[order], starts=starts)

    def latest(self, run: int, time: int) -> tuple[int, int] | None:
        """Return (time, row) of a run's last row at or before `time`; None where there is none."""
        if run + 1 >= len(self.starts):  # it belongs to an entity that came later
            return None
        low, high = int(self.starts[run]), int(self.starts[run + 1])
        found = low + int(np.searchsorted(self.times[low:high], time, side="right")) - 1
        return (int(self.times[found]), int(self.rows[found])) if found >= low else None


class Index:
    """Answers latest-at queries over rows. A timeline is sorted when it is first asked for."""

    def __init__(self, rows: Rows) -> None:
        """Index `rows`; error rows and unknown kinds are left out."""
        self._rows = rows
        self._timelines: dict[str, Timeline] = {}

    def latest(self, entity_path: str, kinds: Sequence[str], timeline: str, time: int) -> int | None:
        """Return the row of one of `kinds` that holds at `time`; None where there is none, or a clear came later."""
        for each, at in ((self._timeline(timeline), time), (self._timeless, 0)):
            found = self._greatest(each, entity_path, [GROUPS[kind] for kind in kinds], at)
            clears = [self._greatest(each, entity_path, [GROUPS["clear"], GROUPS["clear_recursive"]], at)]
            clears += [self._greatest(each, path, [GROUPS["clear_recursive"]], at) for path in _ancestors(entity_path)]
            newest = max((key for key in (found, *clears) if key is not None), default=None)
            if newest is not None:
                return newest[1] if newest == found else None
        return None

    def annotation_context(self, entity_path: str, timeline: str, time: int, log_time: int) -> int | None:
        """Return the row of the annotation context that holds for an entity; None where there is none.

        It is that of the entity itself, or of its nearest ancestor that has one: its newest on `timeline`, else by
        log time, else a timeless one.
        """
        group = [GROUPS["annotation_context"]]
        for path in (entity_path, *_ancestors(entity_path)):
            for each, at in (
                (self._timeline(timeline), time),
                (self._timeline("log_time"), log_time),
                (self._timeless, 0),
            ):
                found = self._greatest(each, path, group, at)
                if found is not None:
                    return found[1]
        return None

    def of_entity(self, entity_path: str) -> NDArray[np.int64]:
        """Return the rows of an entity, in log order; gaps are left out."""
        code = self._rows.entities.get(entity_path, -1)
        return np.flatnonzero((self._rows.entity == code) & self._rows.shown)

    def _greatest(
        self, timeline: Timeline, entity_path: str, groups: Sequence[int], time: int
    ) -> tuple[int, int] | None:
        code = self._rows.entities.get(entity_path)
        if code is None:
            return None
        runs = (timeline.latest(code * len(GROUPS) + group, time) for group in groups)
        return max((key for key in runs if key is not None), default=None)

    def _timeline(self, name: str) -> Timeline:
        if name not in self._timelines:
            rows, times = self._rows.timeline(name)
            self._timelines[name] = self._sorted(rows, times)
        return self._timelines[name]

    @cached_property
    def _timeless(self) -> Timeline:
        rows = np.flatnonzero(self._rows.column(lambda batch: batch.timeless))
        return self._sorted(rows, np.zeros(len(rows), np.int64))

    @cached_property
    def _runs(self) -> NDArray[np.int64]:
        """The run of each row; -1: none."""
        group = self._rows.group
        out = self._rows.column(lambda batch: batch.failed) | (group < 0)
        return np.where(out, -1, self._rows.entity * len(GROUPS) + group)

    def _sorted(self, rows: NDArray[np.int64], times: NDArray[np.int64]) -> Timeline:
        run = self._runs[rows]
        return Timeline.of(run[run >= 0], rows[run >= 0], times[run >= 0], len(self._rows.entities) * len(GROUPS))


def _ancestors(entity_path: str) -> Iterator[str]:
    """Yield the ancestors of an entity, the nearest first, the root last."""
    while entity_path:
        entity_path = entity_path.rpartition("/")[0]
        yield entity_path
