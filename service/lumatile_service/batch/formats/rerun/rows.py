"""The values that a Rerun entity shows at each of its rows: the latest of every component at that instant.

Rerun's semantics ("Latest-at" and "Static data" in its documentation): components of one archetype may be logged in
different rows, and at an instant of a timeline the latest of each one holds, of equal times the one with the greater
row id; static components take precedence over others; a clear ends the components before it, a recursive one also
those of the entities below.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

ABSENT = np.iinfo(np.int64).min
"""The time of a row on a timeline that it is not on. Rerun itself has no such time."""

LOGGING = ("log_time", "log_tick")
"""Timelines with the time of logging."""

ROW_ID = np.dtype([("time", ">u8"), ("counter", ">u8")])
"""Nanoseconds since the epoch, and a counter for those of one instant: ids sort in the order of logging."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RrdRows:
    """Rows of chunks, of one entity unless stated otherwise. Each array has one entry for each row."""

    ids: NDArray[np.void]
    """(n,) ROW_ID."""
    chunk: NDArray[np.int64]
    """(n,) the number of the chunk that a row is in."""
    place: NDArray[np.int64]
    """(n,) the number of a row in its chunk."""
    components: NDArray[np.int64]
    """(n,) bits: the components that a row has."""
    filled: NDArray[np.int64]
    """(n,) bits: the components with instances; a component without any is cleared."""
    static: NDArray[np.bool_]
    """(n,) True: the row is static."""
    times: Mapping[str, NDArray[np.int64]]
    """Timeline -> (n,) times, or ABSENT."""

    @classmethod
    def joined(cls, parts: Sequence[RrdRows]) -> RrdRows:
        """Return the rows of all `parts`, of which there is at least one."""
        names = dict.fromkeys(name for part in parts for name in part.times)
        return cls(
            ids=np.concatenate([part.ids for part in parts]),
            chunk=np.concatenate([part.chunk for part in parts]),
            place=np.concatenate([part.place for part in parts]),
            components=np.concatenate([part.components for part in parts]),
            filled=np.concatenate([part.filled for part in parts]),
            static=np.concatenate([part.static for part in parts]),
            times={
                name: np.concatenate([part.times.get(name, np.full(len(part.ids), ABSENT)) for part in parts])
                for name in names
            },
        )

    def taken(self, rows: NDArray[Any]) -> RrdRows:
        """Return some of the rows, by their numbers or a mask."""
        return RrdRows(
            ids=self.ids[rows],
            chunk=self.chunk[rows],
            place=self.place[rows],
            components=self.components[rows],
            filled=self.filled[rows],
            static=self.static[rows],
            times={name: times[rows] for name, times in self.times.items()},
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """The values of one archetype at one entity."""

    row: NDArray[np.int64]
    """(m,) the row at which a value was logged."""
    parts: NDArray[np.int64]
    """(m, components) the row that holds a component, or -1."""

    def taken(self, values: NDArray[Any]) -> Shown:
        """Return some of the values, by their numbers or a mask."""
        return Shown(row=self.row[values], parts=self.parts[values])


def shown(rows: RrdRows, bits: Sequence[int], clears: RrdRows | None) -> Shown:
    """Return the value at each row that has one of the components `bits`.

    A row's own components come first, so that nothing logged is lost (in Rerun static ones hide them); then static
    components; then the latest ones at its instant on the first of its timelines: the user's timeline that most rows
    are on, of several the one with most instants, otherwise log_time. `clears`: the rows that clear the entity.
    """
    has = ((rows.components[:, np.newaxis] >> np.asarray(bits)) & 1).astype(bool)
    rank, clear_rank = _ranks(rows, clears)
    having = np.flatnonzero(has.any(axis=1))
    _, first = np.unique(rank[having], return_index=True)
    row = having[first]
    parts = np.full((len(row), len(bits)), -1, np.int64)
    line = _timelines(rows)[row]
    for component in range(len(bits)):
        entries = np.flatnonzero(has[:, component])
        entries = entries[np.argsort(rank[entries], kind="stable")]
        if not len(entries):
            continue
        found = np.minimum(np.searchsorted(rank[entries], rank[row]), len(entries) - 1)
        own = rank[entries[found]] == rank[row]
        parts[own, component] = entries[found[own]]
        always = entries[rows.static[entries]]
        if len(always):
            filled = own & (rows.filled[entries[found]] >> bits[component] & 1 != 0)
            parts[~filled, component] = always[-1]
            continue
        for number, times in enumerate(rows.times.values()):
            asked = np.flatnonzero((line == number) & (parts[:, component] < 0))
            if len(asked):
                name = list(rows.times)[number]
                cleared = (np.empty(0, np.int64),) * 2 if clears is None else _on(clears, clear_rank, name)
                latest = _latest(times, rank, entries[times[entries] != ABSENT], row[asked], cleared)
                parts[asked, component] = latest
    return Shown(row=row, parts=parts)


def _ranks(rows: RrdRows, clears: RrdRows | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the ranks of the row ids of both in the order of logging."""
    ids = rows.ids if clears is None else np.concatenate([rows.ids, clears.ids])
    order = np.lexsort((ids["counter"], ids["time"]))
    differs = np.ones(len(order), np.int64)
    differs[1:] = ids[order[1:]] != ids[order[:-1]]
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.cumsum(differs)
    return ranks[: len(rows.ids)], ranks[len(rows.ids) :]


def _timelines(rows: RrdRows) -> NDArray[np.int64]:
    """Return for each row the number of the timeline whose instant it shows; -1: it is static."""
    names = list(rows.times)
    on = [times != ABSENT for times in rows.times.values()]
    instants = [len(np.unique(times)) for times in rows.times.values()]
    best_last = sorted(range(len(names)), key=lambda i: (names[i] not in LOGGING, on[i].sum(), instants[i], names[i]))
    line = np.full(len(rows.ids), -1, np.int64)
    for i in best_last:
        line[on[i]] = i
    return line


def _on(clears: RrdRows, rank: NDArray[np.int64], name: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return times and ranks of the clears on a timeline."""
    times = clears.times.get(name, np.full(len(rank), ABSENT))
    return times[times != ABSENT], rank[times != ABSENT]


def _latest(
    times: NDArray[np.int64],
    rank: NDArray[np.int64],
    entries: NDArray[np.int64],
    rows: NDArray[np.int64],
    cleared: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> NDArray[np.int64]:
    """Return for each of `rows` the latest of `entries` at its time, without a clear in between; -1: there is none."""
    if not len(entries):
        return np.full(len(rows), -1, np.int64)
    entries = entries[np.lexsort((rank[entries], times[entries]))]
    entry_clears = _clears_before(cleared, times[entries], rank[entries])
    row_clears = _clears_before(cleared, times[rows], rank[rows])
    at = np.searchsorted(times[entries], times[rows], side="right")
    at = np.minimum(at, np.searchsorted(entry_clears, row_clears, side="right")) - 1
    found: NDArray[np.int64] = np.where((at >= 0) & (entry_clears[at] == row_clears), entries[at], -1)
    return found


def _clears_before(
    cleared: tuple[NDArray[np.int64], NDArray[np.int64]], times: NDArray[np.int64], rank: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the number of clears before each (time, rank)."""
    count = len(cleared[0])
    order = np.lexsort((np.concatenate([cleared[1], rank]), np.concatenate([cleared[0], times])))
    passed = np.empty(len(order), np.int64)
    passed[order] = np.cumsum(order < count)
    return passed[count:]


def without_repeats(rows: RrdRows, found: Shown) -> Shown:
    """Leave out values that a later row repeats, at the same instant of all user timelines, or if both are static."""
    times = [each[found.row] for name, each in rows.times.items() if name not in LOGGING]
    if not times or len(np.unique(found.parts[:, 0])) == len(found.row):
        return found
    key = np.column_stack([found.parts, *times])
    alone = ~(np.logical_or.reduce([each != ABSENT for each in times]) | rows.static[found.row])
    key = np.column_stack([key, np.where(alone, np.arange(len(key)), 0)])
    _, last = np.unique(key[::-1], axis=0, return_index=True)
    kept = np.sort(len(key) - 1 - last)
    return found.taken(kept)
