"""Opening a store."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from urllib.parse import unquote, urlsplit

from lumatile.errors import InvalidValueError, NotFoundError, StoreError, StoreFormatError
from lumatile.frames_file import read_frames_file
from lumatile.recording_reader import RecordingReader
from lumatile.segments import RecordingDirectory, recording_directory_name, segment_time


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
    """A directory of recordings."""

    def __init__(self, path: Path) -> None:
        """`path`: an existing directory."""
        self.path = path

    def __repr__(self) -> str:
        """Where it is."""
        return f"<Store {self.path}>"

    def recordings(self) -> list[RecordingInfo]:
        """All recordings that have a committed segment, by their ids.

        Raises StoreFormatError where one is of a newer format version.
        """
        directories = [path for path in self.path.iterdir() if path.is_dir()]
        infos = (_info(RecordingDirectory(path=path)) for path in directories)
        return sorted((info for info in infos if info is not None), key=lambda info: info.recording_id)

    def recording(self, recording_id: str | None = None) -> RecordingReader:
        """Read a recording; without an id: the only one there is.

        Raises NotFoundError where there is none (or not exactly one, without an id), StoreFormatError where it is of a
        newer format version. A damaged segment is left out, with a LumatileWarning.
        """
        if recording_id is None:
            ids = [info.recording_id for info in self.recordings()]
            if len(ids) != 1:
                raise NotFoundError(f"{self.path} must have one recording for this, or name one of {ids}")
            recording_id = ids[0]
        directory = RecordingDirectory(path=self.path / recording_directory_name(recording_id))
        if not directory.frames.is_dir():
            raise NotFoundError(f"{self.path} has no recording {recording_id!r}")
        return RecordingReader(directory, recording_id)


def open_store(store: str | PathLike[str]) -> Store:
    """Open the store at a path or file:// URL.

    Raises StoreFormatError where there is no directory, InvalidValueError for another scheme.
    """
    text = fspath(store)
    if text.lower().startswith("file://"):
        text = unquote(urlsplit(text).path)
    elif "://" in text:
        raise InvalidValueError(f"a store must be a path or a file:// URL in this version, not {text!r}")
    path = Path(text)
    if not path.is_dir():
        raise StoreFormatError(f"a store must be a directory, and {path} is none")
    return Store(path)


def _info(directory: RecordingDirectory) -> RecordingInfo | None:
    """What is known of a recording without reading all of it; None where nothing of it is readable."""
    files = directory.committed()
    for file in files:
        try:
            frames = read_frames_file(file)
        except StoreFormatError:
            raise
        except (FileNotFoundError, StoreError):
            continue
        return RecordingInfo(
            application_id=frames.application_id,
            recording_id=frames.recording_id,
            created=segment_time(files[0].segment),
            segments=len(files),
            nbytes=sum(_size(path) for file in files for path in (file.path, directory.tiles_path(file.segment))),
        )
    return None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
