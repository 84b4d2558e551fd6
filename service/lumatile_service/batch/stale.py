"""Rows of a recording that a dataset does not have any more: which are put right, which are only counted."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Literal

from lumatile_service.batch.ledger import is_under
from lumatile_service.batch.places import SourcePlace, StoredRow, digest, stored_rows

Key = tuple[bytes, int]


@dataclass(kw_only=True)
class Stale:
    """The comparison of a recording with a dataset that has been logged into it."""

    withdrawn: set[Key] = field(default_factory=set)
    """The keys of the rows to take out."""
    gone: int = 0
    """The number of values that are not in the dataset any more, and stay."""
    errors: Sequence[tuple[str, str]] = ()
    """(URI, reason) of each error row that is the latest of its place, and whose place the dataset still has."""


class Listed:
    """The places that a job has listed of a dataset, as digests; may be used from several threads."""

    def __init__(self) -> None:
        """Begin with none."""
        self._lock = threading.Lock()
        self._digests: set[bytes] = set()

    def add(self, place: SourcePlace, *, read: bool) -> None:
        """Add the place of a call. `read`: its content could be read."""
        self.update((place.part, place.wanted) if read else (place.part, place.wanted, _unreadable(place.uri)))

    def update(self, digests: Iterable[bytes]) -> None:
        """Add what another one has `taken`."""
        with self._lock:
            self._digests.update(digests)

    def taken(self) -> set[bytes]:
        """Return what was added since the last call, and forget it."""
        with self._lock:
            taken, self._digests = self._digests, set()
        return taken

    def has(self, place: SourcePlace) -> bool:
        """Return whether the dataset has the place of a row."""
        if place.exact in self._digests or place.at_any_times in self._digests:
            return True
        return not place.times and place.part in self._digests

    def has_part(self, place: SourcePlace) -> bool:
        """Return whether the dataset has the part of a row, at these times or others."""
        return place.part in self._digests

    def may_have(self, place: SourcePlace) -> bool:
        """Return whether the file of a row could not be read, so that it may still have the row's part."""
        return _unreadable(place.uri) in self._digests


def find_stale(
    store: str | PathLike[str],
    recording_id: str,
    *,
    source: str,
    listed: Listed | None,
    unlisted: Collection[str] = (),
    prune: bool = False,
) -> Stale:
    """Compare the rows of a recording with what was listed of a dataset.

    A row is withdrawn if its part of a file is listed at other times only, or if it would hide a listed value at the
    same times, being later. `prune`: also if its part is not listed any more. Rows of other sources stay, as do those
    of files and directories that could not be read.

    `source`: the URL of the dataset. `listed`: None if nothing was stored before. `unlisted`: the URLs of directories
    that could not be listed. Raises StoreError, OSError.
    """
    stale = Stale()
    errors: dict[bytes, list[StoredRow]] = {}
    """The error rows of each place whose latest value is an error: several if it was listed several times."""
    gone: set[bytes] = set()
    slots: dict[bytes, list[Key]] = {}
    for row in stored_rows(store, recording_id):
        place = row.place
        state = "listed" if listed is None else _state(place, listed, source, unlisted)
        if state == "moved" or (state == "gone" and prune):
            stale.withdrawn.add(row.key)
        elif state == "gone" and row.error is None:
            gone.add(place.exact)
            if place.times:
                slots.setdefault(_slot(place), []).append(row.key)
        elif state == "listed" and row.error is not None:
            known = errors.get(place.exact, [])
            errors[place.exact] = [each for each in known if each.content_hash == row.content_hash] + [row]
        elif state == "listed":
            errors.pop(place.exact, None)
    stale.gone = len(gone)
    stale.errors = [(row.place.uri, row.error or "") for rows in errors.values() for row in rows]
    if slots and listed is not None:
        _hiding(store, recording_id, listed, slots)
        hiding = {key for keys in slots.values() for key in keys}
        stale.withdrawn |= hiding
        stale.gone -= len(hiding)
    return stale


def _state(
    place: SourcePlace, listed: Listed, source: str, unlisted: Collection[str]
) -> Literal["listed", "moved", "gone", "foreign"]:
    """Return what has become of the place of a row; "listed" also if its file or directory could not be read."""
    if listed.has(place):
        return "listed"
    if listed.has_part(place):
        return "moved"
    if not is_under(place.uri, source):
        return "foreign"
    unknown = listed.may_have(place) or any(is_under(place.uri, each) for each in unlisted)
    return "listed" if unknown else "gone"


def _hiding(store: str | PathLike[str], recording_id: str, listed: Listed, slots: dict[bytes, list[Key]]) -> None:
    """Leave in `slots` only the rows that are later than a listed one in the same slot."""
    seen: dict[bytes, list[Key]] = {}
    for row in stored_rows(store, recording_id):
        slot = _slot(row.place)
        if slot not in slots:
            continue
        if row.key in slots[slot]:
            if slot in seen:
                seen[slot].append(row.key)
        elif row.error is None and listed.has(row.place):
            seen[slot] = []
    slots.clear()
    slots.update(seen)


def _slot(place: SourcePlace) -> bytes:
    """Return a digest of where a value is shown: the entity, its kind and its times."""
    return digest("slot", place.entity_path, place.kind, place.times)


def _unreadable(uri: str) -> bytes:
    return digest("unreadable", uri)
