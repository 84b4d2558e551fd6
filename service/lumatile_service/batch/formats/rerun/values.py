"""The values of one recording in a .rrd file, as its entities show them, row by row."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lumatile.log.timelines import TimelineKind
from lumatile_service.batch.formats.rerun.archetypes import ARCHETYPES, COMPONENTS, SILENT
from lumatile_service.batch.formats.rerun.file import BrokenRrdError, RrdChunk, RrdFile, RrdRecording
from lumatile_service.batch.formats.rerun.rows import ABSENT, ROW_ID, RrdRows, Shown, shown, without_repeats

CACHE_BYTES = 128 << 20
"""The size of the chunks that are kept, since values of other chunks may have a part in them, in bytes."""

PROPERTIES = "/__properties"
"""The entity at which Rerun keeps properties of a recording, its name for example."""

LEADS = sum(1 << COMPONENTS[f"{name}:{archetype.parts[0]}"] for name, archetype in ARCHETYPES.items())
"""The bits of all components without which there is nothing to see."""

CLEAR = 1 << COMPONENTS["Clear:is_recursive"]


@dataclass(frozen=True, kw_only=True)
class RrdValue:
    """The value that an entity shows at a row."""

    archetype: str
    """A name in ARCHETYPES."""
    entity_path: str
    """The path as Rerun writes it."""
    parts: Mapping[str, pa.Array]
    """Component -> its instances; components without any are absent."""
    row_id: str
    """32 hexadecimal digits."""
    logged: int
    """The time of logging in nanoseconds since the epoch: log_time, or the time in the row id."""
    sequences: Mapping[str, int]
    times: Mapping[str, int]
    static: bool


class RrdValues:
    """The values of a recording. The file is read twice: first the places of all rows, then their content.

    The places of the rows, about 100 bytes each, and CACHE_BYTES of chunks are kept in memory.
    """

    def __init__(self, file: RrdFile, recording: RrdRecording) -> None:
        """Read the places of all rows."""
        self._file = file
        self._recording = recording
        self._kinds: dict[str, TimelineKind] = {}
        self._chunks: list[tuple[str, str]] = []
        """(chunk id, entity path) by number."""
        self._parts: defaultdict[str, list[RrdRows]] = defaultdict(list)
        self._clears: defaultdict[tuple[str, bool], list[RrdRows]] = defaultdict(list)
        self._cache: OrderedDict[int, pa.RecordBatch] = OrderedDict()
        self._cached_bytes = 0
        self.left_out: Counter[str] = Counter()
        """Archetype or component that cannot be logged -> number of rows that have it."""
        self.failure: BrokenRrdError | None = None
        """The error for which not all of the file can be read; None: there is none."""
        try:
            for chunk in file.chunks(recording):
                self._look(chunk)
        except BrokenRrdError as e:
            self.failure = e

    def __iter__(self) -> Iterator[RrdValue]:
        """Yield annotation contexts first, then the other values approximately in the order of the file."""
        contexts, others = self._places
        for number in contexts:
            yield from self._values(contexts[number])
        numbers = {chunk_id: number for number, (chunk_id, _) in enumerate(self._chunks)}
        try:
            for chunk in self._file.chunks(self._recording):
                number = numbers.get(chunk.id, -1)
                if number in others:
                    self._keep(number, chunk.rows)
                    yield from self._values(others[number])
        except BrokenRrdError as e:
            self.failure = e

    # the places of rows

    def _look(self, chunk: RrdChunk) -> None:
        ids, times = None, {}
        components, filled = np.zeros((2, chunk.rows.num_rows), np.int64)
        beside: Counter[str] = Counter()
        recursive = None
        for field, column in zip(chunk.rows.schema, chunk.rows.columns, strict=True):
            said = field.metadata or {}
            if said.get(b"rerun:kind") == b"index":
                name = self._timeline(said[b"rerun:index_name"].decode(), field.type)
                times[name] = column.cast(pa.int64()).fill_null(ABSENT).to_numpy()
            elif said.get(b"rerun:kind") == b"control":
                ids = _row_ids(column)
            elif (component := said.get(b"rerun:component", b"").decode()) in COMPONENTS:
                bit = COMPONENTS[component]
                components |= column.is_valid().to_numpy(zero_copy_only=False).astype(np.int64) << bit
                filled |= _filled(column).astype(np.int64) << bit
                recursive = column if component == "Clear:is_recursive" else recursive
            elif component not in SILENT and chunk.entity_path != PROPERTIES:
                archetype = component.partition(":")[0]
                name = component if archetype in ARCHETYPES else archetype
                beside[name] = max(beside[name], int(_filled(column).sum()))
        self.left_out += beside
        if ids is None or not components.any():
            return
        rows = RrdRows(
            ids=ids,
            chunk=np.full(len(ids), len(self._chunks)),
            place=np.arange(len(ids)),
            components=components,
            filled=filled,
            static=np.full(len(ids), chunk.is_static),
            times=times,
        )
        if recursive is not None:
            if chunk.is_static:
                self.left_out["Clear, static"] += len(recursive) - recursive.null_count
                rows = rows.taken(components & ~CLEAR != 0)
            else:
                self._look_at_clears(chunk.entity_path, rows, recursive)
        self._chunks.append((chunk.id, chunk.entity_path))
        if len(rows.ids):
            self._parts[chunk.entity_path].append(rows)

    def _look_at_clears(self, entity_path: str, rows: RrdRows, recursive: pa.Array) -> None:
        flags = np.array([bool(value and value[0]) for value in recursive.to_pylist()])
        clears = rows.components & CLEAR != 0
        for deep in (False, True):
            self._clears[entity_path, deep].append(rows.taken(clears & (flags == deep)))

    def _timeline(self, name: str, kind: pa.DataType) -> str:
        """Return the name of a timeline here; two timelines of one name and different kinds get two names."""
        is_a: TimelineKind = "sequence" if pa.types.is_integer(kind) else "time"
        if self._kinds.setdefault(name, is_a) != is_a:
            name = f"{name} ({is_a})"
            self._kinds[name] = is_a
        return name

    @cached_property
    def _places(self) -> tuple[dict[int, list[_Place]], dict[int, list[_Place]]]:
        """Number of a chunk -> the values that are made when it is read: contexts, and all others."""
        contexts: defaultdict[int, list[_Place]] = defaultdict(list)
        others: defaultdict[int, list[_Place]] = defaultdict(list)
        for entity_path, parts in self._parts.items():
            rows = RrdRows.joined(parts)
            clears = self._clears_of(entity_path)
            for name, archetype in ARCHETYPES.items():
                bits = [COMPONENTS[f"{name}:{part}"] for part in archetype.parts]
                if not (rows.components & sum(1 << bit for bit in bits)).any():
                    continue
                found = shown(rows, bits, clears)
                without = found.parts[:, 0] < 0
                if without.any():
                    self.left_out[f"{name} without {archetype.parts[0]}"] += int(without.sum())
                found = without_repeats(rows, found.taken(~without & _is_seen(rows, found, bits[0])))
                if not len(found.row):
                    continue
                to = contexts if name == "AnnotationContext" else others
                lead = found.parts[:, 0]
                homes = rows.chunk[np.where(rows.ids[lead] == rows.ids[found.row], lead, found.row)]
                order = np.argsort(homes, kind="stable")
                starts = np.flatnonzero(np.diff(homes[order], prepend=-1))
                for home, values in zip(homes[order][starts].tolist(), np.split(order, starts[1:]), strict=True):
                    to[home].append(_Place(name, entity_path, rows, found, values))
        return contexts, others

    def _clears_of(self, entity_path: str) -> RrdRows | None:
        """Return the rows that clear an entity: its own clears, and recursive ones above it."""
        found = [
            rows
            for (path, deep), clears in self._clears.items()
            for rows in clears
            if path == entity_path or (deep and entity_path.startswith(path.rstrip("/") + "/"))
        ]
        return RrdRows.joined(found) if found else None

    # their content

    def _values(self, places: list[_Place]) -> Iterator[RrdValue]:
        for place in places:
            for value in place.values.tolist():
                yield self._value(place, value)

    def _value(self, place: _Place, value: int) -> RrdValue:
        rows, row = place.rows, int(place.found.row[value])
        parts = {}
        for part, at in zip(ARCHETYPES[place.name].parts, place.found.parts[value].tolist(), strict=True):
            if at >= 0:
                column = _component(self._chunk(int(rows.chunk[at])), f"{place.name}:{part}")
                parts[part] = column[int(rows.place[at])].values
        on = {name: int(times[row]) for name, times in rows.times.items() if times[row] != ABSENT}
        log_time = on.pop("log_time", int(rows.ids["time"][row]))
        on.pop("log_tick", None)
        return RrdValue(
            archetype=place.name,
            entity_path=place.entity_path,
            parts=parts,
            row_id=f"{rows.ids['time'][row]:016X}{rows.ids['counter'][row]:016X}",
            logged=log_time,
            sequences={name: at for name, at in on.items() if self._kinds[name] == "sequence"},
            times={name: at for name, at in on.items() if self._kinds[name] == "time"},
            static=bool(rows.static[row]),
        )

    def _chunk(self, number: int) -> pa.RecordBatch:
        if number in self._cache:
            self._cache.move_to_end(number)
            return self._cache[number]
        chunk_id, entity_path = self._chunks[number]
        for only in (entity_path, None):
            for chunk in self._file.chunks(self._recording, entity_path=only):
                if chunk.id == chunk_id:
                    return self._keep(number, chunk.rows)
        raise BrokenRrdError(f"the chunk {chunk_id} has disappeared")

    def _keep(self, number: int, rows: pa.RecordBatch) -> pa.RecordBatch:
        if number not in self._cache:
            self._cache[number] = rows
            self._cached_bytes += rows.nbytes
        self._cache.move_to_end(number)
        while len(self._cache) > 1 and self._cached_bytes > CACHE_BYTES:
            self._cached_bytes -= self._cache.popitem(last=False)[1].nbytes
        return rows


@dataclass(frozen=True, eq=False)
class _Place:
    """The values of one archetype at one entity, in one chunk."""

    name: str
    entity_path: str
    rows: RrdRows
    """All rows of the entity."""
    found: Shown
    """All values of the archetype."""
    values: NDArray[np.int64]
    """The numbers of the values in `found`."""


def _is_seen(rows: RrdRows, found: Shown, bit: int) -> NDArray[np.bool_]:
    """Return the values that show something, or that end something: a row that clears, and shows nothing instead."""
    lead = found.parts[:, 0]
    filled = rows.filled[lead]
    seen: NDArray[np.bool_] = (filled >> bit & 1 != 0) | ((lead == found.row) & (filled & LEADS == 0))
    return seen


def _filled(column: pa.Array) -> NDArray[np.bool_]:
    """Return (n,): True where there are instances."""
    filled: NDArray[np.bool_] = np.asarray(pc.list_value_length(column).fill_null(0)) > 0
    return filled


def _row_ids(column: pa.Array) -> NDArray[np.void]:
    """Return (n,) ROW_ID from n fixed-size binaries of 16 bytes."""
    content = column.buffers()[1]
    return np.frombuffer(content, ROW_ID, len(column), column.offset * ROW_ID.itemsize).copy()


def _component(rows: pa.RecordBatch, name: str) -> pa.Array:
    for field, column in zip(rows.schema, rows.columns, strict=True):
        if (field.metadata or {}).get(b"rerun:component") == name.encode():
            return column
    raise BrokenRrdError(f"a chunk has lost its {name}")
