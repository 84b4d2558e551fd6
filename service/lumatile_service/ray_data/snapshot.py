"""The frames of a recording at one moment, cut into parts that are read on different machines, without Ray."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from os import PathLike
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lumatile.entity_paths import normalise_entity_path
from lumatile.errors import InvalidValueError, NotFoundError, StoreError
from lumatile.format.segment_names import frames_files
from lumatile.read.frame import Frame
from lumatile.read.recording_reader import RecordingReader
from lumatile.reading import open_store
from lumatile.storage.open_storage import open_storage
from lumatile.urls import absolute
from lumatile.values import Kind

KINDS = tuple(kind for kind in get_args(Kind) if kind != "gap")


def names_of(given: str | Iterable[str] | None) -> tuple[str, ...] | None:
    """Return one name or several as a tuple; None stays None."""
    return (given,) if isinstance(given, str) else None if given is None else tuple(given)


def frames_of(recording: RecordingReader, paths: Iterable[str]) -> Iterator[Frame]:
    """Yield the frames of entities, one entity after another, each in log order; the path "" is the root."""
    for path in paths:
        yield from recording.frames(path)


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """Some of the frames of a recording. It can be pickled."""

    store: str
    recording_id: str
    files: tuple[str, ...]
    """The names of the frames files that they were found in."""
    keys: tuple[tuple[bytes, int], ...]
    """The key of each frame: (producer, seq)."""

    def read(self) -> tuple[pa.Table, list[Frame]]:
        """Return the rows as they are stored (schema FRAMES), and the frames, which verify checksums; in log order.

        Only the segments of the frames are read; if they have been merged in the meantime, the others too.
        Raises StoreError if a frame was removed, OSError.
        """
        storage = open_storage(self.store).recording(self.recording_id)
        recording = RecordingReader(storage, self.recording_id, first=frames_files(self.files))
        found = self._find(recording)
        if len(found) < len(self.keys):
            recording.refresh()
            found = self._find(recording)
        if len(found) < len(self.keys):
            raise StoreError(f"{storage}: {len(self.keys) - len(found)} frames were removed while they were to be read")
        table = recording.frames_table()
        rows = [i for i, key in enumerate(_keys(table)) if key in found]
        table = table.take(pa.array(rows, pa.int64())).combine_chunks()
        return table, [found[key].checked() for key in _keys(table)]

    def _find(self, recording: RecordingReader) -> dict[tuple[bytes, int], Frame]:
        wanted = set(self.keys)
        return {frame.key: frame for frame in frames_of(recording, recording.entities()) if frame.key in wanted}


class Snapshot:
    """The frames of a recording that are committed when this is made, without those a reader hides and without gaps."""

    def __init__(
        self,
        store: str | PathLike[str],
        recording_id: str,
        *,
        entities: str | Iterable[str] | None = None,
        kinds: str | Iterable[str] | None = None,
    ) -> None:
        """Find the frames. `entities`, `kinds`: only frames of these; None: all.

        Raises NotFoundError for a recording or entity that does not exist, InvalidValueError for an unknown kind,
        StoreError.
        """
        self._store = absolute(store)
        self._recording_id = recording_id
        opened = open_store(store)
        recording = opened.recording(recording_id)
        paths = _known(recording, names_of(entities))
        wanted = names_of(kinds)
        if unknown := sorted(set(wanted or ()) - set(KINDS)):
            raise InvalidValueError(f"kinds must be among {KINDS}, not {unknown}")
        table = recording.frames_table()
        table = table.filter(pc.not_equal(table["kind"], "gap"))
        frames, rows = _frames_and_rows(recording, table, paths)
        if wanted is not None:
            of_kind = pc.is_in(table["kind"], pa.array(wanted)).to_numpy(zero_copy_only=False)[rows]
            frames, rows = [f for f, keep in zip(frames, of_kind, strict=True) if keep], rows[of_kind]
        segments = [frame.segment for frame in frames]
        order = np.array(sorted(range(len(frames)), key=lambda i: (segments[i], frames[i].segment_row)), np.int64)
        self.table: pa.Table = table.take(pa.array(rows[order])).combine_chunks()
        """The rows (schema FRAMES), sorted by segment and row."""
        self._segments = [segments[i] for i in order.tolist()]
        storage = opened.storage.recording(recording_id)
        self._files = {file.segment: file for file in storage.committed()}
        files = [self._files[segment] for segment in dict.fromkeys(self._segments) if segment in self._files]
        self.nbytes = storage.nbytes(files)
        """The size of the segments that hold the frames, in bytes, including their other frames."""

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._segments)

    def parts(self, count: int, weights: NDArray[Any]) -> list[tuple[Part, slice]]:
        """Return at most `count` parts of approximately equal weight, none empty, and their rows in `table`.

        `weights`: (n,), the weight of each frame; not negative.
        """
        ends = np.cumsum(np.asarray(weights, np.float64) + 1.0)
        if not len(ends):
            return []
        places = np.searchsorted(ends, np.linspace(0, ends[-1], count + 1)[1:-1], side="left") + 1
        cuts = np.unique(np.concatenate([[0], np.minimum(places, len(ends)), [len(ends)]])).tolist()
        keys = _keys(self.table)
        return [
            (
                Part(
                    store=self._store,
                    recording_id=self._recording_id,
                    files=tuple(
                        self._files[name].name
                        for name in dict.fromkeys(self._segments[first:last])
                        if name in self._files
                    ),
                    keys=tuple(keys[first:last]),
                ),
                slice(first, last),
            )
            for first, last in pairwise(cuts)
        ]


def _keys(table: pa.Table) -> list[tuple[bytes, int]]:
    return list(zip(table["producer"].to_pylist(), table["seq"].to_pylist(), strict=True))


def _known(recording: RecordingReader, paths: tuple[str, ...] | None) -> list[str]:
    """Return the requested entity paths, each once; None: all."""
    known = recording.entities()
    if paths is None:
        return known
    asked = list(dict.fromkeys(normalise_entity_path(path, root=True) for path in paths))
    if missing := [path for path in asked if path not in known]:
        raise NotFoundError(f"entities must be of the recording, and {missing} are not; it has {known}")
    return asked


def _frames_and_rows(
    recording: RecordingReader, table: pa.Table, paths: list[str]
) -> tuple[list[Frame], NDArray[np.int64]]:
    """Return the frames of entities, and the row of each in `table`, which has all rows in log order."""
    codes = table["entity_path"].combine_chunks().dictionary_encode()
    code_of = {path: code for code, path in enumerate(codes.dictionary.to_pylist())}
    of_row = codes.indices.to_numpy(zero_copy_only=False)
    rows = [np.flatnonzero(of_row == code_of[path]) for path in paths]
    return list(frames_of(recording, paths)), np.concatenate([np.zeros(0, np.int64), *rows])
