"""Reading the tiles object of a segment by ranges: first the layout, then only the bytes that are wanted."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lumatile.errors import CorruptStoreError
from lumatile.format.arrow_layout import END_BYTES, BatchLayout, LayoutError, footer_size, read_footer, read_head
from lumatile.format.schema import TILES
from lumatile.format.tile_rows import IndexedRows
from lumatile.format.tiles_reader import read_batch, read_columns
from lumatile.storage.object_client import ObjectClient

TAIL_BYTES = 64 << 10
"""The size of the end of an object, which is fetched first and kept: the footer, and all of a small object."""

HEAD_BYTES = 8 << 10
"""The size of the beginning of an object, which holds its schema."""

AHEAD_BYTES = 8 << 20
"""The least that is fetched at once where all batches are read in order."""

PROBES = 16
"""The number of batches that one round of a search for a frame looks at."""

KNOWN_BYTES = 32 << 20
"""The most payload of shared batches that is kept for further searches, in bytes."""

Range = tuple[int, int]
"""A range of bytes of the object: start, stop."""

Where = Range | NDArray[np.uint8]
"""The range of the stored bytes of a row, or the bytes, where they were fetched with their batch."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Batch:
    """The rows of a record batch, without the payload where it is fetched later."""

    frame: NDArray[np.int64]
    index: NDArray[np.void]
    where: Sequence[Where]
    nbytes: int = 0
    """The size of the payload that is kept with them, in bytes."""


class ObjectTiles:
    """A tiles object, a `TilesReader`. A payload is fetched when it is asked for."""

    def __init__(self, client: ObjectClient, key: str) -> None:
        """Fetch its end. Raises FileNotFoundError, OSError, CorruptStoreError where it is not a tiles file."""
        self.path = f"{client.url}/{key}"
        self._client, self._key = client, key
        self._tail, self._size = client.tail(key, TAIL_BYTES)
        self._ahead: tuple[int, memoryview] = 0, memoryview(b"")
        """The last range that `batch` has fetched: its first byte in the object, and the bytes."""
        self._lock = threading.Lock()
        self._known: dict[int, _Batch] = {}
        """The batches that searches have looked at."""
        end = max(0, self._size - END_BYTES)
        try:
            size = footer_size(self._tail[-END_BYTES:])
        except LayoutError as e:
            raise CorruptStoreError(f"{self.path}: {e}") from e
        footer, head = self._fetch([(max(0, end - size), end), (0, min(HEAD_BYTES, end))])
        try:
            self._blocks = read_footer(footer)
            schema = pa.ipc.read_schema(pa.py_buffer(head[8:]))
        except (pa.ArrowException, OSError, ValueError) as e:
            raise CorruptStoreError(f"{self.path}: {e}") from e
        if not schema.equals(TILES):
            raise CorruptStoreError(f"{self.path}: not the columns of a tiles file")

    def __len__(self) -> int:
        """Return the number of its record batches."""
        return len(self._blocks)

    def batch(self, i: int) -> tuple[IndexedRows, bool]:
        """Read record batch `i` with its payload, and fetch the next ones too: for callers that read all in order."""
        start, stop = self._block(i)
        begin, data = self._ahead
        if not (begin <= start and stop <= begin + len(data)):
            begin = start
            (data,) = self._fetch([(start, min(max(stop, start + AHEAD_BYTES), self._size))])
            self._ahead = begin, data
        content = data[start - begin : stop - begin]
        try:
            compressed = read_head(content).compressed
        except LayoutError as e:
            raise self._corrupt(i, e) from e
        return self._whole(i, content), compressed

    def rows_of_frame(self, frame: int) -> Iterator[tuple[NDArray[np.void], Sequence[Where]]]:
        """Yield the rows of frame row `frame`, whose batches are found by a search: they are in order."""
        low, high = 0, len(self)
        while high - low > PROBES:
            probes = [low + (high - low) * n // PROBES for n in range(PROBES)]
            firsts = [int(found.frame[0]) for found in self._rows(probes)]
            low = max([low, *(i for i, first in zip(probes, firsts, strict=True) if first < frame)])
            high = min([high, *(i for i, first in zip(probes, firsts, strict=True) if first >= frame)])
        while low < len(self):
            some = range(low, min(low + PROBES, len(self)))
            for found in self._rows(some):
                if found.frame[0] > frame:
                    return
                here = slice(*np.searchsorted(found.frame, [frame, frame + 1]).tolist())
                if here.start < here.stop:
                    yield found.index[here], found.where[here]
            low = some.stop

    @property
    def payload_reader(self) -> ObjectTiles:
        """This object: it keeps nothing open."""
        return self

    def payloads(self, where: Sequence[Where]) -> list[NDArray[np.uint8]]:
        """Fetch the stored bytes of rows, several at once."""
        fetched = iter(self._fetch([each for each in where if isinstance(each, tuple)]))
        return [np.frombuffer(next(fetched), np.uint8) if isinstance(each, tuple) else each for each in where]

    def _whole(self, i: int, content: memoryview) -> IndexedRows:
        """Parse record batch `i` from all its bytes."""
        try:
            message = pa.ipc.read_message(pa.py_buffer(content))
            batch = pa.ipc.read_record_batch(message, TILES)
        except (pa.ArrowException, OSError, ValueError) as e:
            raise self._corrupt(i, e) from e
        return read_batch(batch, f"{self.path}: record batch {i}")

    def _rows(self, batches: Sequence[int]) -> list[_Batch]:
        """Read the rows of batches without their payload: two rounds of requests, one for small objects."""
        with self._lock:
            return self._look(batches)

    def _look(self, batches: Sequence[int]) -> list[_Batch]:
        new = [i for i in batches if i not in self._known]
        blocks = [self._block(i) for i in new]
        starts = [start + int(self._blocks[i]["head"]) for i, (start, _) in zip(new, blocks, strict=True)]
        heads: list[BatchLayout] = []
        messages = self._fetch([(start, body) for (start, _), body in zip(blocks, starts, strict=True)])
        for i, message in zip(new, messages, strict=True):
            try:
                heads.append(read_head(message))
            except LayoutError as e:
                raise self._corrupt(i, e) from e
        wanted = [
            [block] if head.compressed else list(self._bounds(i, head, (body, block[1])))
            for i, head, body, block in zip(new, heads, starts, blocks, strict=True)
        ]
        parts = iter(self._fetch([part for some in wanted for part in some]))
        for i, head, some in zip(new, heads, wanted, strict=True):
            if head.compressed:
                rows = self._whole(i, next(parts))
                where = [rows.payload[a:b] for a, b in pairwise(rows.offsets.tolist())]
                self._known[i] = _Batch(frame=rows.frame, index=rows.index, where=where, nbytes=rows.payload.nbytes)
            else:
                self._known[i] = self._parse(i, head, next(parts), next(parts), (some[0], some[1]))
        found = [self._known[i] for i in batches]
        held = sum(batch.nbytes for batch in self._known.values())
        while len(self._known) > 16 * PROBES or (held > KNOWN_BYTES and len(self._known) > 1):
            held -= self._known.pop(next(iter(self._known))).nbytes
        return found

    def _bounds(self, i: int, head: BatchLayout, body: Range) -> tuple[Range, Range]:
        """Return the ranges of the payload's offsets, and of all columns but the payload."""
        buffers, (start, stop) = head.buffers, body
        if head.rows <= 0 or len(buffers) != sum(map(len, _columns())) or buffers[1]["size"] < 8 * (head.rows + 1):
            raise self._corrupt(i, "its buffers are not those of a tiles file")
        ends = buffers["offset"] + buffers["size"]
        if (buffers["offset"] < 0).any() or (buffers["size"] < 0).any() or (ends > stop - start).any():
            raise self._corrupt(i, "its buffers lie outside of it")
        offsets = start + int(buffers[1]["offset"])
        rest = start + int(min(buffers["offset"][3:][buffers["size"][3:] > 0], default=stop - start))
        return (offsets, offsets + 8 * (head.rows + 1)), (rest, stop)

    def _parse(
        self, i: int, head: BatchLayout, offsets: memoryview, rest: memoryview, bounds: tuple[Range, Range]
    ) -> _Batch:
        """Make the rows of a batch.

        `offsets`: those of the payload; `rest`: the other columns; `bounds`: the ranges of both in the object.
        """
        columns = _columns()
        body = bounds[0][0] - int(head.buffers[1]["offset"])
        shift = bounds[1][0] - body
        buffers = [
            pa.py_buffer(rest[int(b["offset"]) - shift :][: int(b["size"])]) if b["size"] else None
            for b in head.buffers
        ]
        bounds_of_rows = np.frombuffer(offsets, np.int64)
        data = head.buffers[2]
        if bounds_of_rows[0] < 0 or (np.diff(bounds_of_rows) < 0).any() or bounds_of_rows[-1] > data["size"]:
            raise self._corrupt(i, "the offsets of its payload are out of order or range")
        try:
            arrays = [
                pa.Array.from_buffers(field.type, head.rows, [buffers[n] for n in numbers])
                for field, numbers in zip(list(TILES)[1:], columns[1:], strict=True)
            ]
            batch = pa.RecordBatch.from_arrays(arrays, schema=TILES.remove(0))
        except (pa.ArrowException, ValueError) as e:
            raise self._corrupt(i, e) from e
        frame, index = read_columns(batch, f"{self.path}: record batch {i}")
        index["size"] = np.diff(bounds_of_rows)
        start = body + int(data["offset"])
        where = [(start + a, start + b) for a, b in pairwise(bounds_of_rows.tolist())]
        return _Batch(frame=frame, index=index, where=where)

    def _block(self, i: int) -> Range:
        block = self._blocks[i]
        start, head, body = (int(block[name]) for name in ("offset", "head", "body"))
        if start < 0 or head < 8 or body < 0 or start + head + body > self._size:
            raise self._corrupt(i, "the footer puts it outside of the object")
        return start, start + head + body

    def _fetch(self, ranges: Sequence[Range]) -> list[memoryview]:
        """Fetch ranges of the object; those in its tail are there already. Raises OSError, CorruptStoreError."""
        first = self._size - len(self._tail)
        tail = memoryview(self._tail)
        far = [each for each in ranges if each[0] < first and each[0] < each[1]]
        fetched = dict(zip(far, self._client.ranges(self._key, far) if far else [], strict=True))
        near = [tail[max(0, start - first) : max(0, stop - first)] for start, stop in ranges]
        parts = [fetched.get(each, part) for each, part in zip(ranges, near, strict=True)]
        for (start, stop), part in zip(ranges, parts, strict=True):
            if len(part) != stop - start:
                raise CorruptStoreError(f"{self.path}: bytes {start} to {stop} are not there")
        return parts

    def _corrupt(self, i: int, what: Any) -> CorruptStoreError:
        return CorruptStoreError(f"{self.path}: record batch {i}: {what}")


def _columns() -> list[range]:
    """Return the numbers of the buffers of each column of TILES."""
    found, first = [], 0
    for field in TILES:
        count = 3 if field.type in (pa.large_binary(), pa.string()) else 2
        found.append(range(first, first + count))
        first += count
    return found
