"""A segment that is being written: first its tiles, then the frames file that commits them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

import pyarrow as pa
from crc32c import crc32c

from lumatile.format.arrow_arrays import table_of
from lumatile.format.schema import FORMAT_VERSION, FRAMES
from lumatile.format.segment_names import FramesFile, new_segment_name
from lumatile.format.tile_batches import head_size
from lumatile.format.tiles_writer import TilesFile
from lumatile.settings import RecordingSettings
from lumatile.storage.recording_storage import RecordingStorage
from lumatile.storage.write_behind import WriteBehind


class Segment:
    """A segment that is being written. It ends with `commit` or `abort`; a commit that raises has aborted it."""

    def __init__(self, storage: RecordingStorage, settings: RecordingSettings, disk: WriteBehind) -> None:
        """Create the tiles file; `disk` is that of `RecordingStorage.create_tiles`. Raises OSError."""
        self.name = new_segment_name()
        self._storage = storage
        self._metadata = {
            "lumatile.format_version": str(FORMAT_VERSION),
            "lumatile.application_id": settings.application_id,
            "lumatile.recording_id": settings.recording_id,
            "lumatile.settings": json.dumps(asdict(settings)),
        }
        self.tiles = TilesFile(storage.create_tiles(self.name, disk), self._metadata)

    def commit(self, frames: pa.Table, replaces: Sequence[str] = ()) -> tuple[FramesFile, int]:
        """Make the segment durable, with `frames` as its frames rows, and return it and the size of its files in bytes.

        `replaces`: the segments that are invisible from now on. Raises OSError.
        """
        try:
            self.tiles.finish()
            metadata = self._metadata | {"lumatile.replaces": json.dumps(list(replaces))}
            content = _frames_file(frames.replace_schema_metadata(metadata))
            file = FramesFile(segment=self.name, crc32c=crc32c(content))
            self._storage.commit(file, content)
        except BaseException:
            self.abort()
            raise
        return file, self.tiles.nbytes + content.size

    def abort(self) -> None:
        """Remove what was written of the segment, as far as possible."""
        self.tiles.discard()
        self._storage.discard(self.name)


def first_use() -> None:
    """Do once in memory all that Arrow does for a segment, before there are threads.

    Arrow initialises some things at their first use, under locks. A child that is forked during that would wait for
    them forever.
    """
    head_size()
    _frames_file(table_of([], FRAMES))


def _frames_file(frames: pa.Table) -> pa.Buffer:
    stream = pa.BufferOutputStream()
    with pa.ipc.new_file(stream, frames.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(frames)
    return stream.getvalue()
