"""Opening a store."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike

from lumatile.errors import CorruptStoreError, NotFoundError
from lumatile.format.frames_file import read_frames_file
from lumatile.format.segment_names import segment_time
from lumatile.read.recording_reader import RecordingReader
from lumatile.storage.open_storage import open_place
from lumatile.storage.recording_storage import RecordingPlace, StorePlace


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
    """A place of recordings."""

    def __init__(self, place: StorePlace) -> None:
        """`place`: of a store that is there."""
        self.place = place

    def __repr__(self) -> str:
        """Where it is."""
        return f"<Store {self.place}>"

    def recordings(self) -> list[RecordingInfo]:
        """All recordings that have a committed segment, by their ids.

        Raises StoreFormatError where one is of a newer format version.
        """
        infos = (_info(place) for place in self.place.recordings())
        return sorted((info for info in infos if info is not None), key=lambda info: info.recording_id)

    def recording(self, recording_id: str | None = None) -> RecordingReader:
        """Read a recording; without an id: the only one there is.

        Raises NotFoundError where there is none (or not exactly one, without an id), StoreFormatError where it is of a
        newer format version. A damaged segment is left out, with a LumatileWarning.
        """
        if recording_id is None:
            ids = [info.recording_id for info in self.recordings()]
            if len(ids) != 1:
                raise NotFoundError(f"{self.place} must have one recording for this, or name one of {ids}")
            recording_id = ids[0]
        place = self.place.recording(recording_id)
        if not place.exists():
            raise NotFoundError(f"{self.place} has no recording {recording_id!r}")
        return RecordingReader(place, recording_id)


def open_store(store: str | PathLike[str]) -> Store:
    """Open the store at a path, a file:// URL or a bucket's URL (s3://bucket/prefix).

    Raises StoreFormatError where there is no directory, StoreError where a bucket cannot be read, InvalidValueError
    for another scheme.
    """
    place = open_place(store)
    place.check()
    return Store(place)


def _info(place: RecordingPlace) -> RecordingInfo | None:
    """What is known of a recording without reading all of it; None where nothing of it is readable."""
    files = place.committed()
    for file in files:
        try:
            frames = read_frames_file(file)
        except (FileNotFoundError, CorruptStoreError):
            continue
        return RecordingInfo(
            application_id=frames.application_id,
            recording_id=frames.recording_id,
            created=segment_time(files[0].segment),
            segments=len(files),
            nbytes=place.nbytes(files),
        )
    return None
