"""A store in a directory: tiles files are written past the page cache and mapped, commits are an fsync and a rename."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from lumatile.errors import SinkError, StoreError, StoreFormatError
from lumatile.format.frames_file import Frames, parse_frames
from lumatile.format.segment_names import FramesFile, frames_files, recording_directory_name, tiles_name
from lumatile.storage.direct_file import DirectFile
from lumatile.storage.durable_files import sync_directory, write_whole
from lumatile.storage.mapped_tiles import MappedTiles
from lumatile.storage.write_behind import WriteBehind


@dataclass(frozen=True, kw_only=True)
class LocalDirectory:
    """The directory of one recording, a `RecordingStorage`."""

    cheap_commits: ClassVar[bool] = True

    path: Path

    def __str__(self) -> str:
        """Return its path."""
        return str(self.path)

    @property
    def tiles(self) -> Path:
        """The directory of the tiles files."""
        return self.path / "tiles"

    @property
    def frames(self) -> Path:
        """The directory of the frames files."""
        return self.path / "frames"

    def tiles_path(self, segment: str) -> Path:
        """Return the path of the tiles file of a segment."""
        return self.tiles / tiles_name(segment)

    def frames_path(self, file: FramesFile) -> Path:
        """Return the path of the frames file of a segment."""
        return self.frames / file.name

    def exists(self) -> bool:
        """Return whether there is a recording, which may be without segments."""
        return self.frames.is_dir()

    def committed(self) -> list[FramesFile]:
        """List all segments that have a frames file."""
        try:
            names = os.listdir(self.frames)  # noqa: PTH208 - readers poll it: many times faster than making paths
        except FileNotFoundError:
            return []
        return frames_files(names)

    def settle(self) -> None:
        """Make the renames of other writers durable: they can be seen before they are."""
        sync_directory(self.frames)

    def watch(self) -> Callable[[], list[FramesFile]]:
        """Return `committed`: nothing is cheaper than listing."""
        return self.committed

    def read_frames(self, file: FramesFile) -> Frames:
        """Read and check a frames file."""
        path = self.frames_path(file)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise
        except OSError as e:
            raise StoreError(f"{path} cannot be read: {e}") from e
        return parse_frames(content, crc32c=file.crc32c, path=path)

    def open_tiles(self, segment: str) -> MappedTiles:
        """Map a tiles file."""
        return MappedTiles(self.tiles_path(segment))

    def nbytes(self, files: Iterable[FramesFile]) -> int:
        """Return the size of segments, in bytes."""
        return sum(_size(path) for file in files for path in (self.frames_path(file), self.tiles_path(file.segment)))

    def unnamed(self, files: Iterable[FramesFile]) -> list[Path | str]:
        """List the files that a writer has not finished, or has left."""
        named = {name for file in files for name in (file.name, tiles_name(file.segment))}
        found = (sorted(folder.iterdir()) for folder in (self.frames, self.tiles))
        return [path for folder in found for path in folder if path.name not in named]

    def create(self) -> None:
        """Make the directories that are missing, durably. Raises SinkError where they cannot be written."""
        rule = "the store must be a directory that can be written"
        try:
            missing = [path for path in (*reversed(self.frames.parents), self.frames, self.tiles) if not path.is_dir()]
            for path in missing:
                path.mkdir(exist_ok=True)
            # those of an earlier writer too: it may have died before they were durable
            for path in {self.path, self.path.parent, *(path.parent for path in missing)}:
                sync_directory(path)
        except OSError as e:
            raise SinkError(f"{rule}: {self.path.parent}: {e}") from e
        for path in (self.frames, self.tiles):
            if not os.access(path, os.W_OK | os.X_OK):
                raise SinkError(f"{rule}: {path}: permission denied")

    def create_tiles(self, segment: str, disk: WriteBehind) -> DirectFile:
        """Begin a tiles file."""
        return DirectFile(self.tiles_path(segment), disk)

    def commit(self, file: FramesFile, content: pa.Buffer) -> None:
        """Make the entry of the tiles file durable, then the frames file, which appears whole or not at all."""
        sync_directory(self.tiles)
        path = self.frames_path(file)
        temporary = path.with_name(f".{path.name}.tmp")
        with temporary.open("xb", buffering=0) as opened:
            write_whole(opened.fileno(), [content], 0)
            os.fsync(opened.fileno())
        temporary.rename(path)
        sync_directory(path.parent)

    def discard(self, segment: str) -> None:
        """Remove the files of a segment, as far as the disk allows, unless its frames file can be seen.

        Then others may have seen it, acknowledged its values, and deleted the segments that it replaces.
        """
        with suppress(OSError):
            if any(self.frames.glob(f"{segment}-*")):
                return
            for path in self.frames.glob(f".{segment}-*"):
                path.unlink()
            self.tiles_path(segment).unlink()

    def delete(self, files: Iterable[FramesFile]) -> None:
        """Remove segments: their frames files, in this order and durably, then their tiles files."""
        files = list(files)
        for file in files:
            self.frames_path(file).unlink(missing_ok=True)
        if files:
            sync_directory(self.frames)
        for file in files:
            self.tiles_path(file.segment).unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class LocalStore:
    """A directory of recordings, a `StoreStorage`."""

    path: Path

    def __str__(self) -> str:
        """Return its path."""
        return str(self.path)

    def check(self) -> None:
        """Raise StoreFormatError where there is no directory."""
        if not self.path.is_dir():
            raise StoreFormatError(f"a store must be a directory, and {self.path} is not")

    def count(self) -> int:
        """Return the number of directories that are recordings."""
        return len(self.recordings())

    def recordings(self) -> list[LocalDirectory]:
        """List the directories that are recordings."""
        directories = (LocalDirectory(path=path) for path in sorted(self.path.iterdir()))
        return [directory for directory in directories if directory.exists()]

    def recording(self, recording_id: str) -> LocalDirectory:
        """Return the directory of a recording."""
        return LocalDirectory(path=self.path / recording_directory_name(recording_id))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
