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
    """A recording of a store, as `Store.recordings` lists it."""

    application_id: str
    recording_id: str
    created: int
    """The time at which its first segment was opened, in nanoseconds since the epoch."""
    segments: int
    """The number of its committed segments."""
    nbytes: int
    """The size of their files, in bytes."""


class Store:
    """A store, opened for reading: a directory, or a prefix of a bucket, that holds recordings."""

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
        """List the recordings that have a committed segment.

        Returns:
            One entry a recording, sorted by id.

        Raises:
            StoreFormatError: A recording is of a newer format version than this package reads.
            OSError: The store cannot be read. A StoreError, where it is in a bucket.
        """
        infos = (_info(storage) for storage in self.storage.recordings())
        return sorted((info for info in infos if info is not None), key=lambda info: info.recording_id)

    def recording(self, recording_id: str | None = None) -> RecordingReader:
        """Open a recording for reading. A damaged segment is left out, with a LumatileWarning.

        Args:
            recording_id: The id of the recording; None: the only recording of the store.

        Returns:
            A reader, which shows the values that are committed now, and others after `refresh`.

        Raises:
            NotFoundError: There is no such recording; or no id is given, and there is not exactly one recording.
            InvalidValueError: The id is empty or too long for the name of a folder.
            StoreFormatError: The recording is of a newer format version than this package reads.
            OSError: The store cannot be read. A StoreError, where it is in a bucket.
        """
        if recording_id is None:
            ids = [info.recording_id for info in self.recordings()]
            if len(ids) != 1:
                raise NotFoundError(
                    f"without a recording id, {self.storage} must have one recording, not {len(ids)}: {ids}"
                )
            recording_id = ids[0]
        storage = self.storage.recording(recording_id)
        if not storage.exists():
            raise NotFoundError(f"{self.storage} has no recording {recording_id!r}")
        return RecordingReader(storage, recording_id)


def open_store(store: str | PathLike[str]) -> Store:
    """Open a store for reading.

    Args:
        store: A path, a file:// URL, or the URL of a bucket and prefix (s3://bucket/prefix).

    Returns:
        The store.

    Raises:
        StoreFormatError: There is no such directory.
        StoreError: The bucket cannot be read, or the package that reads buckets is not installed.
        InvalidValueError: The URL has another scheme.
    """
    storage = open_storage(store)
    storage.check()
    return Store(storage)


def _info(storage: RecordingStorage) -> RecordingInfo | None:
    """Return the facts of a recording, from its first readable frames file; None where none is readable."""
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
