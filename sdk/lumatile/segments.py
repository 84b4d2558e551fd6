"""Where a recording's files lie in a store, and what they are called."""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lumatile.errors import InvalidValueError

NAME_BYTES = 200
"""Longest name of a recording's directory."""

_FRAMES_FILE = re.compile(r"([0-9a-f]{48})-([0-9a-f]{8})\.arrow")


def recording_directory_name(recording_id: str) -> str:
    """The directory of a recording: its id, all bytes outside [A-Za-z0-9_-] percent-encoded (UTF-8).

    Raises InvalidValueError where that is longer than 200 bytes.
    """
    name = re.sub(rb"[^A-Za-z0-9_-]", lambda m: b"%%%02X" % m.group()[0], recording_id.encode()).decode()
    if not 0 < len(name) <= NAME_BYTES:
        raise InvalidValueError(
            f"recording_id must take 1 to {NAME_BYTES} bytes percent-encoded, not {len(name)}: {recording_id!r:.80}"
        )
    return name


def new_segment_name() -> str:
    """A segment name nobody else has: 16 hex digits of ns since the epoch, then 128 random bits."""
    return f"{time.time_ns():016x}{secrets.token_hex(16)}"


def segment_time(segment: str) -> int:
    """When the segment was opened, in ns since the epoch, by its writer's clock."""
    return int(segment[:16], 16)


@dataclass(frozen=True, kw_only=True)
class FramesFile:
    """A committed segment, as its frames file's name tells it."""

    segment: str
    crc32c: int
    """Of the frames file."""
    directory: Path

    @property
    def path(self) -> Path:
        """The frames file."""
        return self.directory / f"{self.segment}-{self.crc32c:08x}.arrow"


@dataclass(frozen=True, kw_only=True)
class RecordingDirectory:
    """One recording's directory."""

    path: Path

    @property
    def tiles(self) -> Path:
        """The directory of the tiles files."""
        return self.path / "tiles"

    @property
    def frames(self) -> Path:
        """The directory of the frames files."""
        return self.path / "frames"

    def tiles_path(self, segment: str) -> Path:
        """The tiles file of a segment."""
        return self.tiles / f"{segment}.arrow"

    def frames_file(self, segment: str, crc32c: int) -> FramesFile:
        """The frames file of a segment."""
        return FramesFile(segment=segment, crc32c=crc32c, directory=self.frames)

    def committed(self) -> list[FramesFile]:
        """All segments that have a frames file, in the order of their names; other files there are ignored."""
        try:
            names = os.listdir(self.frames)  # noqa: PTH208 - readers poll it: many times faster than making paths
        except FileNotFoundError:
            return []
        folder = self.frames
        matches = (_FRAMES_FILE.fullmatch(name) for name in sorted(names))
        return [FramesFile(segment=m[1], crc32c=int(m[2], 16), directory=folder) for m in matches if m is not None]

    def create(self) -> None:
        """Make the directories that are missing, durably. Raises OSError."""
        missing = [path for path in (*reversed(self.frames.parents), self.frames, self.tiles) if not path.is_dir()]
        for path in missing:
            path.mkdir(exist_ok=True)
        # those of an earlier writer too: it may have died before it made them durable
        for path in {self.path, self.path.parent, *(path.parent for path in missing)}:
            sync_directory(path)

    def delete(self, files: Iterable[FramesFile]) -> None:
        """Remove segments: their frames files, in this order and durably, then their tiles files. Raises OSError."""
        files = list(files)
        for file in files:
            file.path.unlink(missing_ok=True)
        if files:
            sync_directory(self.frames)
        for file in files:
            self.tiles_path(file.segment).unlink(missing_ok=True)


def sync_directory(path: Path) -> None:
    """Make the entries of a directory durable."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
