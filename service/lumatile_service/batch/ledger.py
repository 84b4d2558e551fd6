"""The ledger: which values of a dataset are in the store already, as the provenance of its frames rows says."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from os import PathLike
from typing import Literal

import numpy as np

from lumatile_service.batch.log_call import LogCall
from lumatile_service.batch.places import SourcePlace, digest, stored_rows

State = Literal["new", "stored", "moved", "changed"]


class Ledger:
    """The values of one recording that have provenance, as they were stored when the ledger was made."""

    def __init__(self, store: str | PathLike[str], recording_id: str, source: str) -> None:
        """Read the recording; if it does not exist, nothing is stored.

        `source`: the URL of the dataset. Values from other URLs are those of the same dataset before it was moved, if
        name, part, times and hash of the file are equal. Raises StoreError, OSError.
        """
        latest: dict[bytes, str | None] = {}
        parts, contents, elsewhere = bytearray(), bytearray(), bytearray()
        for row in stored_rows(store, recording_id):
            place = row.place
            latest[place.exact] = latest[place.at_any_times] = row.content_hash
            parts += place.part
            contents += digest(place.part, row.content_hash)
            if row.content_hash is not None and row.error is None and not is_under(place.uri, source):
                elsewhere += _without_source(place, row.content_hash)
        self._places = _Digests(bytearray().join(latest))
        self._latest = _Digests(bytearray().join(digest(place, value) for place, value in latest.items()))
        """The digests of each place with the hash of its latest value."""
        self._parts = _Digests(parts)
        self._contents = _Digests(contents)
        """The digests of each part with the hashes of all its values."""
        self._elsewhere = _Digests(elsewhere)
        self.empty = not parts
        """True: nothing is stored."""

    def state(self, call: LogCall, content_hash: str | None) -> State:
        """Return whether a value is stored.

        "moved": it is stored, but at other times. "changed": another value from the same place is stored, and is the
        latest one there.
        """
        place = SourcePlace.of(call)
        timeless = replace(place, times=())  # a function that logs may do it without times
        if any(digest(each, content_hash) in self._latest for each in (place.wanted, timeless.exact)):
            return "stored"
        if content_hash is not None and _without_source(place, content_hash) in self._elsewhere:
            return "stored"
        if place.part not in self._parts:
            return "new"
        moved = place.wanted not in self._places and digest(place.part, content_hash) in self._contents
        return "moved" if moved else "changed"


def content_hash(content: bytes, beside: bytes = b"") -> str:
    """Return the BLAKE2b hash (RFC 7693) of 128 bits of `content` followed by `beside`, with "blake2b:" in front."""
    hashed = hashlib.blake2b(content, digest_size=16)
    hashed.update(beside)
    return f"blake2b:{hashed.hexdigest()}"


def is_under(uri: str, source: str) -> bool:
    """Return whether a URI is that of a file of a source."""
    return uri == source or uri.startswith(source + "/")


def _without_source(place: SourcePlace, content_hash: str) -> bytes:
    name = place.uri.rpartition("/")[2]
    return digest(place.entity_path, place.kind, name, place.member, place.times, content_hash)


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
