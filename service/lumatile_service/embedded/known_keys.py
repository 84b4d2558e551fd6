"""The keys of the values that a recording has in the store, whichever process wrote them: none is stored twice."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lumatile.errors import CorruptStoreError, StoreFormatError
from lumatile.format.arrow_arrays import numbers_of
from lumatile.format.segment_names import FramesFile
from lumatile.storage.recording_storage import RecordingStorage

log = logging.getLogger(__name__)

READERS = 16
"""The number of segments that are read at the same time: in a bucket each costs a round trip."""


class Spans:
    """A set of integers, as ranges that neither overlap nor touch."""

    def __init__(self) -> None:
        """Begin with the empty set."""
        self._first: list[int] = []
        self._last: list[int] = []

    def __contains__(self, number: int) -> bool:
        i = bisect_right(self._first, number) - 1
        return i >= 0 and number <= self._last[i]

    def add(self, first: int, last: int) -> None:
        """Add the integers `first` ... `last`."""
        low = bisect_right(self._last, first - 2)  # ranges before it end below first - 1
        high = bisect_right(self._first, last + 1)  # ranges from it on begin above last + 1
        if low < high:
            first, last = min(first, self._first[low]), max(last, self._last[high - 1])
        self._first[low:high], self._last[low:high] = [first], [last]

    def ranges(self) -> list[tuple[int, int]]:
        """Return (first, last) of each range, ascending."""
        return list(zip(self._first, self._last, strict=True))


class KnownKeys:
    """The keys, (producer, seq), of the durable values of one recording. For one thread at a time."""

    def __init__(self, storage: RecordingStorage) -> None:
        """Begin with no keys; `refresh` reads them."""
        self._storage = storage
        self._committed = storage.committed  # all: what a slow writer commits may be older than what is known
        self._read: set[str] = set()
        """The names of the segments that have been read."""
        self._spans: defaultdict[bytes, Spans] = defaultdict(Spans)

    def refresh(self) -> None:
        """Read the segments that others have committed since. Raises OSError where the store cannot be read."""
        while new := [file for file in self._committed() if file.segment not in self._read]:
            self._storage.settle()
            vanished = False
            with ThreadPoolExecutor(min(READERS, len(new)), "lumatile-keys") as pool:
                try:
                    read: Iterable[list[tuple[bytes, int, int]] | None] = pool.map(self._keys, new)
                except RuntimeError:  # when the interpreter ends, executors take no more work
                    read = map(self._keys, new)
                for file, keys in zip(new, read, strict=True):
                    vanished = vanished or keys is None
                    for producer, first, last in keys or ():
                        self._spans[producer].add(first, last)
                    self._read.add(file.segment)
            if not vanished:
                return

    def add(self, producer: bytes, first: int, last: int) -> None:
        """Add values that this process has committed."""
        self._spans[producer].add(first, last)

    def holds(self, producer: bytes, seq: int) -> bool:
        """Return whether a value is durable, as far as is known here."""
        return producer in self._spans and seq in self._spans[producer]

    def _keys(self, file: FramesFile) -> list[tuple[bytes, int, int]] | None:
        """Return the ranges (producer, first, last) of the keys in a segment; none where it cannot be read.

        Returns None where the segment has been merged in the meantime: its values are in another one, which may be
        newer than the listing.
        """
        try:
            table = self._storage.read_frames(file).table
        except FileNotFoundError:
            return None
        except (CorruptStoreError, StoreFormatError) as e:
            log.warning("a segment cannot be read, its values may be stored again: %s", e)
            return []
        return _ranges(table)


def _ranges(table: pa.Table) -> list[tuple[bytes, int, int]]:
    """(producer, first, last) of the keys in frames rows, as few as possible."""
    keys: list[tuple[bytes, int, int]] = []
    producers = table["producer"].combine_chunks().dictionary_encode()
    codes = numbers_of(producers.indices)
    first = numbers_of(table["seq"])
    last = numbers_of(pc.coalesce(table["seq_last"], table["seq"]))
    for code, producer in enumerate(producers.dictionary.to_pylist()):
        rows = np.flatnonzero(codes == code)
        rows = rows[np.argsort(first[rows], kind="stable")]
        starts, ends = first[rows], last[rows]
        breaks = np.flatnonzero(starts[1:] > ends[:-1] + 1)
        for a, b in zip([0, *(breaks + 1)], [*breaks, len(rows) - 1], strict=True):
            keys.append((producer, int(starts[a]), int(ends[a : b + 1].max())))
    return keys
