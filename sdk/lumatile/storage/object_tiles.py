"""Reading the tiles object of a segment by ranges: first the layout, then only the bytes that are wanted."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lumatile.errors import CorruptStoreError
from lumatile.format.arrow_layout import END_BYTES, BatchLayout, LayoutError, footer_size, read_footer, read_head
from lumatile.format.schema import TILES
from lumatile.format.tile_rows import TileRows
from lumatile.format.tiles_reader import RowsOfFrame, read_batch, read_columns
from lumatile.storage.object_client import ObjectClient

TAIL_BYTES = 64 << 10
"""The size of the end of an object, which is fetched first and kept: the footer, and all of a small object."""

HEAD_BYTES = 8 << 10
"""The size of the beginning of an object, which holds its schema."""

AHEAD_BYTES = 8 << 20
"""The least that is fetched at once where all batches are read in order."""

PROBES = 16
"""The number of batches that one round of a search for a frame looks at."""

Range = tuple[int, int]
"""A range of bytes of the object: start, stop."""


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
        self._known: dict[int, tuple[int, RowsOfFrame]] = {}
        """The batches that searches have looked at, each with its frame and rows."""
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

    def batch(self, i: int) -> tuple[int, TileRows, NDArray[np.uint32]]:
        """Read record batch `i` with its payload, and fetch the next ones too: for callers that read all in order."""
        start, stop = self._block(i)
        begin, data = self._ahead
        if not (begin <= start and stop <= begin + len(data)):
            begin = start
            (data,) = self._fetch([(start, min(max(stop, start + AHEAD_BYTES), self._size))])
            self._ahead = begin, data
        try:
            message = pa.ipc.read_message(pa.py_buffer(data[start - begin : stop - begin]))
            batch = pa.ipc.read_record_batch(message, TILES)
        except (pa.ArrowException, OSError, ValueError) as e:
            raise self._corrupt(i, e) from e
        return read_batch(batch, f"{self.path}: record batch {i}")

    def rows_of_frame(self, frame: int) -> Iterator[RowsOfFrame]:
        """Yield the record batches of frame row `frame`, found by a search: they are in the order of their frames."""
        low, high = 0, len(self)
        while high - low > PROBES:
            probes = [low + (high - low) * n // PROBES for n in range(PROBES)]
            frames = [found for found, _ in self._rows(probes)]
            low = max([low, *(i + 1 for i, found in zip(probes, frames, strict=True) if found < frame)])
            high = min([high, *(i for i, found in zip(probes, frames, strict=True) if found >= frame)])
        while low < len(self):
            some = range(low, min(low + PROBES, len(self)))
            for found, rows in self._rows(some):
                if found > frame:
                    return
                if found == frame:
                    yield rows
            low = some.stop

    def payloads(self, where: Sequence[Range]) -> list[NDArray[np.uint8]]:
        """Fetch the stored bytes of rows, several at once."""
        return [np.frombuffer(part, np.uint8) for part in self._fetch(where)]

    def _rows(self, batches: Sequence[int]) -> list[tuple[int, RowsOfFrame]]:
        """Read frame and rows of batches without their payload: two rounds of requests, one for small objects."""
        with self._lock:
            return self._look(batches)

    def _look(self, batches: Sequence[int]) -> list[tuple[int, RowsOfFrame]]:
        new = [i for i in batches if i not in self._known]
        heads: list[BatchLayout] = []
        blocks = [self._block(i) for i in new]
        messages = [(start, start + int(self._blocks[i]["head"])) for i, (start, _) in zip(new, blocks, strict=True)]
        for i, message in zip(new, self._fetch(messages), strict=True):
            try:
                heads.append(read_head(message))
            except LayoutError as e:
                raise self._corrupt(i, e) from e
        bounds = [
            self._bounds(i, head, (start, stop))
            for i, head, (_, start), (_, stop) in zip(new, heads, messages, blocks, strict=True)
        ]
        parts = iter(self._fetch([part for two in bounds for part in two]))
        for i, head, two in zip(new, heads, bounds, strict=True):
            self._known[i] = self._parse(i, head, next(parts), next(parts), two)
        found = [self._known[i] for i in batches]
        while len(self._known) > 16 * PROBES:
            del self._known[next(iter(self._known))]
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
    ) -> tuple[int, RowsOfFrame]:
        """Make frame and rows of a batch.

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
        frame, fields, checksums = read_columns(batch, f"{self.path}: record batch {i}")
        low = int(bounds_of_rows[0])
        rows = TileRows(**fields, offsets=bounds_of_rows - low, payload=np.zeros(0, np.uint8))
        start = body + int(data["offset"])
        return frame, (rows, checksums, [(start + a, start + b) for a, b in pairwise(bounds_of_rows.tolist())])

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
