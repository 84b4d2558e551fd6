"""The frames rows of a recording that have been read: which of them count, and the columns that queries search."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lumatile.format.arrow_arrays import array_of, array_of_numbers, numbers_of, table_of
from lumatile.format.schema import FRAMES
from lumatile.values import DATA_KINDS

GROUPS: Mapping[str, int] = {
    **{kind: code for code, kind in enumerate(DATA_KINDS)},
    "clear": len(DATA_KINDS),
    "clear_recursive": len(DATA_KINDS) + 1,
    "annotation_context": len(DATA_KINDS) + 2,
    "ext": len(DATA_KINDS) + 3,
    "gap": len(DATA_KINDS) + 4,
}
"""The groups of rows that queries tell apart: the kinds, with recursive clears as one of their own."""


class Codes(dict[Any, int]):
    """Numbers for values, in the order in which they are met; the same for all rows of a recording."""

    def of(self, column: pa.ChunkedArray) -> NDArray[np.int64]:
        """Return the codes of a column's values, (n,); new values get new codes."""
        encoded = column.combine_chunks().dictionary_encode()
        table = np.array([self.setdefault(value, len(self)) for value in encoded.dictionary.to_pylist()], np.int64)
        codes: NDArray[np.int64] = table[numbers_of(encoded.indices)]
        return codes


@dataclass(frozen=True, kw_only=True, eq=False)
class RowBatch:
    """The rows of the segments that one refresh has read. Arrays have one entry a row."""

    table: pa.Table
    """The rows as they are stored: schema FRAMES, one chunk a column."""
    segments: tuple[str, ...]
    """The names of the segments."""
    segment: NDArray[np.int64]
    """The index of the row's segment in `segments`."""
    frame: NDArray[np.int64]
    """The number of the row in the segment's frames file."""
    since: NDArray[np.int64]
    """The number of the refresh that first met the row's key: in this batch, or in a segment that it has replaced."""
    entity: NDArray[np.int64]
    """The code of the entity path."""
    group: NDArray[np.int64]
    """One of GROUPS; -1: a kind that this version does not know."""
    producer: NDArray[np.int64]
    """The code of the producer."""
    seq: NDArray[np.int64]
    log_time: NDArray[np.int64]
    """The log time, in nanoseconds since the epoch."""
    timeless: NDArray[np.bool_]
    failed: NDArray[np.bool_]
    """True for an error row."""

    @staticmethod
    def of(tables: Mapping[str, pa.Table], *, refresh: int, entities: Codes, producers: Codes) -> RowBatch:
        """Make a batch of segments, by name, first met at `refresh`; new entities and producers get codes."""
        counts = [len(table) for table in tables.values()]
        table = pa.concat_tables(tables.values()).combine_chunks()
        group = Codes(GROUPS).of(table["kind"])
        group[(group == GROUPS["clear"]) & _flags(table["recursive"])] = GROUPS["clear_recursive"]
        group[group >= len(GROUPS)] = -1
        return RowBatch(
            table=table,
            segments=tuple(tables),
            segment=np.repeat(np.arange(len(counts)), counts),
            frame=np.concatenate([np.zeros(0, np.int64), *(np.arange(count) for count in counts)]),
            since=np.full(len(table), refresh),
            entity=entities.of(table["entity_path"]),
            group=group,
            producer=producers.of(table["producer"]),
            seq=_integers(table["seq"]),
            log_time=_integers(table["log_time"]),
            timeless=_flags(table["timeless"]),
            failed=_flags(table["error"].is_valid()),
        )

    def timeline(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows that are on a timeline, and their times on it."""
        if name in ("log_time", "log_tick"):
            rows = np.flatnonzero(~self.timeless)
            return rows, _integers(self.table[name])[rows]
        parts = [self._map_entries(column, name) for column in ("sequences", "times")]
        rows, values = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        on = ~self.timeless[rows]
        return rows[on], values[on]

    def timeline_names(self) -> dict[str, str]:
        """Return the users' timelines in these rows, each with its kind, "sequence" or "time"."""
        names = {}
        for column, kind in (("times", "time"), ("sequences", "sequence")):
            for chunk in self.table[column].chunks:
                names.update(dict.fromkeys(chunk.keys.unique().to_pylist(), kind))
        return names

    def _map_entries(self, column: str, name: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        first, rows, values = 0, [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for chunk in self.table[column].chunks:
            offsets = numbers_of(chunk.offsets)
            here = slice(offsets[0], offsets[-1])
            found = numbers_of(pc.equal(chunk.keys[here], array_of([name], pa.string())[0]))
            rows.append(first + np.repeat(np.arange(len(chunk)), np.diff(offsets))[found])
            values.append(numbers_of(chunk.items[here].cast(pa.int64()))[found])
            first += len(chunk)
        return np.concatenate(rows), np.concatenate(values)


def _integers(column: pa.ChunkedArray) -> NDArray[np.int64]:
    values: NDArray[np.int64] = numbers_of(column.cast(pa.int64()), null=0)
    return values


def _flags(column: pa.ChunkedArray) -> NDArray[np.bool_]:
    values: NDArray[np.bool_] = numbers_of(column, null=False)
    return values


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """The rows that count at one moment: those of visible segments, one of each key.

    Arrays have one entry a row, in log order: sorted by (log_time, producer, seq), so that of two rows with the same
    time the one with the higher number wins.
    """

    batches: tuple[RowBatch, ...] = ()
    batch: NDArray[np.int64]
    """The index of the row's batch in `batches`."""
    row: NDArray[np.int64]
    """The number of the row in its batch."""
    since: NDArray[np.int64]
    """The number of the refresh that first met the row's key."""
    entities: Mapping[str, int]
    """The code of each entity path."""
    producers: Mapping[bytes, int]
    """The code of each producer."""

    @staticmethod
    def none() -> Rows:
        """Return no rows."""
        empty = np.zeros(0, np.int64)
        return Rows(batch=empty, row=empty, since=empty, entities={}, producers={})

    @staticmethod
    def of(batches: Sequence[RowBatch], hidden: Collection[str], entities: Codes, producers: Codes) -> Rows:
        """Choose the rows that count among all of `batches`.

        Rows of the segments `hidden` do not count; of several rows with one key (producer, seq) that in the segment of
        the lowest name counts. Where a key was met earlier than its row, `since` of the row's batch is set back.
        """
        names = sorted({name for batch in batches for name in batch.segments})
        ordinal = {name: i for i, name in enumerate(names)}
        of_batch = [np.array([ordinal[name] for name in batch.segments], np.int64) for batch in batches]
        is_hidden = np.array([name in hidden for name in names], np.bool_)

        segment = _concatenated([numbers[each.segment] for numbers, each in zip(of_batch, batches, strict=True)])
        batch = np.repeat(np.arange(len(batches)), [len(each.seq) for each in batches])
        row = _concatenated([np.arange(len(each.seq)) for each in batches])
        since = _concatenated([each.since for each in batches])
        seq = _concatenated([each.seq for each in batches])
        rank = _ranks(producers)
        producer = rank[_concatenated([each.producer for each in batches])]
        log_time = _concatenated([each.log_time for each in batches])

        invisible = is_hidden[segment]
        order = np.lexsort((segment, invisible, seq, producer))
        changes = (np.diff(seq[order]) != 0) | (np.diff(producer[order]) != 0)
        starts = np.flatnonzero(np.concatenate([np.ones(min(len(order), 1), np.bool_), changes]))
        first_met = np.minimum.reduceat(since[order], starts) if len(starts) else since
        kept = ~invisible[order[starts]]
        chosen, first_met = order[starts[kept]], first_met[kept]
        by_log = np.lexsort((seq[chosen], producer[chosen], log_time[chosen]))
        chosen = chosen[by_log]

        first_met = first_met[by_log]
        earlier = first_met < since[chosen]
        for i in np.unique(batch[chosen[earlier]]).tolist():
            here = earlier & (batch[chosen] == i)
            batches[i].since[row[chosen[here]]] = first_met[here]

        live = np.bincount(batch[chosen], minlength=len(batches)) > 0
        renumbered = np.cumsum(live) - 1
        return Rows(
            batches=tuple(each for each, used in zip(batches, live, strict=True) if used),
            batch=renumbered[batch[chosen]],
            row=row[chosen],
            since=first_met,
            entities=entities,
            producers=producers,
        )

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.row)

    def column(self, of: Callable[[RowBatch], NDArray[Any]]) -> NDArray[Any]:
        """Return one column of the batches, which `of` takes from each of them, for all rows: (n,)."""
        return _concatenated([of(batch) for batch in self.batches])[self._positions]

    @property
    def entity(self) -> NDArray[np.int64]:
        """(n,): the code of each row's entity path."""
        return self.column(lambda batch: batch.entity)

    @property
    def group(self) -> NDArray[np.int64]:
        """(n,): one of GROUPS, or -1 for a kind that this version does not know."""
        return self.column(lambda batch: batch.group)

    @property
    def shown(self) -> NDArray[np.bool_]:
        """(n,): true for frames, false for gaps."""
        shown: NDArray[np.bool_] = self.group != GROUPS["gap"]
        return shown

    def timeline(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows that are on a timeline, and their times on it."""
        number = np.full(sum(len(batch.seq) for batch in self.batches), -1, np.int64)
        number[self._positions] = np.arange(len(self))
        parts = [batch.timeline(name) for batch in self.batches]
        rows = number[_concatenated([start + rows for start, (rows, _) in zip(self._starts, parts, strict=True)])]
        return rows[rows >= 0], _concatenated([values for _, values in parts])[rows >= 0]

    @cached_property
    def timeline_names(self) -> dict[str, str]:
        """The kind of each timeline, "sequence" or "time", by its name."""
        names = {"log_time": "time", "log_tick": "sequence"}
        for batch in self.batches:
            names.update(batch.timeline_names())
        return names

    @cached_property
    def timeless(self) -> bool:
        """True where no row is on a timeline."""
        return bool(self.column(lambda batch: batch.timeless).all())

    def table(self) -> pa.Table:
        """Return all rows as they are stored, in log order."""
        if not self.batches:
            return table_of([], FRAMES)
        return pa.concat_tables([batch.table for batch in self.batches]).take(array_of_numbers(self._positions))

    def compacted(self) -> Rows:
        """Return the same rows in one batch."""
        names = [name for batch in self.batches for name in batch.segments]
        firsts = np.cumsum([0, *(len(batch.segments) for batch in self.batches)])
        used, segment = np.unique(firsts[self.batch] + self.column(lambda batch: batch.segment), return_inverse=True)
        batch = RowBatch(
            table=self.table().combine_chunks(),
            segments=tuple(names[i] for i in used.tolist()),
            segment=segment,
            frame=self.column(lambda batch: batch.frame),
            since=self.since.copy(),
            entity=self.entity,
            group=self.group,
            producer=self.column(lambda batch: batch.producer),
            seq=self.column(lambda batch: batch.seq),
            log_time=self.column(lambda batch: batch.log_time),
            timeless=self.column(lambda batch: batch.timeless),
            failed=self.column(lambda batch: batch.failed),
        )
        return replace(self, batches=(batch,), batch=np.zeros_like(self.row), row=np.arange(len(self)))

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        """The position of each batch's first row among all rows of all batches."""
        return np.concatenate([[0], np.cumsum([len(batch.seq) for batch in self.batches])])[:-1].astype(np.int64)

    @cached_property
    def _positions(self) -> NDArray[np.int64]:
        """The position of each row among all rows of all batches."""
        return self._starts[self.batch] + self.row if self.batches else self.row


def _ranks(codes: Mapping[bytes, int]) -> NDArray[np.int64]:
    """Return, for each code, the rank of its value in ascending order."""
    ranks = np.zeros(len(codes), np.int64)
    ranks[[codes[value] for value in sorted(codes)]] = np.arange(len(codes))
    return ranks


def _concatenated(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate(arrays) if arrays else np.zeros(0, np.int64)
