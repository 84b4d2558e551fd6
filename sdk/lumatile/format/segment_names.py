"""The names of a recording's folder and files, the same in a directory and in a bucket."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass

from lumatile.errors import InvalidValueError

NAME_BYTES = 200
"""The longest name of a recording's folder, in bytes."""

_FRAMES_FILE = re.compile(r"([0-9a-f]{48})-([0-9a-f]{8})\.arrow")


def recording_directory_name(recording_id: str) -> str:
    """Return the name of a recording's folder: its id in UTF-8, with all bytes outside [A-Za-z0-9_-] percent-encoded.

    Raises InvalidValueError where that is empty or longer than 200 bytes.
    """
    name = re.sub(rb"[^A-Za-z0-9_-]", lambda m: b"%%%02X" % m.group()[0], recording_id.encode()).decode()
    if not 0 < len(name) <= NAME_BYTES:
        raise InvalidValueError(
            f"recording_id must take 1 to {NAME_BYTES} bytes percent-encoded, not {len(name)}: {recording_id!r:.80}"
        )
    return name


def new_segment_name() -> str:
    """Return a new unique segment name: 16 hex digits of ns since the epoch, then 128 random bits."""
    return f"{time.time_ns():016x}{secrets.token_hex(16)}"


def segment_time(segment: str) -> int:
    """Return the time at which the segment was opened, in ns since the epoch, by its writer's clock."""
    return int(segment[:16], 16)


@dataclass(frozen=True, kw_only=True)
class FramesFile:
    """A committed segment, identified by the name of its frames file."""

    segment: str
    crc32c: int
    """The CRC32C of the frames file."""

    @property
    def name(self) -> str:
        """The name of the frames file."""
        return f"{self.segment}-{self.crc32c:08x}.arrow"


def tiles_name(segment: str) -> str:
    """Return the name of the tiles file of a segment."""
    return f"{segment}.arrow"


def frames_files(names: Iterable[str]) -> list[FramesFile]:
    """Return the segments whose frames files have these names, sorted; other names are ignored."""
    matches = (_FRAMES_FILE.fullmatch(name) for name in sorted(names))
    return [FramesFile(segment=m[1], crc32c=int(m[2], 16)) for m in matches if m is not None]
