"""The ledger: which values of a dataset are in the store already, as the provenance of its frames rows says."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from os import PathLike
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lumatile.read.recording_reader import RecordingReader
from lumatile.storage.open_storage import open_storage
from lumatile_service.batch.log_call import LogCall

State = Literal["new", "stored", "changed"]

BATCH_ROWS = 1 << 16
"""The number of rows that are converted to Python objects at a time."""


class Ledger:
    """The values of one recording that have provenance, as they were stored when the ledger was made."""

    def __init__(self, store: str | PathLike[str], recording_id: str) -> None:
        """Read the recording; if it does not exist, nothing is stored. Raises StoreError, OSError."""
        places, values = bytearray(), bytearray()
        for entity_path, kind, provenance in _rows(store, recording_id):
            place = (entity_path, kind, provenance["uri"], provenance["member"])
            places += _digest(*place)
            values += _digest(*place, provenance["content_hash"])
        self._places = _Digests(places)
        """The digests of (entity path, kind, URI, member)."""
        self._values = _Digests(values)
        """The digests of (entity path, kind, URI, member, hash)."""

    def state(self, call: LogCall, content_hash: str | None) -> State:
        """Return whether a value is stored; "changed": another value from the same place is stored."""
        stored_path = call.entity_path.removeprefix("/").removesuffix("/")  # the root is "" there
        place = (stored_path, call.kind, call.uri, call.member)
        if _digest(*place, content_hash) in self._values:
            return "stored"
        return "changed" if _digest(*place) in self._places else "new"


def content_hash(content: bytes, beside: bytes = b"") -> str:
    """Return the BLAKE2b hash (RFC 7693) of 128 bits of `content` followed by `beside`, with "blake2b:" in front."""
    digest = hashlib.blake2b(content, digest_size=16)
    digest.update(beside)
    return f"blake2b:{digest.hexdigest()}"


def errors_of(store: str | PathLike[str], recording_id: str) -> list[tuple[str, str]]:
    """Return (URI, reason) of each error row that has provenance."""
    table = _with_provenance(store, recording_id)
    if table is None:
        return []
    table = table.filter(pc.is_valid(table["error"]))
    uris = pc.struct_field(table["provenance"].combine_chunks(), "uri").to_pylist() if len(table) else []
    return list(zip(uris, table["error"].to_pylist(), strict=True))


def _rows(store: str | PathLike[str], recording_id: str) -> Iterator[tuple[str, str, dict[str, str | None]]]:
    table = _with_provenance(store, recording_id)
    if table is None:
        return
    for batch in table.select(["entity_path", "kind", "provenance"]).to_batches(BATCH_ROWS):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _with_provenance(store: str | PathLike[str], recording_id: str) -> pa.Table | None:
    storage = open_storage(store).recording(recording_id)
    if not storage.exists():
        return None
    table = RecordingReader(storage, recording_id).frames_table()
    return table.filter(pc.is_valid(table["provenance"]))


def _digest(*parts: str | None) -> bytes:
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).digest()


class _Digests:
    """A set of digests in arrays: they take 16 bytes each, and processes of one machine can share them."""

    def __init__(self, digests: bytearray) -> None:
        pairs = np.frombuffer(bytes(digests), ">u8").reshape(-1, 2).astype(np.uint64)
        order = np.argsort(pairs[:, 0])
        self._high = pairs[order, 0]
        self._low = pairs[order, 1]

    def __contains__(self, digest: bytes) -> bool:
        high, low = np.frombuffer(digest, ">u8").astype(np.uint64)
        first, last = self._high.searchsorted(high, "left"), self._high.searchsorted(high, "right")
        return bool((self._low[first:last] == low).any())
