"""Where a dataset's values lie: in which part of which file, and at which times."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lumatile.entity_paths import normalise_entity_path
from lumatile.errors import LumatileError
from lumatile.read.recording_reader import RecordingReader
from lumatile.storage.open_storage import open_storage
from lumatile_service.batch.log_call import LogCall

BATCH_ROWS = 1 << 16
"""The number of rows that are converted to Python objects at a time."""

COLUMNS = ["entity_path", "kind", "provenance", "sequences", "times", "error", "producer", "seq"]

Times = tuple[tuple[str, int], ...]


@dataclass(frozen=True, kw_only=True)
class SourcePlace:
    """Where one value comes from and where it is logged."""

    entity_path: str
    kind: str
    uri: str
    member: str | None
    times: Times
    """The names of its timelines, sorted, and its time on each; empty: it has none."""

    @classmethod
    def of(cls, call: LogCall) -> SourcePlace:
        """Return the place of a call."""
        return cls(
            entity_path=_stored_path(call.entity_path),
            kind=call.kind,
            uri=call.uri,
            member=call.member,
            times=_times(call.sequences, call.times),
        )

    @property
    def part(self) -> bytes:
        """A digest of the part of the file and of the entity."""
        return digest(self.entity_path, self.kind, self.uri, self.member)

    @property
    def at_any_times(self) -> bytes:
        """A digest of the same, for a reader that gives no times: a function that logs may set them itself."""
        return digest("any times", self.part)

    @property
    def exact(self) -> bytes:
        """A digest of the part, the entity and the times."""
        return digest("times", self.part, self.times)

    @property
    def wanted(self) -> bytes:
        """The digest by which a reader's place is compared with those of rows."""
        return self.exact if self.times else self.at_any_times


@dataclass(frozen=True, kw_only=True)
class StoredRow:
    """A row of a recording that has provenance."""

    place: SourcePlace
    content_hash: str | None
    error: str | None
    key: tuple[bytes, int]


def stored_rows(store: str | PathLike[str], recording_id: str) -> Iterator[StoredRow]:
    """Yield the rows of a recording that have provenance, in log order; none if it does not exist.

    Raises StoreError, OSError.
    """
    storage = open_storage(store).recording(recording_id)
    if not storage.exists():
        return
    table = RecordingReader(storage, recording_id).frames_table()
    table = table.filter(pc.is_valid(table["provenance"])).select(COLUMNS)
    as_numbers = pa.map_(pa.string(), pa.int64())
    at = table.schema.get_field_index("times")
    table = table.set_column(at, "times", table["times"].cast(as_numbers))
    for batch in table.to_batches(BATCH_ROWS):
        columns: Sequence[list[Any]] = [column.to_pylist() for column in batch.columns]
        for entity_path, kind, provenance, sequences, times, error, producer, seq in zip(*columns, strict=True):
            yield StoredRow(
                place=SourcePlace(
                    entity_path=entity_path,
                    kind=kind,
                    uri=provenance["uri"],
                    member=provenance["member"],
                    times=_times(dict(sequences or ()), dict(times or ())),
                ),
                content_hash=provenance["content_hash"],
                error=error,
                key=(producer, seq),
            )


def _stored_path(path: str) -> str:
    """Return an entity path as it is stored; "" is the root, where the error row of a path that is not allowed is."""
    try:
        return normalise_entity_path(path, root=True)
    except LumatileError:
        return ""


def digest(*parts: object) -> bytes:
    """Return the BLAKE2b hash of 128 bits of `parts`, whose `repr` tells them apart."""
    return hashlib.blake2b(repr(parts).encode(errors="surrogatepass"), digest_size=16).digest()


def _times(sequences: Mapping[str, int], times: Mapping[str, int]) -> Times:
    return tuple(sorted((name, int(at)) for names in (sequences, times) for name, at in names.items()))
