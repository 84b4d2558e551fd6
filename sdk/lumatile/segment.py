"""One segment being written: tiles as they come, then the frames file that commits them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
from crc32c import crc32c

from lumatile.ipc_file import TilesFile, head_size
from lumatile.schema import FORMAT_VERSION, FRAMES
from lumatile.segments import FramesFile, RecordingDirectory, new_segment_name, sync_directory
from lumatile.settings import RecordingSettings
from lumatile.write_behind import WriteBehind


class Segment:
    """A segment being written. It ends with `commit` or `abort`; a commit that raises has aborted."""

    def __init__(self, directory: RecordingDirectory, settings: RecordingSettings, disk: WriteBehind) -> None:
        """Create its tiles file; `disk` as in DirectFile. Raises OSError."""
        self.name = new_segment_name()
        self._directory = directory
        self._metadata = {
            "lumatile.format_version": str(FORMAT_VERSION),
            "lumatile.application_id": settings.application_id,
            "lumatile.recording_id": settings.recording_id,
            "lumatile.settings": json.dumps(asdict(settings)),
        }
        self.tiles = TilesFile(directory.tiles_path(self.name), disk, self._metadata)

    def commit(self, frames: pa.Table, replaces: Sequence[str] = ()) -> tuple[FramesFile, int]:
        """Make the segment durable, with `frames` as its frames rows; returns it and the size of its files in bytes.

        `replaces`: segments that are invisible from now on. Raises OSError.
        """
        try:
            self.tiles.finish()
            sync_directory(self._directory.tiles)
            metadata = self._metadata | {"lumatile.replaces": json.dumps(list(replaces))}
            content = _frames_file(frames.replace_schema_metadata(metadata))
            file = self._directory.frames_file(self.name, crc32c(content))
            _write_durably(file.path, content)
        except BaseException:
            self.abort()
            raise
        return file, self.tiles.nbytes + content.size

    def abort(self) -> None:
        """Leave nothing of the segment behind, as far as the disk allows."""
        self.tiles.discard()
        with suppress(OSError):
            for path in self._directory.frames.glob(f"*{self.name}*"):
                path.unlink()
            self._directory.tiles_path(self.name).unlink()


def first_use() -> None:
    """Do in memory all that Arrow does for a segment.

    What it does once for a process it does under locks that a child, forked meanwhile, would wait for forever: so it
    is done before there are threads.
    """
    head_size()
    _frames_file(pa.Table.from_pylist([], schema=FRAMES))


def _frames_file(frames: pa.Table) -> pa.Buffer:
    stream = pa.BufferOutputStream()
    with pa.ipc.new_file(stream, frames.schema) as writer:
        writer.write_table(frames)
    return stream.getvalue()


def _write_durably(path: Path, content: pa.Buffer) -> None:
    """A file that appears whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("xb", buffering=0) as file:
        rest = memoryview(content).cast("B")
        while len(rest):
            rest = rest[file.write(rest) :]
        os.fsync(file.fileno())
    temporary.rename(path)
    sync_directory(path.parent)
