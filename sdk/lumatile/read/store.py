"""Opening a store."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike

from lumatile.errors import CorruptStoreError, NotFoundError
from lumatile.format.segment_names import segment_time
from lumatile.read.recording_reader import RecordingReader
from lumatile.storage.open_storage import open_storage
from lumatile.storage.recording_storage import RecordingStorage, StoreStorage


@dataclass(frozen=True, kw_only=True)
class RecordingInfo:
    """A recording of a store."""

    application_id: str
    recording_id: str
    created: int
    """When its first segment was opened, in nanoseconds since the epoch."""
    segments: int
    """Committed segments."""
    nbytes: int
    """Size of their files, in bytes."""


class Store:
    """A directory, or a prefix of a bucket, that holds recordings."""

    def __init__(self, storage: StoreStorage) -> None:
        """Read the store at `storage`, which exists."""
        self.storage = storage

    def __repr__(self) -> str:
        """Return where the store is and, for a directory, the number of its recordings."""
        try:
            count = self.storage.count()
        except OSError:
            count = None
        return f"<Store {self.storage}{'' if count is None else f' recordings={count}'}>"

    def recordings(self) -> list[RecordingInfo]:
        """All recordings that have a committed segment, by their ids.

        Raises StoreFormatError where one is of a newer format version.
        """
        infos = (_info(storage) for storage in self.storage.recordings())
        return sorted((info for info in infos if info is not None), key=lambda info: info.recording_id)

    def recording(self, recording_id: str | None = None) -> RecordingReader:
        """Read a recording; without an id: the only one there is.

        Raises NotFoundError where there is none (or not exactly one, without an id), StoreFormatError where it is of a
        newer format version. A damaged segment is left out, with a LumatileWarning.
        """
        if recording_id is None:
            ids = [info.recording_id for info in self.recordings()]
            if len(ids) != 1:
                raise NotFoundError(f"{self.storage} must have one recording for this, or name one of {ids}")
            recording_id = ids[0]
        storage = self.storage.recording(recording_id)
        if not storage.exists():
            raise NotFoundError(f"{self.storage} has no recording {recording_id!r}")
        return RecordingReader(storage, recording_id)


def open_store(store: str | PathLike[str]) -> Store:
    """Open the store at a path, a file:// URL or a bucket's URL (s3://bucket/prefix).

    Raises StoreFormatError where there is no directory, StoreError where a bucket cannot be read, InvalidValueError
    for another scheme.
    """
    storage = open_storage(store)
    storage.check()
    return Store(storage)


def _info(storage: RecordingStorage) -> RecordingInfo | None:
    """What is known of a recording without reading all of it; None where nothing of it is readable."""
    files = storage.committed()
    for file in files:
        try:
            frames = storage.read_frames(file)
        except (FileNotFoundError, CorruptStoreError):
            continue
        return RecordingInfo(
            application_id=frames.application_id,
            recording_id=frames.recording_id,
            created=segment_time(files[0].segment),
            segments=len(files),
            nbytes=storage.nbytes(files),
        )
    return None
